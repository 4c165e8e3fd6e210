"""The stream of a tool call: a turn's events as progress, questions, and at last the response."""

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from typing import Any, NamedTuple

import msgspec

from bytebrew import CONVERSATIONS, EngineError, FaceTurn, Request, TurnEvent, project

from .messages import Id, error_message, frame, result_message, rpc_error
from .outcome import Outcome, accepts, content_of, elicitation, tool_result, verdict
from .revisions import Client

RETRY_MS = 3000
"""Wait of a client before it resumes a stream: an engine that was killed is back by then, and clients try twice."""
_RELATED = "io.modelcontextprotocol/related-task"


class RpcRequest(NamedTuple):
    """A request that is answered by a turn: its id and its progress token, if it has one.

    `may_ask` if the caller can be asked for approvals, `is_task` if it is about a task.
    """

    id: Id
    progress: Id | None
    may_ask: bool
    is_task: bool = False

    def cursor(self, turn_id: str) -> str:
        """The event ids of its stream, without their number."""
        return f"{turn_id}.{base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip('=')}"


def read_cursor(text: str) -> tuple[str, RpcRequest, int] | None:
    """The turn, the request and the number in an event id; None if it is none of ours."""
    try:
        turn_id, packed, number = text.split(".")
        rpc = msgspec.json.decode(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)), type=RpcRequest)
        return turn_id, rpc, int(number)
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        return None


class CallProjection:
    """The frames of a turn in answer to a request; see `bytebrew.Projection`.

    In 2026-07-28 the response comes where the turn waits for the person, and the client sends the request again with
    the answer; before, the server asks within the stream. `answered` are questions that have their answers.
    """

    def __init__(self, turn: FaceTurn, client: Client, rpc: RpcRequest, answered: Collection[str] = ()) -> None:
        self.ended = False
        self.response: dict[str, Any] = {}
        self._turn, self._client, self._rpc, self._answered = turn, client, rpc, answered
        self._outcome = Outcome()
        self._cursor = "" if client.is_modern else rpc.cursor(turn.id)

    @property
    def has_end(self) -> bool:
        """Whether the turn itself has ended."""
        return self._outcome.end is not None

    def frames(self, event: TurnEvent) -> bytes:
        """The frames of the next event; the last of them has the event's number in its id."""
        before = len(self._outcome.questions)
        report = self._outcome.take(event)
        messages: list[dict[str, Any]] = []
        if report and self._rpc.progress is not None:
            params = {"progressToken": self._rpc.progress, "progress": self._outcome.count, "message": report}
            messages.append({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
        asks = self._rpc.may_ask
        if asks and not self._client.is_modern and len(self._outcome.questions) > before:
            messages.append(self._question())
        if (result := self._result(event, asks)) is not None:
            self.ended = True
            self.response = result_message(self._rpc.id, result)
            messages.append(self.response)
        *first, last = messages or [{}]
        cursor = f"{self._cursor}.{event.number}" if self._cursor else ""
        return b"".join(map(frame, first)) + frame(last, cursor) if last else b""

    def _question(self) -> dict[str, Any]:
        """The newest question as a request of the server, whose id is all that its answer needs."""
        id, question = list(self._outcome.questions.items())[-1]
        asked = elicitation(question)
        if self._rpc.is_task:
            asked["params"]["_meta"] = {_RELATED: {"taskId": self._turn.id}}
        return {"jsonrpc": "2.0", "id": f"{self._turn.session_id}/{id}", **asked}

    def _result(self, event: TurnEvent, asks: bool) -> dict[str, Any] | None:
        turn, client, outcome = self._turn, self._client, self._outcome
        if outcome.end is None:
            waiting = {id: one for id, one in outcome.questions.items() if id not in self._answered}
            if not event.waits or (outcome.questions and not waiting) or (waiting and asks and not client.is_modern):
                return None
            if asks and waiting:
                requests = {id: elicitation(one) for id, one in waiting.items()}
                state = f"{turn.id}.{outcome.count}"  # another one for each round
                return client.result({"inputRequests": requests, "requestState": state}, "input_required")
            result = tool_result(turn, outcome, client, waiting.values())
        else:
            result = tool_result(turn, outcome, client)
        if self._rpc.is_task:
            result["_meta"][_RELATED] = {"taskId": turn.id}
        return client.result(result)


async def call_frames(
    request: Request[Any], turn: FaceTurn, client: Client, projection: CallProjection, rpc: RpcRequest, after: int = -1
) -> AsyncGenerator[bytes, None]:
    """The stream of a request, behind the event `after`; in 2026-07-28 a client that closes it cancels the turn."""
    if client.revision == "2025-11-25" and after < 0:
        yield f"id: {rpc.cursor(turn.id)}.0\nretry: {RETRY_MS}\ndata:\n\n".encode()
    try:
        async with aclosing(project(turn, projection, after)) as frames:
            async for chunk in frames:
                yield chunk
    except EngineError as error:
        yield frame(error_message(rpc_error(error), rpc.id))
    except (asyncio.CancelledError, GeneratorExit):
        if client.is_modern and not projection.ended:
            await cancel(request, turn)
        raise


async def cancel(request: Request[Any], turn: FaceTurn) -> None:
    """Cancels a turn if it runs; one that waits for others of its session is left."""
    chats = request.engine.state[CONVERSATIONS]
    if (await chats.turn(request, turn.id)).status == "running":  # on this node or on another
        await chats.cancel(request, turn.session_id)


async def answered(request: Request[Any], turn: FaceTurn) -> frozenset[str]:
    """The questions of a turn so far that are not open any more."""
    outcome = Outcome()
    async with aclosing(turn.events(live=False)) as batches:
        async for batch in batches:
            for one in batch:
                outcome.take(one)
    calls = await request.engine.state[CONVERSATIONS].open_calls(request, turn.session_id)
    return frozenset(outcome.question_ids) - {one.confirmation_id for one in calls}


async def answer_questions(request: Request[Any], turn: FaceTurn, answers: dict[str, Any]) -> None:
    """Takes a client's answers to the open questions of a turn; others are passed over."""
    chats = request.engine.state[CONVERSATIONS]
    for call in await chats.open_calls(request, turn.session_id):
        if call.confirmation_id in answers and call.kind != "client_tool":
            answer = answers[call.confirmation_id]
            approve, reason = verdict(answer)
            input: dict[str, Any] | None = None
            if call.kind == "elicitation":
                approve, reason, input = accepts(answer), "", content_of(answer)
            await chats.answer(
                request, turn.session_id, call.confirmation_id, approve=approve, reason=reason, input=input
            )
