"""Answers that a run brings: to interrupts of the run before, and results of the client's tools."""

from collections.abc import Iterable, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from bytebrew import Conversations, FaceTurn, NotFound, OpenCall, Request

from .cursors import LAST
from .kept import Kept, turn_of
from .outcomes import FORM
from .run import Run
from .run_input import ClientMessage, ResumeEntry, result


class RunRefused(Exception):
    """A request that breaks the rules of interrupts, which is answered by a run that fails."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Decision(Struct, frozen=True, kw_only=True, rename="camel"):
    """The payload of the answer to a question about a tool call."""

    approved: bool
    edited_args: dict[str, Any] | None = None
    reason: str = ""


class Waited(NamedTuple):
    """Where a turn has waited for answers, in its frames, and the calls of the client's tools that it waits for."""

    behind: tuple[int, ...]
    open_calls: frozenset[str]

    def results(self, messages: Sequence[ClientMessage]) -> dict[str, ClientMessage]:
        """The results that these messages end with, of calls that wait."""
        return {call: one for call, one in results(messages).items() if call in self.open_calls}


async def waited(turn: FaceTurn, kept: Kept, answers: Iterable[str]) -> Waited:
    """Reads where a turn last waited for all of these ids; `behind` is empty if it never has.

    It reads the events that are stored, so it is the same before and after the answers.
    """
    run, wanted, found = Run(turn, kept, ""), frozenset(answers), Waited((), frozenset())
    async with aclosing(turn.events(live=False)) as batches:
        async for batch in batches:
            for one in batch:
                run.frames(one)
                if run.open and wanted <= run.open:
                    found = Waited((one.number, LAST), run.open & {*run.client_calls})
    return found


def decision(entry: ResumeEntry) -> Decision:
    """What a resume entry decides; RunRefused for a payload that is none of the interrupt's schema."""
    if entry.status == "cancelled":
        return Decision(approved=False, reason="The user has dismissed the question")
    try:
        return msgspec.convert(entry.payload, Decision)
    except msgspec.ValidationError as error:
        words = 'send {"approved": true} or {"approved": false}, with editedArgs or a reason if there is one'
        raise RunRefused("invalid_payload", f"The payload for '{entry.interrupt_id}' does not fit: {words}") from error


def check_covered(entries: Sequence[ResumeEntry], calls: Iterable[OpenCall], turn_id: str) -> None:
    """RunRefused unless all open questions of the session are answered."""
    given = {entry.interrupt_id for entry in entries}
    left = [f"{turn_id}.{one.confirmation_id}" for one in calls if one.kind != "client_tool" and one.tool]
    if missing := [one for one in left if one not in given]:
        words = f"The thread waits for answers: send a resume entry for {', '.join(missing)}"
        raise RunRefused("interrupts_open", words)


async def interrupted(
    chats: Conversations, request: Request[Any], schema: str, thread: str, entries: Sequence[ResumeEntry]
) -> FaceTurn:
    """The turn whose interrupts the entries answer; RunRefused if they are of no turn of the thread, or of several."""
    turns = {turn_of(entry.interrupt_id) for entry in entries}
    if len(turns) == 1:
        try:
            turn = await chats.turn(request, turns.pop())
            if turn.schema == schema:
                return turn
        except NotFound:
            pass
    raise RunRefused("unknown_interrupt", f"Thread '{thread}' has no such interrupt")


def question_of(entry: ResumeEntry) -> str:
    """The id of the question that an entry answers."""
    return entry.interrupt_id.partition(".")[2]


def is_form(entry: ResumeEntry) -> bool:
    """Whether an entry answers a form."""
    return question_of(entry) == FORM


def results(messages: Sequence[ClientMessage]) -> dict[str, ClientMessage]:
    """The results of the client's tools at the end of its messages, by their calls."""
    found: dict[str, ClientMessage] = {}
    for message in reversed(messages):
        if message.role == "tool" and not turn_of(message.id):
            found.setdefault(message.tool_call_id, message)
        elif message.role == "assistant":
            break
    return found


async def finish(
    chats: Conversations, request: Request[Any], session_id: str, finished: Iterable[tuple[str, ClientMessage]]
) -> None:
    """Sends results to the turn that waits for them."""
    for call_id, message in finished:
        await chats.finish_call(request, session_id, call_id, result(message), has_error=message.error is not None)
