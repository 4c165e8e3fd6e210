"""This engine as a node: its lease, and the end of others whose lease has run out."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from uuid import UUID, uuid5

import anyio
from msgspec.structs import replace

from bytebrew.base.errors import Fenced, StorageError
from bytebrew.base.formats import new_uuid
from bytebrew.contract.connection import Connection
from bytebrew.contract.governance.nodes import NodeFigures
from bytebrew.nodes import members
from bytebrew.nodes.members import NodeRow
from bytebrew.store.database.aiosqlite_fixes import WorkConnection, open_connection
from bytebrew.store.database.database import Database
from bytebrew.store.database.outage import patient
from bytebrew.version import __version__

log = logging.getLogger(__name__)

LEASE_SECONDS = 10.0
"""How long a node may say nothing before another one ends it and takes over its work."""
BEAT_SECONDS = 1.0
"""Seconds between two signs of life."""


class Node:
    """An engine among those that share its database; the only one, which leads, on a database that is not shared.

    It is fenced once another node has ended it: its database takes nothing more from it, so the process must start
    anew. The node with the lowest id leads: it stays the leader until it is ended or leaves.
    """

    def __init__(self, db: Database, folder: Path, key_code: str) -> None:
        self._db, self._folder, self._key_code = db, folder, key_code
        self.id: int | None = None
        self.leads = not db.driver.shared
        self.all: list[NodeRow] = []
        """The nodes at the last sign of life."""
        self.led = asyncio.Event()
        """Set as soon as it leads."""
        self.leaving = False
        """Whether it drains, and leaves to others what no node has."""
        self.counts = NodeFigures()
        """What is counted since the start."""
        self._seen: dict[int, tuple[float, float]] = {}
        self._renewed = 0.0
        self._epoch = 1
        self._away = False
        self._taken = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()
        """What is done for as long as it is this node."""
        self._taking: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def lives(self, epoch: int, adopt: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        """Is a node within the block, before anything else is written; `epoch` is that of the history.

        It says each second that it lives, and ends nodes that do not; `adopt` goes on with what it has taken over. A
        connection of its own says so, as the writer may be busy; it is opened anew when it is lost. What the node
        leaves open is for others.
        """
        self._epoch = epoch
        if not self._db.driver.shared:
            self.led.set()
            yield
            return
        self.id = await self._db.write(members.join, self._name(), __version__, self._key_code, LEASE_SECONDS)
        self._db.driver.node = self.id
        self._look(await self._db.read(members.list_all))
        tasks = [
            asyncio.create_task(self._run(), name=f"lease of node {self.id}"),
            asyncio.create_task(self._adopt(adopt), name=f"takeover by node {self.id}"),
        ]
        for task in tasks:
            task.add_done_callback(self._stopped)
        try:
            yield
        finally:
            tasks += [*self.tasks, *([self._taking] if self._taking else [])]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            with suppress(StorageError):  # its lease runs out
                await self._db.write(members.leave, self.id)
            self.id = self._db.driver.node = None

    def _stopped(self, beating: "asyncio.Task[None]") -> None:
        if not beating.cancelled() and (error := beating.exception()) is not None:
            log.critical("the %s has ended", beating.get_name(), exc_info=error)
            self._db.end(Fenced())

    async def _adopt(self, adopt: Callable[[], Awaitable[None]]) -> None:
        """Goes on with what was taken over, beside the signs of life, as it may be much."""
        patient.set(True)
        while True:
            await self._taken.wait()
            self._taken.clear()
            try:
                await adopt()
            except Exception:
                log.exception("what another node left open could not be taken up; trying again in a moment")
                self._taken.set()
                await asyncio.sleep(BEAT_SECONDS)

    async def _run(self) -> None:
        driver = self._db.driver
        while not self._db.lost.is_set():
            try:
                connection = await self._open()
            except (driver.error, MemoryError) as error:
                self._missed(error)
                await asyncio.sleep(BEAT_SECONDS)
                continue
            try:
                await self._beat_forever(connection)
            except driver.error as error:
                self._missed(error)
            finally:
                with suppress(driver.error), anyio.CancelScope(shield=True):
                    await connection.close()

    async def _open(self) -> WorkConnection:
        """A connection; one that opens while the node leaves is closed."""
        driver = self._db.driver
        opening = asyncio.create_task(open_connection(driver.open, driver.error))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            with suppress(driver.error, MemoryError):
                await (await opening).close()
            raise

    def _missed(self, error: Exception) -> None:
        """Notes that the lease was not renewed: the others may have had no database either."""
        self._seen.clear()
        if not self._away:  # once per outage
            self._away = True
            log.warning("the lease is not renewed: %s", self._db.driver.fault(error) or error)

    async def _beat_forever(self, connection: WorkConnection) -> None:
        driver = self._db.driver
        while self.id is not None:
            begun = time.monotonic()
            rows, epoch = await connection.run(partial(_beat, self.id))
            self._look(rows)
            self._away = False
            if self.id not in {one.id for one in self.all}:
                self._db.end(Fenced())
                return
            if epoch != self._epoch:
                self._db.end(Fenced("The history has a new epoch, as after a failover; this node starts anew"))
                return
            if lost := self._lost():
                await connection.run(driver.end_stalled)  # else the takeover might wait for the lost node itself
            if not self.leaving and (lost or await connection.run(members.has_orphans)):
                self._take(lost)
            await asyncio.sleep(max(0.0, begun + BEAT_SECONDS - time.monotonic()))

    def _look(self, rows: list[NodeRow]) -> None:
        """Remembers since when each node has not been heard of, by this node's monotonic clock."""
        self.all, self._renewed = rows, (moment := time.monotonic())
        self._seen = {
            one.id: before if (before := self._seen.get(one.id)) and before[0] == one.seen else (one.seen, moment)
            for one in rows
        }
        if rows and rows[0].id == self.id and not self.leads:
            log.info("node %s leads", self.id)
            self.leads = True
            self.led.set()

    def figures(self) -> NodeFigures | None:
        """Figures for operators; None where it has the database alone."""
        if self.id is None:
            return None
        silence = max(self.silence().values(), default=0.0)
        age = time.monotonic() - self._renewed
        return replace(self.counts, nodes=len(self.all), silence=silence, lease_age=age)

    def silence(self) -> dict[int, float]:
        """Seconds since each other node was last heard of; without those that were not since an outage."""
        moment = time.monotonic()
        return {node: moment - heard for node, (_, heard) in self._seen.items() if node != self.id}

    def _lost(self) -> list[NodeRow]:
        """The nodes that were not heard of for too long."""
        silence = self.silence()
        return [one for one in self.all if silence.get(one.id, 0.0) > LEASE_SECONDS]

    def _take(self, lost: Sequence[NodeRow]) -> None:
        """Takes what no living node has, beside the signs of life: the writer may be busy for long."""
        if self._taking is None or self._taking.done():  # else the next beat looks again
            self._taking = asyncio.create_task(self._take_over(lost), name=f"node {self.id} takes over")
            self._taking.add_done_callback(self._stopped)

    async def _take_over(self, lost: Sequence[NodeRow]) -> None:
        assert self.id is not None
        try:
            for one in lost:
                if (turns := await self._db.write(members.take_over, one.id, self.id, one.seen)) is not None:
                    log.warning("node %s (%s) was not heard of for %g s: it is ended", one.id, one.name, LEASE_SECONDS)
                    self.counts.nodes_ended += 1
                    self.counts.turns_taken_over += turns
            self.counts.turns_taken_over += await self._db.write(members.take_orphans, self.id)
        except StorageError as error:
            log.debug("what no node has is taken over after the next sign of life: %s", error)
        finally:  # some may have been taken
            self._taken.set()

    def _name(self) -> str:
        """The name of the data folder: who starts on it, with its lock, knows that the node before has ended.

        It is another one in a copy of the folder, whose file has another inode: nodes of one name end each other.
        """
        file = self._folder / "node"
        if not file.exists():
            file.touch(0o600)
        if not (name := file.read_text()):  # also where its first start was killed
            name = new_uuid()
            file.write_text(name)
        return str(uuid5(UUID(name), str(file.stat().st_ino)))


def _beat(node: int, conn: Connection) -> tuple[list[NodeRow], int]:
    return members.beat(conn, node)
