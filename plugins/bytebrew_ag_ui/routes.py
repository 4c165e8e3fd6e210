"""The routes of AG-UI: runs, and the stream of a run again."""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Literal
from urllib.parse import quote, urlencode

from msgspec import to_builtins
from msgspec.structs import replace

from bytebrew import (
    CONVERSATIONS,
    KEEP_ALIVE,
    Conversations,
    Detail,
    EngineError,
    Face,
    FaceTurn,
    InvalidRequest,
    MessageRestarted,
    NewChat,
    NotFound,
    Parameter,
    Reply,
    Request,
    Route,
    Stream,
)

from .cursors import LAST, START, CursorText, cursor_text, read_cursor
from .kept import MOST_EARLIER, Kept, SystemMessage, kept_of
from .resuming import (
    RunRefused,
    check_covered,
    decision,
    finish,
    interrupted,
    is_form,
    question_of,
    results,
    waited,
)
from .run import NAME, VERSION, Run, frame
from .run_input import ClientMessage, ResumeEntry, RunInput, attachments
from .threads import new_message, newest_known, place, run_key, seen, session_of, unsent_messages

RUNS = "/ag-ui/{schema}"
AGAIN = "/ag-ui/{schema}/threads/{thread_id}/runs/{run_id}"


def _error(code: str, message: str, details: Sequence[Detail] = ()) -> dict[str, Any]:
    error: dict[str, Any] = {"type": "RUN_ERROR", "message": message, "code": code}
    return error | ({"metadata": {NAME: {"details": to_builtins(details)}}} if details else {})


def _refusal(error: EngineError) -> Reply:
    return Reply(status=error.status, body=_error(error.code, error.message, error.details))


FACE = Face(name="AG-UI", refusal=_refusal, ending=lambda error: frame(_error(error.code, error.message)))


async def start(request: Request[RunInput]) -> Stream:
    """Runs an agent: answers the client's new messages, or goes on with a turn that has waited for the client."""
    try:
        return await _Started(request).stream()
    except RunRefused as refused:
        return _run_of(request.body, _error(refused.code, str(refused)))
    except EngineError as error:
        error.details = tuple(Detail(_path(one.path), one.message) for one in error.details)
        raise


def _path(path: str) -> str:
    """The path of a fault in the client's body, from one in that of the engine's own chat."""
    for own, theirs in (("$.message.form", "$.resume[0].payload"), ("$.client_tools", "$.tools")):
        if path.startswith(own):
            return theirs + path.removeprefix(own).replace("].input_schema", "].parameters")
    return path


class _Started:
    """A request that starts a run."""

    def __init__(self, request: Request[RunInput]) -> None:
        self._request, self._body, self._schema = request, request.body, request.path["schema"]
        self._chats: Conversations = request.engine.state[CONVERSATIONS]
        self._at = new_message(self._body.messages)
        self._message = self._body.messages[self._at] if self._at is not None else None

    async def stream(self) -> Stream:
        """The run's stream."""
        key = run_key(self._body.thread_id, self._body.run_id)
        for turn in await self._chats.find(self._request, self._schema, [key]):
            if (kept := kept_of(turn)) and self._repeats(kept):
                return self._shown(turn, kept)
        if self._body.resume:
            return await self._resumed(self._body.resume)
        if self._message is not None:
            return await self._send_message()
        return await self._continued()

    def _repeats(self, kept: Kept) -> bool:
        if kept.form:
            return any(entry.interrupt_id == kept.form for entry in self._body.resume or ())
        return self._message is not None and self._message.id == kept.message

    async def _send_message(self, on_busy: Literal["queue", "steer"] = "queue") -> Stream:
        """Sends the new message to the thread's agent."""
        body, chats, request = self._body, self._chats, self._request
        assert self._at is not None and self._message is not None
        earlier = body.messages[: self._at]
        busy: Literal["queue", "interrupt", "steer"] = on_busy
        where = await place(chats, request, self._schema, body.thread_id, earlier)
        unsent = [] if where.history else unsent_messages(earlier, where.newest)
        if where.newest is not None and where.newest.last is None:
            kept = kept_of(where.newest)
            if kept and kept.message == self._message.id:  # sent again, as the stream broke off before an answer
                return self._shown(where.newest, kept)
            busy = await self._cleared(where.newest, on_busy)
        files = [one for n, message in self._numbered([*unsent, self._message]) for one in attachments(message, n)]
        new = NewChat(
            schema=self._schema,
            message="\n\n".join(filter(None, (one.text for one in (*unsent, self._message)))),
            attachments=tuple(files),
            session_id=where.session_id,
            fork_after=where.fork_after,
            history=where.history,
            on_busy=busy,
        )
        return await self._begun(new, message=self._message.id)

    def _numbered(self, messages: Sequence[ClientMessage]) -> Iterator[tuple[str, ClientMessage]]:
        wanted = {id(one) for one in messages}
        for n, one in enumerate(self._body.messages):
            if id(one) in wanted:
                yield f"$.messages[{n}]", one

    async def _begun(self, new: NewChat, *, message: str = "", form: str = "") -> Stream:
        body = self._body
        system = [one for one in body.messages if one.role in ("system", "developer")]
        earlier = [one.id for one in body.messages if one.role not in ("activity", "reasoning")]
        if message:
            earlier = earlier[: earlier.index(message)]
        kept = Kept(
            thread=body.thread_id,
            version=body.protocol_version or "",
            earlier=tuple(earlier) if len(earlier) <= MOST_EARLIER else (),
            message=message,
            form=form,
            tools=tuple(one.name for one in body.tools or ()),
            system=tuple(SystemMessage(id=one.id, role=one.role, content=one.text) for one in system),
        )
        new = replace(
            new,
            instructions=body.instructions(),
            client_tools=body.client_tools(),
            key=run_key(body.thread_id, body.run_id),
            kept=to_builtins(kept),
        )
        return self._shown(await self._chats.begin(self._request, new), kept)

    async def _cleared(
        self, turn: FaceTurn, on_busy: Literal["queue", "steer"]
    ) -> Literal["queue", "interrupt", "steer"]:
        """How a message reaches a session whose turn runs: it takes the place of one that waits for the client."""
        calls = await self._chats.open_calls(self._request, turn.session_id)
        check_covered((), calls, turn.id)
        waiting = {one.call_id for one in calls if one.kind == "client_tool"}
        if not waiting:
            return on_busy
        found = {call: one for call, one in results(self._body.messages).items() if call in waiting}
        await finish(self._chats, self._request, turn.session_id, found.items())
        return "steer" if found.keys() >= waiting else "interrupt"

    async def _resumed(self, entries: Sequence[ResumeEntry]) -> Stream:
        """Goes on behind interrupts."""
        chats, request = self._chats, self._request
        turn = await interrupted(chats, request, self._schema, self._body.thread_id, entries)
        kept = self._of_thread(turn)
        if is_form(entries[0]):
            return await self._form(turn, entries)
        calls = await chats.open_calls(request, turn.session_id)
        check_covered(entries, calls, turn.id)
        decided = {question_of(entry): decision(entry) for entry in entries}
        known = await waited(turn, kept, decided)
        if not known.behind:
            raise RunRefused("unknown_interrupt", f"Thread '{self._body.thread_id}' has no such interrupts")
        found = known.results(self._body.messages)
        pending = {one.confirmation_id for one in calls}
        for entry in entries:
            id, one = question_of(entry), decided[question_of(entry)]
            if id in pending or entry.status != "cancelled":  # what is over already can be dismissed
                more: dict[str, Any] = {"reason": one.reason, "input": one.edited_args}
                await chats.answer(request, turn.session_id, id, approve=one.approved, **more)
        await finish(chats, request, turn.session_id, found.items())
        if self._message is not None and self._message.id != kept.message:
            return await self._send_message("steer")
        return self._shown(turn, kept, known.behind, [*decided, *found])

    async def _form(self, turn: FaceTurn, entries: Sequence[ResumeEntry]) -> Stream:
        entry = entries[0]
        if len(entries) > 1 or not turn.newest:
            raise RunRefused("unknown_interrupt", "The conversation has gone on behind this form")
        if entry.status == "resolved":
            if not isinstance(entry.payload, dict):
                raise RunRefused("invalid_payload", "Send the answers as an object, by the names in responseSchema")
            new = NewChat(schema=self._schema, form=entry.payload, session_id=turn.session_id)
            return await self._begun(new, form=entry.interrupt_id)
        if self._message is not None:
            return await self._send_message()
        ids = {"threadId": self._body.thread_id, "runId": self._body.run_id}
        return _run_of(self._body, {"type": "RUN_FINISHED", **ids, "outcome": {"type": "success"}})

    async def _continued(self) -> Stream:
        """Goes on behind results of the client's tools, or shows the rest of an answer that the client has in part."""
        body, chats, request = self._body, self._chats, self._request
        turn = await newest_known(chats, request, self._schema, body.messages)
        turn = turn or await chats.newest(request, session_of(request, self._schema, body.thread_id))
        if turn is None or turn.schema != self._schema:
            raise _nothing_new()
        kept, found = self._of_thread(turn), results(body.messages)
        known = await waited(turn, kept, found)
        if found and known.behind:
            check_covered((), await chats.open_calls(request, turn.session_id), turn.id)
            await finish(chats, request, turn.session_id, found.items())
            return self._shown(turn, kept, known.behind, [*found])
        cursor = seen(body.messages, turn.id)
        if cursor is None or (turn.last is not None and cursor >= (turn.last, LAST)):
            raise _nothing_new()
        return self._shown(turn, kept, cursor)

    def _of_thread(self, turn: FaceTurn) -> Kept:
        kept = kept_of(turn)
        if kept is None or kept.thread != self._body.thread_id:
            raise RunRefused("unknown_thread", f"Thread '{self._body.thread_id}' does not have these messages")
        return kept

    def _shown(
        self, turn: FaceTurn, kept: Kept, behind: tuple[int, ...] = START, answers: Sequence[str] = ()
    ) -> Stream:
        self._request.free_place()
        return shown(turn, kept, self._schema, self._body.run_id, behind=behind, answers=answers)


def shown(
    turn: FaceTurn,
    kept: Kept,
    schema: str,
    run_id: str,
    *,
    behind: tuple[int, ...] = START,
    answers: Sequence[str] = (),
    after: tuple[int, ...] = (),
) -> Stream:
    """The stream of a run, which says in its first event by which URL it is read again."""
    query = {"turn": turn.id} | ({"behind": cursor_text(behind)} if behind != START else {})
    query |= {"answers": ",".join(answers)} if answers else {}
    names = {"schema": schema, "thread_id": kept.thread, "run_id": run_id}
    path = AGAIN.format(**{name: quote(text, safe="") for name, text in names.items()})
    more = {"resume": f"{path}?{urlencode(query)}"}
    run = Run(turn, kept, run_id, behind=behind, answers=answers, after=after, more=more)
    return Stream(frames=_frames(turn, run), headers={"x-session-id": turn.session_id, "x-turn-id": turn.id})


async def _frames(turn: FaceTurn, run: Run) -> AsyncGenerator[bytes, None]:
    if begun := run.begin():
        yield begun
    async with aclosing(turn.events()) as batches:
        async for batch in batches:
            if run.before is None and any(isinstance(one.event, MessageRestarted) for one in batch):
                before = await turn.before()
                run.before = None if before is None else tuple(before)
            made = []
            for one in batch:
                made.append(run.frames(one))
                if run.ended:
                    break
            if chunk := b"".join(made) or (b"" if batch else KEEP_ALIVE):
                yield chunk
            if run.ended:
                return


async def again(request: Request[None]) -> Stream:
    """The stream of a run again, behind a cursor."""
    chats, path, query = request.engine.state[CONVERSATIONS], request.path, request.query
    thread, run_id = path["thread_id"], path["run_id"]
    behind, after = _cursor(query, "behind") or START, _cursor(query, "after")
    turns = [await chats.turn(request, query["turn"])] if "turn" in query else None
    for turn in turns or await chats.find(request, path["schema"], [run_key(thread, run_id)]):
        kept = kept_of(turn)
        if kept and kept.thread.lower() == thread.lower() and turn.schema == path["schema"]:
            answers = [one for one in query.get("answers", "").split(",") if one]
            return shown(turn, kept, path["schema"], run_id, behind=behind, answers=answers, after=after)
    raise NotFound(f"There is no run '{run_id[:255]}' of the thread")


def _cursor(query: Mapping[str, str], name: str) -> tuple[int, ...]:
    """A cursor of the query, empty if there is none."""
    at = read_cursor(query[name]) if name in query else ()
    if at is None:
        words = "send a cursor as the metadata of an event has it, such as 17"
        raise InvalidRequest(f"{name}: {words}", details=[Detail(f"$.{name}", words)])
    return at


def _run_of(body: RunInput, end: dict[str, Any]) -> Stream:
    """A run without a turn, which ends as it begins."""
    started = {"type": "RUN_STARTED", "threadId": body.thread_id, "runId": body.run_id, "protocolVersion": VERSION}
    return Stream(frames=_once(frame(started) + frame(end)))


async def _once(frames: bytes) -> AsyncGenerator[bytes, None]:
    yield frames


def _nothing_new() -> InvalidRequest:
    words = "the last message is not new: send one of the user, or the results of the tools that the agent has called"
    return InvalidRequest(f"messages: {words}", details=[Detail("$.messages", words)])


ROUTES = (
    Route(
        "POST",
        RUNS,
        "chat",
        start,
        "Run an agent over AG-UI",
        body=RunInput,
        example={
            "threadId": "thread-1",
            "runId": "run-1",
            "messages": [{"id": "message-1", "role": "user", "content": "What laptops do you have under $1000?"}],
        },
        upload=True,
        idempotent=True,
        begins_turn=True,
        streams=True,
        face=FACE,
    ),
    Route(
        "GET",
        AGAIN,
        "chat",
        again,
        "Read a run again over AG-UI",
        query={
            "after": Parameter(
                "the cursor of the last event that the client has; without it from the beginning", CursorText
            ),
            "turn": "the turn of the run, as the URL in RUN_STARTED has it",
            "behind": Parameter("where in the turn the run begins, as the URL in RUN_STARTED has it", CursorText),
            "answers": "what the run's request has answered, as the URL in RUN_STARTED has it",
        },
        streams=True,
        face=FACE,
    ),
)
