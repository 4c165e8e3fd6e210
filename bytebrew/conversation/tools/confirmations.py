"""Confirmations: asks a person about a tool call, and waits for the answer."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

import anyio
from msgspec import UNSET
from msgspec.structs import replace

from bytebrew.base.errors import Conflict, Detail, Gone, InvalidRequest, NotFound, Stale, Unprocessable
from bytebrew.base.formats import new_id, now, parse_time, rfc3339
from bytebrew.base.json_schema import form_fields
from bytebrew.base.visible_text import restore_exact
from bytebrew.contract.auth import Actor
from bytebrew.contract.connection import Connection
from bytebrew.contract.events import ConfirmationAsked
from bytebrew.contract.messages import ToolCall
from bytebrew.contract.route import Record, unrecorded
from bytebrew.contract.tool import Question, Tool
from bytebrew.conversation.tools import client_tools
from bytebrew.conversation.tools.running_call import RunningCall
from bytebrew.conversation.turn import Turn
from bytebrew.nodes.signals import Ids, SignalCentre
from bytebrew.store import confirmations
from bytebrew.store.confirmations import Confirmation, Kind, Verdict
from bytebrew.store.database.database import Database

OVER = ("expired", "cancelled")
_YES = frozenset({"approve", "approved", "yes", "ok", "confirm"})
_ELICITED: Mapping[str, Verdict] = {
    **dict.fromkeys((*_YES, "accept", "submit", "continue"), "approve"),
    **dict.fromkeys(("cancel", "dismiss"), "cancel"),
}
_OUTCOMES: dict[str, Verdict] = {"retry": "retry", "mark_done": "mark_done", "fail": "fail"}


def verdict(kind: Kind, word: str) -> Verdict:
    """The verdict of an answer; anything but a known yes is a no."""
    word = word.strip().lower()
    if kind == "unknown_outcome":
        return _OUTCOMES.get(word, "fail")
    if kind == "elicitation":
        return _ELICITED.get(word, "reject")
    return "approve" if word in _YES else "reject"


class Confirmations:
    """The questions that wait for an answer, each for at most `ttl` seconds unless that is 0."""

    def __init__(self, db: Database, ttl: float, signals: SignalCentre) -> None:
        self._db = db
        self._ttl = ttl or inf
        self._signals = signals
        self._events: dict[str, anyio.Event] = {}  # by question id; set once it is answered
        signals.on("answers", self._answered_elsewhere)

    def question(self, turn: Turn, call: ToolCall, kind: Kind, tool: Tool | None) -> Confirmation:
        """A question about a tool call, neither stored nor announced yet."""
        source = "" if tool is None else tool.source
        return Confirmation(
            id=new_id("conf"),
            session_id=turn.root.session_id,
            turn_id=turn.id,
            call_id=call.call_id,
            kind=kind,
            agent=turn.agent.name,
            source=source,
            tool=call.tool,
            risk="caution" if tool is None else tool.risk,
            input=call.input,
            args_digest=confirmations.digest(source, call.tool, call.input),
            status="pending",
            verdict=None,
            edited=None,
            reason="",
            answered_by=None,
            answered_at=None,
            created_at=now(),
            expires_at=rfc3339(datetime.now(UTC) + timedelta(seconds=self._ttl)) if self._ttl < inf else None,
            input_schema=None if tool is None else tool.input_schema,
        )

    def elicitation(self, turn: Turn, running: RunningCall, call_id: str, about: Question) -> Confirmation:
        """A question of a tool call's source, neither stored nor announced yet."""
        called = ToolCall(running.name, {"message": about.message}, call_id)
        if about.url:
            called = replace(called, input={**called.input, "url": about.url, "host": about.host})
        made = self.question(turn, called, "elicitation", running.tool)
        whole = {**called.input, "fields": about.fields}
        digest = confirmations.digest(made.source, made.tool, whole)
        return replace(made, args_digest=digest, input_schema=about.fields)

    def announce(self, turn: Turn, question: Confirmation) -> None:
        """Appends a question to the journals of the turn and of its root; store it before the next await."""
        kind = question.kind
        if kind == "client_tool":
            client_tools.announce(turn, question)
            return
        question = confirmations.shown(question)
        turn.append(
            ConfirmationAsked(
                session_id=question.session_id,
                turn_id=turn.root.id,
                confirmation_id=question.id,
                call_id=question.call_id,
                source=question.source,
                tool=question.tool,
                risk=question.risk,
                input=question.input,
                args_digest=question.args_digest,
                kind=kind,
                expires_at=question.expires_at,
                input_schema=question.input_schema if kind == "elicitation" and question.input_schema else UNSET,
            )
        )

    async def answered(self, turn: Turn, question: Confirmation) -> Confirmation:
        """Waits until the question is answered or has expired; the turn's time limit pauses meanwhile.

        The monotonic clock limits the wait, because the wall clock may be set.
        """
        event = self._events.setdefault(question.id, anyio.Event())  # before the first read, to miss no answer
        until = anyio.current_time() + min(_seconds_until(question.expires_at), self._ttl)
        turn.wait_for(question.id)
        try:
            while True:
                stored = await self._db.read(confirmations.find, question.id)
                if stored is None:
                    raise NotFound("The question was deleted with its session")
                if stored.status != "pending":
                    return stored
                with anyio.CancelScope(deadline=until) as limit:
                    await event.wait()
                    event = self._events[question.id] = anyio.Event()
                if limit.cancelled_caught:
                    await self._db.write(confirmations.expire, question.id)
        finally:
            turn.wait_no_more(question.id)
            self._events.pop(question.id, None)

    async def _answered_elsewhere(self, ids: Ids) -> None:
        """Wakes who waits for questions that other nodes have taken the answers to."""
        waiting = [one for one in self._events if ids is None or one in ids]
        if waiting:
            for one in await self._db.read(confirmations.closed, waiting):
                if event := self._events.get(one):
                    event.set()

    async def answer(
        self,
        actor: Actor,
        keys: tuple[str, ...],
        answers: tuple[str, ...],
        *,
        session_id: str | None = None,
        input: dict[str, Any] | None = None,
        reason: str = "",
        digest: str = "",
        record: Record = unrecorded,
    ) -> Confirmation:
        """Answers the question that all keys identify: by its id, or within a session by the id of its call.

        `answers` are the verdict and an optional reason. `digest` is the digest of what the person was shown; Stale if
        the question has another. A text in `input` that is sent back as it was shown, with marks for invisible
        characters, stays as it is stored. Repeating an answer has the same result. Raises Conflict for a different
        answer and for an ambiguous call id, Gone once the question is closed, and NotFound otherwise, including for a
        token of other schemas.
        """
        question = await self._named(actor, keys, session_id, of_client=False)
        if digest not in ("", question.args_digest):
            shown = confirmations.shown(question)
            raise Stale("The question is about another call than the one that was shown", shown)
        wanted = verdict(question.kind, answers[0])
        if question.kind == "elicitation":
            input = _content(question, wanted, input)
        else:
            input = restore_exact(input, question.input)
        if input is not None and wanted != "approve":
            details = [Detail("$.input", "only an approval takes edited arguments")]
            raise InvalidRequest("Only an approval takes edited arguments", details=details)
        reason = reason or (answers[1] if len(answers) > 1 else "")

        def store(conn: Connection) -> Confirmation | None:
            confirmations.answer(conn, question.id, wanted, input, reason, actor.subject)
            stored = confirmations.find(conn, question.id)
            if stored is not None and stored.status not in OVER and (stored.verdict, stored.edited) == (wanted, input):
                record(conn, stored)
            return stored

        stored = await self._stored(question, store)
        if (stored.verdict, stored.edited) != (wanted, input):
            message = f"The question '{question.id}' was answered with {stored.verdict}"
            raise Conflict(message, code="already_answered")
        return stored

    async def finish_call(
        self,
        actor: Actor,
        keys: tuple[str, ...],
        session_id: str,
        result: str,
        *,
        has_error: bool,
        record: Callable[[Connection, Confirmation], None],
    ) -> Confirmation:
        """Takes the result of a call that the client runs; its turn goes on.

        The same result again has the same answer. Raises Conflict for another one, and otherwise as `answer` does.
        """
        question = await self._named(actor, keys, session_id, of_client=True)
        same = False

        def store(conn: Connection) -> Confirmation | None:
            nonlocal same
            confirmations.give_result(conn, question.id, result, has_error, actor.subject)
            stored = confirmations.find(conn, question.id)
            if stored is not None and stored.status not in OVER:
                same = confirmations.result(conn, question.id) == result and (stored.verdict == "fail") == has_error
                if same:
                    record(conn, stored)
            return stored

        stored = await self._stored(question, store)
        if not same:
            raise Conflict(f"The call '{question.call_id}' has another result already", code="already_answered")
        return stored

    async def _stored(self, question: Confirmation, store: Callable[[Connection], Confirmation | None]) -> Confirmation:
        """The question once its answer is stored, which the turn that waits reads; Gone if nobody waits any more."""
        stored = await self._db.write(store)
        if question.id in self._events:  # after the commit
            self._events[question.id].set()
        self._signals.send("answers", question.id)
        if stored is None or stored.status in OVER:
            what = f"call '{question.call_id}'" if question.kind == "client_tool" else f"question '{question.id}'"
            raise Gone(f"The {what} is over: nobody waits for its answer")
        return stored

    async def _named(
        self, actor: Actor, keys: tuple[str, ...], session_id: str | None, *, of_client: bool
    ) -> Confirmation:
        """The question that all keys identify: to the client, or to a person.

        Unprocessable for one of the other kind.
        """
        question = await self._find(actor, keys[0], session_id, of_client=of_client)
        if other := next((key for key in keys if key not in (question.id, question.call_id)), None):
            raise Conflict(f"'{keys[0][:255]}' and '{other[:255]}' do not name the same question")
        if of_client == (question.kind == "client_tool"):
            return question
        if of_client:
            details = [Detail("$.result", "a person answers this question: send answers")]
            raise Unprocessable(
                f"The call '{question.call_id}' waits for an approval, not for a result", details=details
            )
        details = [Detail("$.answers", "the client runs this tool: send its result")]
        raise Unprocessable(f"The call '{question.call_id}' waits for its result, not for an approval", details=details)

    async def _find(self, actor: Actor, key: str, session_id: str | None, *, of_client: bool) -> Confirmation:
        """The question with this id, or about the call with it; a call id that several turns use is ambiguous."""
        if question := await self._db.read(confirmations.find, key, session_id, actor.schemas):
            return question
        about: list[Confirmation] = []
        if session_id is not None:
            about = await self._db.read(confirmations.about, key, session_id, actor.schemas)
        if not about:
            raise NotFound(f"There is no question '{key[:255]}'")
        about = [one for one in about if (one.kind == "client_tool") == of_client] or about  # both are about one call
        pending = [question for question in about if question.status == "pending"]
        if len(pending) > 1 or len({question.turn_id for question in about}) > 1:
            ids = ", ".join(question.id for question in pending or about[-1:])
            raise Conflict(
                f"Several questions are about a call '{key[:255]}'; answer by confirmation_id, such as {ids}"
            )
        return (pending or about)[-1]


def _content(question: Confirmation, wanted: Verdict, input: dict[str, Any] | None) -> dict[str, Any] | None:
    """The content of the answer to an elicitation, with what its fields have from the start; Unprocessable if unfit."""
    if wanted != "approve" or (question.input_schema is None and not input):
        return input or None
    fields = question.input_schema or {}
    content = form_fields.defaults(fields) if input is None else input
    if faults := form_fields.faults(fields, content, "$.input"):
        message = "; ".join(f"{fault.path.removeprefix('$.input.')} {fault.message}" for fault in faults)
        raise Unprocessable(f"The answer does not fit its form: {message[:500]}", details=faults)
    return content


def _seconds_until(moment: str | None) -> float:
    return inf if moment is None else (parse_time(moment) - datetime.now(UTC)).total_seconds()
