"""What passes from node to node: turns and tasks that others have left, and those that this one leaves as it drains."""

import asyncio
import logging

import anyio

from bytebrew.base.errors import StorageError
from bytebrew.contract.notifications import Subscriber
from bytebrew.conversation.recovery import recover
from bytebrew.conversation.remote.requests import carry_out
from bytebrew.conversation.runner import Runner
from bytebrew.conversation.tasks import Tasks
from bytebrew.nodes import members, session_requests
from bytebrew.nodes.node import Node
from bytebrew.nodes.signals import Ids
from bytebrew.store.database.database import Database
from bytebrew.store.journal import Journal

log = logging.getLogger(__name__)


class Handover:
    """Takes up what is left to this node, and leaves to others what is left of a session that it runs no more."""

    def __init__(
        self, db: Database, journal: Journal, runner: Runner, tasks: Tasks, publish: Subscriber, node: Node
    ) -> None:
        self._db, self._journal, self._runner, self._tasks = db, journal, runner, tasks
        self._publish, self._node = publish, node
        self.taking = anyio.Lock()
        """Held while turns are taken up."""
        self._takes = False
        self._idle = asyncio.Event()

    async def begin(self) -> None:
        """Goes on with what a stopped engine has left open; from now on also with what others leave."""
        self._takes = True
        await self.adopt()

    async def adopt(self, *, messages: bool = False) -> None:
        """Goes on with what this engine or a lost node has left open, or with `messages` that others have stored."""
        async with self.taking:
            if not self._takes:
                return
            if not self._runner.draining:
                node = self._node.id
                left = await recover(self._db, self._journal, self._runner, self._publish, node, queued=messages)
                if not self._runner.draining:  # since they were read
                    await self._runner.adopt(left)
            if not (self._runner.draining or messages):
                await self._tasks.adopt()
        self._idle.set()  # it may be for others

    async def carry_out(self, _: Ids) -> None:
        """Does what other nodes ask of this one."""
        if self._node.id is not None and await carry_out(self._db, self._runner, self._node.id):
            await self.adopt(messages=True)

    async def drain(self, seconds: float) -> None:
        """Ends the turns of this node, as `Runner.drain`; other nodes take up each session that has none any more."""
        self._node.leaving = True
        if self._node.id is None:
            await self._runner.drain(seconds)
            return
        async with anyio.create_task_group() as group:
            group.start_soon(self._give, self._node.id)
            await self._runner.drain(seconds)
            group.cancel_scope.cancel()

    async def _give(self, node: int) -> None:
        async with self.taking:  # no more turns begin here
            for lane in self._runner.lanes.values():
                lane.empty.add_done_callback(lambda _: self._idle.set())
        while True:
            self._idle.clear()
            try:
                await self._give_idle(node)
            except StorageError as error:  # the end of this node leaves the rest
                log.debug("sessions of which nothing runs here are not left to other nodes yet: %s", error)
            except Exception:
                log.exception("sessions of which nothing runs here are left to other nodes at the end of this one")
            await self._idle.wait()

    async def _give_idle(self, node: int) -> None:
        """Leaves the sessions of which nothing runs here, and ends turns that messages at other nodes interrupt."""
        lanes = self._runner.lanes
        here = [turn for lane in lanes.values() for turn in (lane.current, *lane.waiting)]
        await self._db.write(members.give, node, {*lanes, *(turn.root.session_id for turn in here)})
        for session_id, turn_id in (await self._db.read(session_requests.interrupting, node)).items():
            if turn_id not in self._runner.turns and (lane := lanes.get(session_id)):
                lane.current.cancel("cancelled")
