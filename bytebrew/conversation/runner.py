"""Starts, queues, cancels and recovers turns; a turn does not belong to an HTTP request."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from bytebrew.base.cancellation import uncancelled
from bytebrew.base.errors import Draining, EngineError, NotFound, StorageError, TurnTimeout, Unprocessable
from bytebrew.contract.events import Event, MessageDone
from bytebrew.contract.messages import Message
from bytebrew.conversation import failed_turns, waiting_turns
from bytebrew.conversation.agent_loop import run_turn
from bytebrew.conversation.model_calls import BoundModel
from bytebrew.conversation.turn import Turn
from bytebrew.conversation.waiting_turns import OnBusy
from bytebrew.store import schemas, turns

if TYPE_CHECKING:
    from bytebrew.engine import Engine

log = logging.getLogger(__name__)

_LATER = "The engine is stopping; this turn goes on when it is back"


class Lane:
    """The turns of one session: one runs, the rest wait in order."""

    def __init__(self, first: Turn) -> None:
        self.owner = first.new.owner
        self.current = first
        self.waiting: deque[Turn] = deque()
        self.empty: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Runner:
    """Runs turns, one at a time in each session."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self.lanes: dict[str, Lane] = {}
        self._group: TaskGroup | None = None
        self.turns: dict[str, Turn] = {}
        self.draining = False

    async def run(self, group: TaskGroup, recovered: Sequence[Turn] = ()) -> None:
        """Takes the task group in which turns run, and goes on with those that a stopped engine left."""
        self._group = group
        for turn in recovered:
            turn.admitted.set_result(True)
            self.turns[turn.id] = turn
            if lane := self.lanes.get(turn.session_id):
                lane.waiting.append(turn)
            else:
                self.lanes[turn.session_id] = Lane(turn)
        for session_id, lane in self.lanes.items():
            group.start_soon(self._drive, session_id, lane)

    def turn(self, new: turns.NewTurn, entrance: schemas.Entrance, model: BoundModel | None = None) -> Turn:
        """A turn of the schema's entry agent, with its own model or the one given.

        Unprocessable where its model cannot be called, InvalidRequest where that cannot see an attachment.
        """
        if model is None and not entrance.targets:
            name = entrance.agent.model
            wanted = f"a model '{name}', which does not exist" if name else "a model, and there is none"
            words = f"Agent '{entrance.agent.name}' needs {wanted}; create it with POST /api/v1/models"
            raise Unprocessable(words, code="model_missing")
        if model is None:
            model = self._engine.models.bind(entrance.targets[0], entrance.targets[1:])
        model.check(new.attachments)
        return Turn(self._engine, new, entrance.agent, model)

    async def submit(self, turn: Turn, on_busy: OnBusy = "queue", *, bounded: bool = False) -> None:
        """Stores a turn and sees to it that it runs; raises Conflict where a busy session was not wanted.

        One that is `bounded` and would have to wait is refused where too much waits already.
        """
        if self._group is None or self.draining:
            raise Draining
        lane = self.lanes.get(turn.session_id)
        idle = lane is None
        if lane and bounded and on_busy != "reject":
            waiting_turns.check_room(self._engine, lane, turn)
        giving_way = waiting_turns.make_way(lane, turn, on_busy) if lane else []
        if lane is None:
            lane = self.lanes[turn.session_id] = Lane(turn)
        self.turns[turn.id] = turn
        with anyio.CancelScope(shield=True):
            admitted = False
            try:
                turn.log = await self._engine.journal.log(turn.session_id, new=turn.new.begins)
                if idle:
                    self._begin(turn)
                await self._engine.db.write(turns.admit, turn.new, turn.first)
                admitted = True
                if not idle:
                    waiting_turns.leave_to_the_file(turn)
                for one in giving_way:
                    one.cancel("cancelled")
                with suppress(StorageError):  # it is admitted, and gets on or fails by itself
                    turn.log = await self._engine.journal.log(turn.session_id)  # another if the session is one again
            finally:
                if not admitted:
                    del self.turns[turn.id]
                    turn.recorded = True  # as nothing
                    with suppress(ValueError):  # its turn may have come
                        lane.waiting.remove(turn)
                turn.admitted.set_result(admitted)
                if idle:
                    self._group.start_soon(self._drive, turn.session_id, lane)

    async def cancel(self, session_id: str) -> None:
        """Cancels the turn of the session that is running, and sees that into the file; those that wait go on."""
        if lane := self.lanes.get(session_id):
            (turn := lane.current).cancel("cancelled")
            await turn.end(patient=False)

    async def stop_session(self, session_id: str) -> None:
        """Cancels all turns of a session and waits for their end; StorageError where the file does not take that."""
        while lane := self.lanes.get(session_id):
            for turn in (lane.current, *lane.waiting):
                turn.cancel("cancelled")
            await lane.current.end(patient=False)

    async def drain(self, seconds: float) -> None:
        """Takes no more turns; lets those that run come to an end, and stops the rest, to go on at the next start.

        Those that wait for a person are stopped at once.
        """
        self.draining = True
        for turn in list(self.turns.values()):
            if turn.holds:
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
        turn.continues = turn.log.last > 0
        turn.status, turn.began = "running", time.monotonic()

    async def _drive(self, session_id: str, lane: Lane) -> None:
        try:
            while True:
                if await lane.current.admitted:
                    await self._run(lane.current)
                if not lane.waiting:
                    return
                lane.current = lane.waiting.popleft()
        finally:
            del self.lanes[session_id]
            lane.empty.set_result(None)

    async def _run(self, turn: Turn) -> None:
        try:
            try:
                with uncancelled():
                    await self._to_its_end(turn)
            except StorageError as error:
                log.error("turn %s cannot be recorded: %s", turn.id, error)
                await failed_turns.end_later(self._engine, turn, error)
            except EngineError:
                raise
            except Exception:
                log.exception("turn %s could not be recorded", turn.id)
                await failed_turns.end_later(self._engine, turn, failed_turns.internal(turn.id))
            for turn_id, failure in turn.hopeless:
                await failed_turns.closed(self._engine, turn.session_id, turn_id, failure)
        except EngineError as error:  # the engine stops, or the session was deleted
            turn.failure = error
            await self._engine.journal.close(turn.log, error)
            if isinstance(error, NotFound):
                await failed_turns.closed(self._engine, turn.session_id, turn.id, error, turn.unsaved)
        except Exception as error:
            log.exception("turn %s is left to the next start", turn.id)
            await self._engine.journal.close(turn.log, error)
        finally:
            turn.recorded = True
            self.turns.pop(turn.id, None)
            turn.log.notify()

    async def _to_its_end(self, turn: Turn) -> None:
        engine = self._engine
        if turn.status == "queued":
            if self.draining:
                raise Draining(_LATER)
            earlier, turn.log = turn.log, await engine.journal.log(turn.session_id)  # that may have failed meanwhile
            earlier.notify()
            self._begin(turn)
            try:
                turn.new = await engine.db.write(turns.start, turn.new, turn.first or 0)
            except NotFound:
                earlier, turn.log = turn.log, earlier  # for the new one is that of another session of this id
                earlier.notify()
                raise
        turn.log.notify()
        await engine.notify("turn_started", turn=turn)
        end = await self._outcome(turn)
        if end is not None and turn.past is not None:
            end = await failed_turns.settle_below(engine, turn, end)
        if end is None:
            if turn.unsaved.spent:
                await turn.record(turns.spend, turn.id)  # its last step is done again at the next start
            raise Draining(_LATER)
        await self._finish(turn, end)
        await engine.notify("turn_finished", turn=turn)

    async def _outcome(self, turn: Turn) -> Event | None:
        """Runs the turn; its last event says how it ended. None: it was stopped, and is to go on at the next start."""
        seconds = turn.new.time_limit or turn.agent.max_turn_duration
        try:
            with uncancelled(), turn.scope:
                turn.start_clock(seconds)
                turn.model.check(turn.new.attachments)  # which are known by now, also where the turn has waited
                await run_turn(turn)
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
            turn.failure = failed_turns.internal(turn.id)
        turn.status = "failed"
        return failed_turns.logged(turn, turn.failure)

    async def _finish(self, turn: Turn, end: Event) -> None:
        if said := "".join(turn.partial) + (turn.shown.text if turn.shown else ""):
            turn.unsaved.messages.append(Message("assistant", said, broken_off=turn.status))
        whole = [MessageDone(content="".join(turn.text))] if turn.status == "completed" else []
        turn.last = [turn.append(event) for event in (*whole, end)][-1]  # in one transaction
        fault = turn.failure.status if turn.failure else None
        await turn.record(turns.finish, turn.id, turn.session_id, turn.status, turn.last, turn.usage, fault)
