"""The runner: starts, queues, cancels and stops turns, one at a time per session, independent of HTTP requests."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import anyio
from msgspec.structs import replace

from bytebrew.base.errors import Draining, EngineError, NotFound, StorageError, TurnTimeout, Unprocessable
from bytebrew.base.rolling_timeout import uncancelled
from bytebrew.base.settings import Core
from bytebrew.contract.connection import Connection
from bytebrew.contract.events import Event, MessageDone
from bytebrew.contract.messages import Message
from bytebrew.contract.notifications import Subscriber
from bytebrew.conversation import failed_turns, waiting_turns
from bytebrew.conversation.agent_loop import AgentLoop
from bytebrew.conversation.model_calls import BoundModel, Models
from bytebrew.conversation.remote import admission
from bytebrew.conversation.remote.headers import SealedHeaders
from bytebrew.conversation.remote.remote_turns import RemoteTurn, RemoteTurns, Removed
from bytebrew.conversation.spending import payer_of
from bytebrew.conversation.turn import Lane, Notify, OnBusy, Turn
from bytebrew.nodes import turn_states
from bytebrew.nodes.node import Node
from bytebrew.nodes.signals import SignalCentre
from bytebrew.store import notifications, turns
from bytebrew.store.configuration import schemas
from bytebrew.store.database.database import Database
from bytebrew.store.database.outage import patient
from bytebrew.store.journal import Journal, Log
from bytebrew.store.queries import waiting_messages

log = logging.getLogger(__name__)

_LATER = "The engine is stopping; this turn goes on when it is back"


class Runner:
    """Runs turns in its own task group; `on_hold` is called when a turn starts or stops waiting for a person."""

    def __init__(
        self,
        db: Database,
        journal: Journal,
        models: Models,
        agent_loop: AgentLoop,
        core: Core,
        notify: Notify,
        publish: Subscriber,
        on_hold: Callable[[], None],
        node: Node,
        signals: SignalCentre,
        headers: SealedHeaders,
    ) -> None:
        self._db = db
        self._node, self.headers = node, headers
        self.remote = RemoteTurns(db, journal, node, signals)
        self._journal = journal
        self._models = models
        self._agent_loop = agent_loop
        self._core = core
        self._notify, self._publish = notify, publish
        self._on_hold = on_hold
        self.lanes: dict[str, Lane] = {}
        journal.own = self.lanes.keys()
        self._group: asyncio.TaskGroup | None = None
        self.turns: dict[str, Turn] = {}
        self.draining = False

    def run(self, group: asyncio.TaskGroup) -> None:
        """Runs turns in the task group from now on."""
        self._group = group

    async def adopt(self, recovered: Sequence[Turn]) -> None:
        """Goes on with turns that another engine has left open, or has taken the messages of."""
        assert self._group is not None
        lanes: dict[str, Lane] = {}
        for turn in recovered:
            turn.admitted.set_result(True)
            turn.steering = turn.new.steers is not None
            self.turns[turn.id] = turn
            if lane := self.lanes.get(turn.session_id):
                turn.steers_stored = turn.on_busy != "steer" or turn.steering
                interrupted = waiting_turns.insert(lane, turn, "queue" if turn.steering else turn.on_busy)
                await self._steer(lane.current, turn)
                for other in interrupted:
                    other.cancel("cancelled")
            else:
                lane = self.lanes[turn.session_id] = lanes[turn.session_id] = Lane(turn)
            turn.lane = lane
        for session_id, lane in lanes.items():
            self._group.create_task(self._drive(session_id, lane))

    def turn(self, new: turns.NewTurn, entrance: schemas.Entrance, model: BoundModel | None = None) -> Turn:
        """A turn of an agent, with the agent's model unless another is passed; `submit` runs it.

        Unprocessable if its model cannot be called, InvalidRequest if the model does not support an attachment.
        """
        if model is None and not entrance.targets:
            name = entrance.agent.model
            wanted = f"a model '{name}', which does not exist" if name else "a model, and there is none"
            message = f"Agent '{entrance.agent.name}' needs {wanted}; create it with POST /api/v1/models"
            raise Unprocessable(message, code="model_missing")
        if model is None:
            model = self._models.bind(entrance.targets[0], entrance.targets[1:])
        model.check(new.attachments)
        new = replace(new, agent_version=entrance.agent.version)
        return Turn(new, entrance.agent, model, self._journal, self._held)

    def _held(self, turn: Turn) -> None:
        if turn.holds and self.draining:
            turn.cancel("stopped")
        self._on_hold()

    async def find(self, turn_id: str) -> Turn | RemoteTurn | None:
        """An open turn, of this node or of another; None if there is none of this id."""
        return self.turns.get(turn_id) or await self.remote.turn(turn_id)

    async def running(self, session_id: str) -> str | None:
        """The id of the turn that runs in a session, on this node or on another."""
        if lane := self.lanes.get(session_id):
            return lane.current.id
        return await self.remote.running(session_id)

    async def queue(self, session_id: str) -> list[str]:
        """The ids of the turns that wait in a session, in their order."""
        if self._node.id is not None:  # another node may have stored the last of them
            return await self._db.read(turn_states.queue, session_id)
        lane = self.lanes.get(session_id)
        return [one.id for one in lane.waiting] if lane else []

    async def submit(self, turn: Turn, on_busy: OnBusy = "queue", *, bounded: bool = False) -> Turn | RemoteTurn:
        """Stores a turn and starts it, or queues it after others of its session; Conflict if it may not wait.

        A `bounded` turn that would have to wait is rejected if too many turns or bytes wait already. If another node
        runs the session it is queued there; the result is the turn as this node sees it.
        """
        if self._group is None or self.draining:
            raise Draining
        for guard in self._models.guards:
            if guard.active and turn.new.parent is None:
                await guard.admit(payer_of(turn.new))
        if self.draining:  # since it was asked
            raise Draining
        lane = self.lanes.get(turn.session_id)
        idle = lane is None
        if lane and bounded and on_busy != "reject":
            waiting = [other for other in self.turns.values() if other.status == "queued"]
            waiting_turns.check_room(self._core, len(lane.waiting), waiting, turn.new)
        interrupted = waiting_turns.enter(lane, turn, on_busy) if lane else []
        if lane is None:
            lane = self.lanes[turn.session_id] = Lane(turn)
        self.turns[turn.id], turn.lane = turn, lane
        with anyio.CancelScope(shield=True):  # a disconnect does not interrupt the admission
            admitted = False
            try:
                before = turn.new.events_before
                turn.log = await self._journal.log(turn.session_id, new=before if turn.new.begins else None)
                admitted = not await self._admit(turn, on_busy, begins=idle, bounded=bounded)
                if admitted:
                    if not idle:
                        await self._steer(lane.current, turn)
                        waiting_turns.drop_message(turn)
                    for other in interrupted:
                        other.cancel("cancelled")
                    with suppress(StorageError):  # the turn is admitted, and runs or fails on its own
                        turn.log = await self._journal.log(
                            turn.session_id
                        )  # a new log if the session was deleted and created again
            finally:
                if not admitted:
                    del self.turns[turn.id]
                    turn.recorded = True  # no end to record
                    with suppress(ValueError):  # it may have left the queue
                        lane.waiting.remove(turn)
                turn.admitted.set_result(admitted)
                if idle:  # even if it was not admitted: others may wait
                    self._group.create_task(self._drive(turn.session_id, lane))
        return turn if await turn.admitted else await self.remote.queued(turn.id, turn.session_id)

    async def _admit(self, turn: Turn, on_busy: OnBusy, *, begins: bool, bounded: bool) -> bool:
        """Stores a turn, with the number of its first event if it begins at once; True if another node has it now."""
        core = self._core if bounded else None
        while True:
            if begins:
                self._begin(turn)
            if self._node.id is None:
                await self._db.write(turns.admit, turn.new, turn.first)
                return False
            query = partial(admission.query, new=turn.new, first_event=turn.first, node=self._node.id)
            admit = partial(admission.admit, new=turn.new, first_event=turn.first, node=self._node.id)
            admit = partial(admit, on_busy=on_busy, core=core, sealed=partial(self.headers.seal, turn.headers))
            scope = None if turn.new.fork else turn.session_id  # which writes to another session too
            try:
                return await self._db.write_from(scope, query, admit)
            except admission.StaleLog:
                turn.log = await self._fresh(turn.log)

    async def _fresh(self, log: Log) -> Log:
        """The log of a session with the events that other nodes have appended meanwhile."""
        await self._journal.flush(log)
        await self._journal.refresh({log.session_id})
        return await self._journal.log(log.session_id)

    async def _steer(self, current: Turn, turn: Turn) -> None:
        """Lets a stored turn steer the running one if it was sent for that and it still runs."""
        if turn.new.steers == current.id and current.may_be_steered:
            with suppress(EngineError):  # the running turn fails, and then this one runs
                await waiting_turns.steer(self._journal, current, turn)

    async def cancel(self, session_id: str) -> None:
        """Cancels the running turn of the session and returns once its end is stored; queued ones continue."""
        if lane := self.lanes.get(session_id):
            (turn := lane.current).cancel("cancelled")
            await turn.wait_recorded(raise_storage_error=True)
        else:
            await self.remote.cancel(session_id)

    async def cancel_turn(self, turn_id: str) -> None:
        """Cancels a turn, which need not have ended when this returns."""
        if turn := self.turns.get(turn_id):
            turn.cancel("cancelled")
        else:
            await self.remote.ask_to_cancel(turn_id)

    async def remove_waiting(self, session_id: str, turn_id: str, record: waiting_turns.Recording) -> None:
        """Removes a message that waits; NotFound if the session has none of this id, Conflict if a turn has it."""
        turn = self.turns.get(turn_id)
        if turn is None and self._node.id is not None:
            await self.remote.remove(session_id, turn_id, record)
            return
        if turn is None or turn.session_id != session_id or turn.spawned:
            raise waiting_messages.none_waits(turn_id)
        await waiting_turns.remove(self._db, turn.lane.waiting, turn, record)
        del self.turns[turn_id]
        self.remote.changed(session_id)

    async def stop_session(self, session_id: str) -> None:
        """Cancels all turns of a session and waits for their end; StorageError if that cannot be stored."""
        while lane := self.lanes.get(session_id):
            for turn in (lane.current, *lane.waiting):
                turn.cancel("cancelled")
            await lane.current.wait_recorded(raise_storage_error=True)
        await self.remote.stop_session(session_id)

    async def drain(self, seconds: float) -> None:
        """Rejects new turns; waits for the running ones, and stops the rest, which resume at the next start.

        Turns that wait for a person are stopped at once.
        """
        self.draining = True
        self.remote.close(Draining())
        for turn in list(self.turns.values()):
            if turn.holds:  # an answer may take hours
                turn.cancel("stopped")
        with anyio.move_on_after(seconds):
            for lane in list(self.lanes.values()):
                await asyncio.wait([lane.empty])
        for lane in list(self.lanes.values()):
            lane.current.cancel("stopped")
        for lane in list(self.lanes.values()):
            await asyncio.wait([lane.empty])

    def _begin(self, turn: Turn) -> None:
        turn.first = turn.log.last + 1
        turn.has_history = turn.log.last > 0
        turn.status, turn.started_at = "running", time.monotonic()

    async def _drive(self, session_id: str, lane: Lane) -> None:
        """Runs the turns of a session until its queue is empty."""
        patient.set(True)
        try:
            while True:
                if await lane.current.admitted:
                    await self._run(lane.current)
                if not lane.waiting:
                    return
                lane.current = lane.waiting.pop(0)
        finally:
            del self.lanes[session_id]
            lane.empty.set_result(None)

    async def _run(self, turn: Turn) -> None:
        """Runs a turn until its end is stored, or left to recovery."""
        try:
            try:
                with uncancelled():
                    await self._run_and_record(turn)
            except StorageError as error:
                log.error("turn %s cannot be recorded: %s", turn.id, error)
                await failed_turns.end_later(self._db, self._journal, self._notify, self._publish, turn, error)
            except EngineError:
                raise
            except Exception:
                log.exception("turn %s could not be recorded", turn.id)
                failure: EngineError = failed_turns.internal_error(turn.id)
                await failed_turns.end_later(self._db, self._journal, self._notify, self._publish, turn, failure)
            for turn_id, failure in turn.unresumable:
                await failed_turns.fail(self._db, self._journal, self._publish, turn.session_id, turn_id, failure)
        except Removed as error:
            turn.failure, turn.status, turn.last = error, "cancelled", (turn.first or 1) - 1
        except EngineError as error:  # shutdown, or the session was deleted
            turn.failure = error
            await self._journal.close(turn.log, error)
            if isinstance(error, NotFound):
                await failed_turns.fail(
                    self._db, self._journal, self._publish, turn.session_id, turn.id, error, turn.unsaved
                )
        except Exception as error:
            log.exception("turn %s is left to the next start", turn.id)
            await self._journal.close(turn.log, error)
        finally:  # wakes everything that waits for the turn, whatever failed
            for one in (turn, *turn.absorbed):
                one.last, one.recorded = turn.last, True
                self.turns.pop(one.id, None)
            turn.log.notify()

    async def _run_and_record(self, turn: Turn) -> None:
        if turn.status == "queued":
            if self.draining:
                if self._node.id is not None:  # another one goes on with it
                    await self.headers.keep(self._db, turn.session_id, turn.id, turn.headers)
                raise Draining(_LATER)
            earlier, turn.log = turn.log, await self._journal.log(turn.session_id)  # the earlier log may have failed
            earlier.notify()
            try:
                turn.new = await self._start(turn)
            except NotFound:
                earlier, turn.log = turn.log, earlier  # the new log is of another session with this id
                earlier.notify()
                raise
        turn.log.notify()
        await self._notify("turn_started", turn=turn)
        end = await self._last_event(turn)
        if end is not None and turn.resume_point is not None:
            end = await failed_turns.end_children(self._db, self.turns.values(), turn, end)
        if end is None:
            if turn.unsaved.spent or turn.unsaved.settlements:
                await turn.record(turns.spend, turn.id)  # its last step is repeated after the restart
            raise Draining(_LATER)
        await self._record_end(turn, end)
        await self._notify("turn_finished", turn=turn)

    async def _start(self, turn: Turn) -> turns.NewTurn:
        """Begins a queued turn; returns it with its message."""
        while True:
            self._begin(turn)
            if self._node.id is None:
                return await self._db.write(turns.start, turn.new, turn.first or 0)
            try:
                return await self._db.write_in(
                    turn.session_id, admission.start, turn.new, turn.first or 0, self._node.id
                )
            except admission.StaleLog:
                turn.log = await self._fresh(turn.log)

    async def _last_event(self, turn: Turn) -> Event | None:
        """Runs the turn; returns its last event, None if it was stopped and resumes at the next start."""
        seconds = turn.new.time_limit or turn.agent.max_turn_duration
        try:
            with uncancelled(), turn.scope:
                turn.start_clock(seconds)
                turn.model.check(turn.new.attachments)  # a queued turn's attachments are loaded only now
                await self._agent_loop.run(turn)
                return turn.done("completed")
            if turn.cancelled_for == "cancelled":
                return turn.done("cancelled")
            if turn.cancelled_for == "stopped":
                return None
            turn.failure = TurnTimeout(f"The turn took longer than {seconds:g} s; raise the agent's max_turn_duration")
        except EngineError as error:
            turn.failure = error
        except Exception:
            log.exception("turn %s failed", turn.id)
            turn.failure = failed_turns.internal_error(turn.id)
        turn.status = "failed"
        return failed_turns.logged(turn, turn.failure)

    async def _record_end(self, turn: Turn, end: Event) -> None:
        if partial := "".join(turn.partial) + (turn.resumed_step.text if turn.resumed_step else ""):
            turn.unsaved.messages.append(Message("assistant", partial, broken_off=turn.status))
        # a failed or cancelled answer has no complete text
        whole = [MessageDone(content="".join(turn.text), data=turn.data)] if turn.status == "completed" else []
        turn.last = [turn.append(event) for event in (*whole, end)][-1]  # in one transaction
        await turn.record(self._finish, turn, turn.last)

    def _finish(self, conn: Connection, unsaved: turns.Unsaved, turn: Turn, last: int) -> None:
        fault = (turn.failure.status, turn.failure.code) if turn.failure else ()
        turns.finish(conn, unsaved, turn.id, turn.session_id, turn.status, last, turn.usage, *fault)
        if turn.failure is not None:
            self._publish(conn, notifications.turn_failed(conn, turn.id, turn.failure))
