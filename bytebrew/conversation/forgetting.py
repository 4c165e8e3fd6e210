"""Forgets people: deletes their rows in small transactions, then the bytes of deleted rows, over restarts."""

import asyncio
import logging
from collections.abc import Mapping

import anyio
from msgspec.structs import replace

from bytebrew.base.errors import BootError, EngineError
from bytebrew.contract.connection import Connection
from bytebrew.contract.governance.personal_data import Person, PersonalData
from bytebrew.conversation.replay.replays import Replays
from bytebrew.conversation.runner import Runner
from bytebrew.conversation.tasks import Tasks
from bytebrew.conversation.turn import Turn
from bytebrew.store import sessions
from bytebrew.store.database.database import Database
from bytebrew.store.journal import Journal
from bytebrew.store.people import forgettings, personal_rows
from bytebrew.store.people.forgettings import Forgetting
from bytebrew.store.retention import SLICE, Pace

log = logging.getLogger(__name__)

LEAST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
"""Seconds after a failure, such as a full disk; doubled after each."""
LOOK_SECONDS = 0.05
"""Pause between two looks at a request that another node carries out."""
STOP_SECONDS = 5.0
"""How long to wait for the end of the turns of a session, as a tool may not end."""
_DELETED = "Its owner is to be forgotten"


class Forgettings:
    """Carries out the stored requests to forget a person, one after another.

    A session that the person begins meanwhile is deleted too: the last transaction of a request finds no row that is
    left, of any kind. Thereafter a new one is that of a person who came back.
    """

    def __init__(
        self,
        db: Database,
        journal: Journal,
        runner: Runner,
        tasks: Tasks,
        replays: Replays,
        kinds: Mapping[str, PersonalData],
    ) -> None:
        self._db, self._journal, self._runner, self._tasks, self._replays = db, journal, runner, tasks, replays
        self.kinds = kinds
        self._wake = asyncio.Event()
        self._ends: dict[str, asyncio.Future[Forgetting]] = {}

    def end(self, mask: str) -> "asyncio.Future[Forgetting]":
        """The end of a request that is about to be stored."""
        return self._ends.setdefault(mask, asyncio.get_running_loop().create_future())

    async def follow(self, begun: Forgetting) -> None:
        """Settles the end of a request that another node carries out, once its row is gone."""
        while begun.mask in self._ends:
            found = [one for one in await self._db.read(forgettings.list_all) if one.mask == begun.mask]
            if not found:
                self._ends.pop(begun.mask).set_result(begun)
                return
            begun = found[0]
            await asyncio.sleep(LOOK_SECONDS)

    def wake(self) -> None:
        """Starts with the requests that have been stored."""
        self._wake.set()

    async def run(self) -> None:
        """Runs for ever; starts with requests that a stopped engine left unfinished."""
        failures = 0
        while True:
            self._wake.clear()
            pause = min(LONGEST_PAUSE, LEAST_PAUSE * 2**failures)
            try:
                failures = 1 if await self._carry_out() else 0
            except (EngineError, BootError) as error:
                log.warning("a person is not forgotten yet: %s; the next attempt is in %g s", error, pause)
                failures += 1
            except Exception:
                log.exception("forgetting a person failed; the next attempt is in %g s", pause)
                failures += 1
            with anyio.move_on_after(pause if failures else None):
                await self._wake.wait()

    async def _carry_out(self) -> bool:
        """Carries out every stored request; returns whether one is left for later."""
        if not (requests := await self._db.read(forgettings.list_all)):
            return False
        for request in requests:
            if request.sub:
                await self._delete_rows(request)
        copies = await self._db.driver.erase(self._db.between)
        for request in await self._db.read(forgettings.list_all):
            if not request.sub and await self._db.write(forgettings.end, request.mask):
                counts = {**request.counts, **({"copies_before_migrating": copies} if copies else {})}
                if end := self._ends.pop(request.mask, None):
                    end.set_result(replace(request, counts=counts))
                log.info("a person is forgotten, whom the audit names %s", request.mask)
        return bool(await self._db.read(forgettings.list_all))

    async def _delete_rows(self, request: Forgetting) -> None:
        while True:
            person = await self._db.read(personal_rows.find, request.sub, request.mask)
            await self._stop(person)
            if await self._runner.remote.open_of(person):  # its end would store what it has cost
                continue
            for kind in self.kinds.values():
                await self._delete_kind(request.mask, kind, person)
            for session_id in person.sessions:
                self._journal.forget(session_id)
            pace = Pace(self._db)
            while True:
                begun = pace.begin()
                if await self._db.write(sessions.continue_removals, SLICE) < SLICE:
                    break
                await anyio.sleep(pace.rest(begun))
            await self._replays.stop(person.names)
            # a turn enters the runner before its session is stored, so none of this person's is on its way here
            if not self._running(person) and await self._db.write(self._end_rows, request):
                return

    async def _delete_kind(self, mask: str, kind: PersonalData, person: Person) -> None:
        def delete(conn: Connection) -> int:
            count = kind.forget(conn, person)
            forgettings.add(conn, mask, kind.name, count)
            return count

        pace = Pace(self._db)
        begun = pace.begin()
        while await self._db.write(delete):
            await anyio.sleep(pace.rest(begun))
            begun = pace.begin()

    def _end_rows(self, conn: Connection, request: Forgetting) -> bool:
        """Records that nothing is left, if that is so; deletes some of it otherwise."""
        person = personal_rows.find(conn, request.sub, request.mask)
        if sum(kind.forget(conn, person) for kind in self.kinds.values()) or person.sessions:
            return False
        forgettings.emptied(conn, request.mask)
        return True

    def _running(self, person: Person) -> list[Turn]:
        names, theirs = {*person.names}, {*person.sessions}
        return [
            turn
            for turn in self._runner.turns.values()
            if turn.session_id in theirs or names & {turn.subject, turn.new.owner, turn.new.user_sub}
        ]

    async def _stop(self, person: Person) -> None:
        """Cancels the person's open tasks and all turns in the person's sessions, and waits for their ends."""
        for task_id in await self._db.read(personal_rows.open_tasks, person):
            await self._tasks.cancel(task_id, None, _DELETED)
        elsewhere = await self._runner.remote.open_of(person)
        for session_id in dict.fromkeys([*(turn.session_id for turn in self._running(person)), *elsewhere]):
            with anyio.move_on_after(STOP_SECONDS):
                await self._runner.stop_session(session_id)
