"""Turns that other nodes run, as requests and followers at this node need them."""

from collections.abc import Callable, Collection, Mapping
from typing import Any
from weakref import WeakValueDictionary

import anyio

from bytebrew.base.errors import Conflict, EngineError, NotFound
from bytebrew.contract.connection import Connection
from bytebrew.contract.events import Event
from bytebrew.contract.governance.personal_data import Person
from bytebrew.nodes import session_requests, turn_states
from bytebrew.nodes.node import Node
from bytebrew.nodes.session_requests import Kind
from bytebrew.nodes.signals import Ids, SignalCentre
from bytebrew.nodes.turn_states import TurnState
from bytebrew.store import sessions, turn_results
from bytebrew.store.database.database import Database
from bytebrew.store.journal import Journal, Log
from bytebrew.store.queries import waiting_messages
from bytebrew.store.turn_results import TurnResult
from bytebrew.store.turns import Status

STOP_SECONDS = 30.0
"""How long to wait until another node has stopped a session."""


class Removed(Conflict):
    """A message was removed before its turn began."""

    def __init__(self) -> None:
        super().__init__("The message was removed before its turn began", code="message_removed")


class RemoteTurn:
    """A turn that another node runs; its attributes follow what is stored, and its log is notified of changes."""

    storage_error: EngineError | None = None
    holds = 0

    def __init__(self, db: Database, state: TurnState, log: Log) -> None:
        self._db = db
        self.id, self.session_id, self.log = state.id, state.session_id, log
        self.status: Status = state.status
        self.first: int | None = None
        self.last: int | None = None
        self.recorded = False
        self.failure: EngineError | None = None
        self.position, self.needs_input = 0, False
        self.absorbed_by: str | None = None
        self.take(state)

    def take(self, state: TurnState) -> None:
        """Takes what is stored now."""
        self.status, self.first, self.last = state.status, state.first, state.last
        self.position, self.needs_input = state.position, state.needs_input
        self.absorbed_by = state.absorbed_by
        self.recorded = state.last is not None
        if state.failure is not None and self.recorded:
            self.failure = _Failed(state.failure, state.code)
        self.log.notify()

    def end(self, error: EngineError) -> None:
        """Ends it with an error, for it is not stored any more, or this node stops."""
        self.status, self.failure, self.recorded = "cancelled", error, True
        self.log.notify()

    @property
    def answering(self) -> "RemoteTurn":
        """The turn that answers its message: its state has the end of the one that has absorbed it."""
        return self

    async def result(self, forms: Mapping[str, type[Event]]) -> TurnResult:
        """Its outcome, or what there is of it; raises the error of one that is not stored any more."""
        if self.failure is not None and self.last is None:
            raise self.failure
        if found := await self._db.scan(turn_results.result, self.id, forms, so_far=True):
            return found
        raise NotFound("The session was deleted")

    async def wait_recorded(self, *, raise_storage_error: bool = False) -> None:
        """Waits until its end is stored; raises the error of a log that has ended."""
        while not self.recorded:
            if raise_storage_error and self.log.error is not None:
                raise self.log.error
            await self.log.changed()


class _Failed(EngineError):
    def __init__(self, status: int, code: str) -> None:
        super().__init__("The turn failed on another node", code=code)
        self.status = status  # type: ignore[misc]  # that of its class is in the other node


class RemoteTurns:
    """The turns of other nodes that requests of this node are about, and what this node asks of those nodes."""

    def __init__(self, db: Database, journal: Journal, node: Node, signals: SignalCentre) -> None:
        self._db, self._journal, self._node, self._signals = db, journal, node, signals
        self.turns: WeakValueDictionary[str, RemoteTurn] = WeakValueDictionary()
        """The open turns of other nodes that are followed here, by id."""
        self.arriving = 0
        """The number of those that are about to be."""
        self._closed: EngineError | None = None
        signals.on("events", self.refresh, own=True)  # this node may take over a turn

    async def turn(self, turn_id: str) -> RemoteTurn | None:
        """An open turn that another node runs; None if there is none of this id."""
        if self._node.id is None:
            return None
        state = (await self._db.read(turn_states.states, [turn_id])).get(turn_id)
        return None if state is None or state.last is not None else await self._follow(state)

    async def queued(self, turn_id: str, session_id: str) -> RemoteTurn:
        """A turn that this node has just queued for the one that runs its session."""
        self._signals.send("requests", session_id)
        self._signals.send("events", session_id)
        self.arriving += 1
        try:
            state = (await self._db.read(turn_states.states, [turn_id])).get(turn_id)
            if state is None:
                raise Removed
            turn = await self._follow(state)
            if self._closed is not None and not turn.recorded:  # since it was stored
                turn.end(self._closed)
            return turn
        finally:
            self.arriving -= 1

    async def _follow(self, state: TurnState) -> RemoteTurn:
        log = await self._journal.log(state.session_id)
        await self._journal.refresh({state.session_id})
        if (turn := self.turns.get(state.id)) is None or turn.log is not log:
            turn = self.turns[state.id] = RemoteTurn(self._db, state, log)
        await self.refresh({state.session_id})  # it may have changed since it was read
        return turn

    async def refresh(self, session_ids: Ids) -> None:
        """Takes the states of the turns in sessions, in all without ids."""
        every = [*self.turns.values()]
        turns = [one for one in every if session_ids is None or one.session_id in session_ids]
        if not turns:
            return
        found = await self._db.read(turn_states.states, [one.id for one in turns])
        for turn in turns:
            if turn.recorded:  # by what was read later
                continue
            if state := found.get(turn.id):
                turn.take(state)
            else:
                there = await self._db.read(sessions.owner, turn.session_id) is not None
                turn.end(Removed() if there else NotFound("The session was deleted"))
            if turn.recorded and self.turns.get(turn.id) is turn:
                del self.turns[turn.id]

    def close(self, error: EngineError) -> None:
        """Ends what follows turns of other nodes: this node stops."""
        self._closed = error
        for turn in [*self.turns.values()]:
            turn.end(error)
        self.turns.clear()

    async def running(self, session_id: str) -> str | None:
        """The id of the turn that runs in a session of another node."""
        return None if self._node.id is None else await self._db.read(turn_states.running, session_id)

    async def cancel(self, session_id: str) -> None:
        """Cancels the running turn of a session that another node runs, and returns once its end is stored."""
        if turn_id := await self.running(session_id):
            await self.cancel_turn(turn_id)

    async def cancel_turn(self, turn_id: str) -> None:
        """Cancels a turn that another node runs, and returns once its end is stored."""
        if (turn := await self.turn(turn_id)) is not None:
            await self._done(await self._ask(turn.session_id, turn_id, "cancel"), turn.wait_recorded)

    async def ask_to_cancel(self, turn_id: str) -> None:
        """Cancels a turn that another node runs, which need not have ended when this returns."""
        if (turn := await self.turn(turn_id)) is not None:
            await self._ask(turn.session_id, turn_id, "cancel")

    async def stop_session(self, session_id: str) -> None:
        """Ends all turns of a session that other nodes run; Conflict if that takes too long."""
        if (node := self._node.id) is None:
            return
        with anyio.move_on_after(STOP_SECONDS):
            while turn_ids := await self._db.read(turn_states.open_elsewhere, session_id, node):
                n = await self._ask(session_id, "", "stop")
                turns = [turn for one in turn_ids if (turn := await self.turn(one))]

                async def ended(turns: Collection[RemoteTurn] = turns) -> None:
                    for turn in turns:
                        await turn.wait_recorded()

                await self._done(n, ended)
            return
        message = f"Another node has not stopped the session within {STOP_SECONDS:g} s; try again in a moment"
        raise Conflict(message, code="session_busy")

    async def remove(self, session_id: str, turn_id: str, record: Callable[[Connection], None]) -> None:
        """Removes a message that waits on another node; NotFound if there is none, Conflict once a turn has it."""

        def remove(conn: Connection) -> None:
            status = waiting_messages.status(conn, session_id, turn_id)
            if status not in ("queued", "running", "taken"):
                raise waiting_messages.none_waits(turn_id)
            if status != "queued":
                raise Conflict("The message does not wait any more: a turn has it", code="message_taken")
            waiting_messages.remove(conn, turn_id)
            session_requests.entered(conn, [turn_id])
            session_requests.add(conn, session_id, turn_id, "removed")
            record(conn)

        await self._db.write(remove)
        self._signals.send("requests", session_id)
        self.changed(session_id)

    def changed(self, session_id: str) -> None:
        """Signals that turns of a session have changed without an event."""
        self._signals.send("events", session_id)

    async def open_of(self, person: Person) -> Collection[str]:
        """The sessions in which other nodes run turns of a person: those in the person's sessions, and messages."""
        if (node := self._node.id) is None:
            return ()
        return await self._db.read(turn_states.open_of, person, node)

    async def _ask(self, session_id: str, turn_id: str, kind: Kind) -> int:
        n = await self._db.write_in(session_id, session_requests.add, session_id, turn_id, kind)
        self._signals.send("requests", session_id)
        return n

    async def _done(self, n: int, wait: Callable[[], Any]) -> None:
        """Waits for the effect of a request, and takes it back where nobody has carried it out."""
        try:
            await wait()
        finally:
            with anyio.CancelScope(shield=True):
                await self._db.write(session_requests.done, [n])
