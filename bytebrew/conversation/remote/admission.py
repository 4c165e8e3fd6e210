"""Admits turns where other nodes may run their sessions, in the transaction that stores them."""

from collections.abc import Callable

from msgspec.structs import replace

from bytebrew.base.errors import Conflict
from bytebrew.base.settings import Core
from bytebrew.contract.connection import Connection, Cursor
from bytebrew.conversation import waiting_turns
from bytebrew.conversation.remote.remote_turns import Removed
from bytebrew.conversation.turn import OnBusy
from bytebrew.nodes import session_requests, turn_states
from bytebrew.nodes.turn_states import Runs
from bytebrew.store import sessions, turns
from bytebrew.store.queries.events import last_number


class StaleLog(Exception):
    """Another node has appended events to the session, which the log here lacks."""


def query(conn: Connection, new: turns.NewTurn, first_event: int | None, node: int) -> Cursor:
    """The query of `admit`."""
    return turn_states.query(conn, new.session_id, node, idle=first_event is not None)


def admit(
    conn: Connection,
    result: Cursor | None = None,
    *,
    new: turns.NewTurn,
    first_event: int | None,
    node: int,
    on_busy: OnBusy,
    core: Core | None,
    sealed: Callable[[], bytes | None],
) -> bool:
    """Stores a turn as `turns.admit`; True if another node runs its session: it is queued there.

    So it is behind turns that this node has taken over and does not run yet: they go on before it.
    `core` has the limits of messages that wait, unless it is unbounded; `sealed` seals its request's headers for the
    other node, `result` is that of `query`. StaleLog if its first event is not the next of its session.
    """
    before = turn_states.before(result or query(conn, new, first_event, node))
    if before.runs is None:
        turns.store(conn, new, first_event, before.session, node)
        if before.session and first_event is not None and first_event != before.last + 1:
            raise StaleLog
    else:
        turns.store(conn, replace(new, steers=None), None, before.session, before.runs.node)
        _check(conn, new, before.runs, on_busy, core)
        turns.keep_headers(conn, new.id, sealed())
    if on_busy in ("interrupt", "steer") and (before.runs or first_event is None):
        session_requests.add(conn, new.session_id, new.id, "steer" if on_busy == "steer" else "interrupt")
    return before.runs is not None


def _check(conn: Connection, new: turns.NewTurn, other: Runs, on_busy: OnBusy, core: Core | None) -> None:
    """Raises what refuses a message that would wait on another node."""
    if on_busy == "reject":
        raise waiting_turns.busy()
    if new.own_key:
        who, there = (f"Node {other.node}", f", or to node {other.node}") if other.node else ("Another node", "")
        message = f"{who} runs a turn of the session, and a key of one's own is never passed on to another node"
        raise Conflict(f"{message}: send the message again once that turn has ended{there}", code="session_busy")
    if core is not None:
        others = turn_states.waiting(conn, new.id)
        in_session = sum(one.session_id == new.session_id for one in others)
        waiting_turns.check_room(core, in_session, others, new)


def start(conn: Connection, new: turns.NewTurn, first_event: int, node: int | None) -> turns.NewTurn:
    """Starts a turn as `turns.start`; StaleLog as `admit`, Removed if another node has removed its message."""
    if node is not None:
        if turns.status(conn, new.id) != "queued" and sessions.owner(conn, new.session_id) is not None:
            raise Removed
        if first_event != last_number(conn, new.session_id) + 1:
            raise StaleLog
        session_requests.entered(conn, [new.id])
    return turns.start(conn, new, first_event)
