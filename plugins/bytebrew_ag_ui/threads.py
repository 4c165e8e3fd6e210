"""Threads: where in the engine's sessions a run goes on, whose client sends its whole conversation."""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

from bytebrew import Conflict, Conversations, EarlierTurn, FaceTurn, NotFound, Request

from .cursors import read_cursor
from .kept import kept_of, turn_of
from .run_input import ASIDE, ClientMessage, history


class Place(NamedTuple):
    """The session of a new message, `newest` its last turn; or the turn that it forks behind, or a history."""

    session_id: str | None
    newest: FaceTurn | None = None
    fork_after: int | None = None
    history: tuple[EarlierTurn, ...] = ()


def run_key(thread: str, run_id: str) -> str:
    """By what the turn of a run is found."""
    return sha256(f"ag-ui\0{thread}\0{run_id}".encode()).hexdigest()


def session_of(request: Request[Any], schema: str, thread: str) -> str:
    """The session of a thread: its own id if that is a UUID, else one for the caller, the schema and the thread."""
    try:
        return str(UUID(thread))
    except ValueError:
        return str(uuid5(NAMESPACE_URL, "\0".join(("ag-ui", request.actor.subject, schema, thread))))


async def newest_known(
    chats: Conversations, request: Request[Any], schema: str, messages: Sequence[ClientMessage]
) -> FaceTurn | None:
    """The turn that has made the last of these messages which a run has made; None if there is no such turn."""
    for message in reversed(messages):
        if message.role != "user" and (turn_id := turn_of(message.id)):
            try:
                turn = await chats.turn(request, turn_id)
            except NotFound:
                return None
            return turn if turn.schema == schema else None
    return None


async def place(
    chats: Conversations, request: Request[Any], schema: str, thread: str, earlier: Sequence[ClientMessage]
) -> Place:
    """Where a message goes that follows these ones.

    A thread goes on in its session as long as the newest turn there is in the client's messages. If the client has gone
    back behind it, or has copied messages to another thread, it forks behind the last turn that it has.
    """
    known = await newest_known(chats, request, schema, earlier)
    if known is None:
        session_id = session_of(request, schema, thread)
        newest = await chats.newest(request, session_id)
        if newest is None:
            return Place(session_id, history=history(earlier))
        if _has(earlier, newest) or kept_of(newest) is None:  # of the engine's own API, say
            return Place(session_id, newest)
        return Place(None, history=history(earlier))
    kept = kept_of(known)
    newest = known if known.newest else await chats.newest(request, known.session_id)
    if kept and kept.thread == thread and newest and (newest.id == known.id or _has(earlier, newest)):
        return Place(known.session_id, newest)
    if known.last is None:
        raise Conflict("The answer that these messages end with is not complete; wait for its end to branch off there")
    return Place(known.session_id, fork_after=known.last)


def _has(messages: Iterable[ClientMessage], turn: FaceTurn) -> bool:
    kept = kept_of(turn)
    return kept is not None and bool(kept.message) and any(one.id == kept.message for one in messages)


def seen(messages: Iterable[ClientMessage], turn_id: str) -> tuple[int, ...] | None:
    """The last cursor of a turn in what the client has of it, which is in the metadata of its messages."""
    parts = [part for one in messages if turn_of(one.id) == turn_id for part in (one, *(one.tool_calls or ()))]
    metadata = [part.metadata.get("bytebrew") for part in parts if part.metadata]
    cursors = [read_cursor(one.get("cursor")) for one in metadata if isinstance(one, dict)]
    return max((one for one in cursors if one), default=None)


def new_message(messages: Sequence[ClientMessage]) -> int | None:
    """The place of the user's message that a conversation ends with, None if it ends with another one."""
    last = next((n for n in range(len(messages) - 1, -1, -1) if messages[n].role not in ASIDE), None)
    return last if last is not None and messages[last].role == "user" else None


def unsent_messages(earlier: Sequence[ClientMessage], newest: FaceTurn | None) -> list[ClientMessage]:
    """Messages of the user right before the new one that no turn has."""
    kept = kept_of(newest) if newest else None
    found: list[ClientMessage] = []
    for one in reversed(earlier):
        if one.role not in ASIDE:
            if one.role != "user" or (kept and kept.message == one.id):
                break
            found.append(one)
    return found[::-1]
