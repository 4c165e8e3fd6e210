"""Does an act again and again, each time with the next operation failing, and checks what must hold."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx

from bytebrew.testing import ADMIN
from tests import commands, ledger
from tests.faults import layer
from tests.faults.acts import ACTS, SECONDS, Client, Hangs, Refused, configure
from tests.faults.invariants import Seen, violations
from tests.faults.layer import Control, Fault
from tests.processes import send
from tests.receiver import receiving
from tests.stored import opened

BATCH = 20
"""Faults after which the file is checked."""


@dataclass
class Report:
    """How many operations were made to fail, and what was wrong then: `kind code at n of act: words`."""

    swept: int = 0
    ended: int = 0
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        wrong = "".join(f"\n  {one}" for one in self.violations)
        return (
            f"{self.swept} operations swept, {self.ended} ended the process, {len(self.violations)} violations{wrong}"
        )


class Engine:
    """A process on a data folder whose operations can be made to fail; started again whenever it has ended."""

    def __init__(self, folder: Path, code: Path | None = None, **more: str) -> None:
        folder.mkdir(exist_ok=True)
        self.data, self.control = folder / "data", Control(folder / "control")
        self.ledger = ledger.Ledger(folder / "ledger")
        self.errors = folder / "errors.log"
        commands.install(folder / "plugins", "ledger", Path(ledger.__file__).read_text())
        commands.install(folder / "plugins", "faults", layer.PLUGIN)
        self._environment = {
            "BYTEBREW_DATA_DIR": str(self.data),
            "BYTEBREW_PORT": "0",
            "BYTEBREW_BOOTSTRAP_ADMIN_TOKEN": ADMIN,
            "BYTEBREW_PLUGINS_DIR": str(folder / "plugins"),
            "BYTEBREW_LEDGER": str(folder / "ledger"),
            "BYTEBREW_DB_SYNCHRONOUS": "full",
            "BYTEBREW_TASK_RETRIES": "0",
            "PYTHONPATH": os.pathsep.join([*([str(code)] if code else []), *filter(None, sys.path)]),
            **layer.environment(self.control.path, self.data),
            **more,
        }
        self.http = httpx.AsyncClient(headers={"Authorization": f"Bearer {ADMIN}"}, timeout=SECONDS)
        self.seen = Seen()
        self.callback_url = ""
        self.starts = self.deaths = 0
        self.problems: list[str] = []
        self._known: set[str] = set()
        self._starting = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> bool:
        """Whether it serves now; if not, it has ended."""
        with self.errors.open("wb") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bytebrew", "serve"),
                env=commands.environment(self._environment),
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                cwd=self.data.parent,
            )
        assert self._process.stdout is not None
        try:
            line = (await asyncio.wait_for(self._process.stdout.readline(), 2 * SECONDS)).decode()
        except TimeoutError:
            self.problems.append(f"a start hangs: {self.errors.read_text()[:300]}")
            await self.kill()
            return False
        if not line:
            await self._process.wait()
            return False
        self.http.base_url = line.rsplit(" ", 1)[1].strip()
        self.starts += 1  # now: a request during the start still goes to the port of before
        return True

    async def ended(self) -> str | None:
        """What is wrong with how it ended; None where it lives."""
        assert self._process is not None
        with suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), 2)
        code, words = self._process.returncode, self.errors.read_text().strip()
        if code is None:
            return None
        return "" if (code > 0 and words) or code == -signal.SIGKILL else f"ended with {code} and {words[-300:]!r}"

    async def back(self, starts: int) -> None:
        """Returns once it serves again that had been started so often when a connection broke."""
        async with self._starting:
            if self.starts > starts:
                return
            wrong = await self.ended()
            if wrong is None:
                self.problems.append("closed a connection without an answer")
                return
            self.deaths += 1
            self.problems += [wrong] if wrong else []
            await self.again()

    async def again(self) -> None:
        """Kills it and starts it, which must go well."""
        self.control.disarm()
        await self.kill()
        assert await self.start(), self.errors.read_text()[-2000:]

    async def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None and self._process.returncode is None:
            send(self._process, signal.SIGKILL)
            await self._process.wait()

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        send(self._process, signal.SIGTERM)
        return await asyncio.wait_for(self._process.wait(), 60)

    async def idle(self) -> None:
        """Answers all questions until nothing is under way; gives up after some time."""
        client = Client(self)
        with anyio.move_on_after(SECONDS), suppress(Hangs, Refused):
            while self._open_turns():
                await client.approve_all()
                await asyncio.sleep(0.05)

    def violations(self) -> list[str]:
        """What is wrong with the file that was not before."""
        found = [one for one in violations(self.data, self.seen) if one not in self._known]
        self._known.update(found)
        problems, self.problems = self.problems, []
        return problems + found

    def repeated(self, sessions: Sequence[str]) -> list[str]:
        """What tools that may not run twice have done more often than they were called in these sessions."""
        sql = "select count(*) from tool_calls c join turns t on t.id = c.turn_id where c.tool = ? and t.session_id = ?"
        found = []
        with opened(self.data) as conn:
            for line, times in self.ledger.counts().items():
                name = line.partition(" ")[0]
                calls = sum(conn.execute(sql, (name, one)).fetchone()[0] for one in sessions)
                if name in ("pay", "sign") and times > calls:
                    found.append(f"{line} happened {times} times and was called {calls} times")
        return found

    async def health(self) -> str:
        """What it says of itself once it has tried."""
        try:
            answer = await self.http.get("/api/v1/health?deep=true", timeout=5)
        except httpx.TransportError as error:
            return type(error).__name__
        return str(answer.json()["status"] if answer.status_code == 200 else answer.json())

    def _open_turns(self) -> int:
        sql = """select (select count(*) from turns where status in ('queued', 'running'))
          + (select count(*) from tasks where status in ('pending', 'in_progress'))
          + (select count(*) from callbacks_deliveries where status = 'pending')"""
        with opened(self.data) as conn:
            count: int = conn.execute(sql).fetchone()[0]
        return count


@asynccontextmanager
async def engine_in(folder: Path, code: Path | None = None, **more: str) -> AsyncIterator[Engine]:
    """An engine that serves and is configured; `code` is a folder whose `bytebrew` goes before that of the tests.

    It has `more` in its environment, and may call a receiver back.
    """
    async with receiving() as receiver:
        engine = Engine(folder, code, BYTEBREW_CALLBACK_ORIGINS=receiver.url, **more)
        engine.callback_url, engine.seen.received = receiver.url, receiver.received
        try:
            assert await engine.start(), engine.errors.read_text()
            await configure(Client(engine))
            yield engine
        finally:
            await engine.kill()
            await engine.http.aclose()


class Sweep:
    """One act under one fault, for n from `start` in steps of `stride`, until it has fewer than n operations."""

    def __init__(self, engine: Engine, act: str, fault: Fault, report: Report) -> None:
        self._engine, self._act, self._fault, self._report = engine, act, fault, report
        self._n_of: dict[str, int] = {}

    async def run(self, start: int = 1, stride: int = 1, most: int = 100_000) -> None:
        """Sweeps and reports."""
        missed = 0
        for batch, n in enumerate(range(start, most, stride), 1):
            hit = await self.fail(n)
            missed = 0 if hit else missed + 1
            if missed == 2:
                break
            if batch % BATCH == 0:
                await self._check()
        await self._check()

    async def until(self, words: str, start: int = 1, stride: int = 1) -> int:
        """The n at which something was wrong that such words are about; AssertionError where that was never."""
        for n in range(start, start + 60 * stride, stride):
            await self.fail(n)
            await self._check()
            if any(re.search(words, one) for one in self._report.violations):
                return n
        raise AssertionError(f"nothing of '{words}' was found: {self._report}")

    async def fail(self, n: int) -> int:
        """The act with its n-th operation failing; how many have failed."""
        engine, deaths = self._engine, self._engine.deaths
        engine.ledger.clear()
        client = Client(engine)
        engine.control.arm(self._fault, n)
        try:
            async with asyncio.timeout(2 * SECONDS):
                await ACTS[self._act](client, n)
        except (TimeoutError, Hangs) as error:
            self._tell(n, f"hangs {error}; health says {await engine.health()}")
            await engine.again()
        except Refused:
            pass  # it is among the problems
        finally:
            engine.control.disarm()
        hits = engine.control.hits
        self._n_of.update(dict.fromkeys(client.sessions, n))
        for problem in client.problems + engine.problems + engine.repeated(client.sessions):
            self._tell(n, problem)
        engine.problems.clear()
        await self._healthy(n)
        self._report.swept += hits
        self._report.ended += engine.deaths - deaths
        return hits

    def _tell(self, n: int, words: str) -> None:
        self._report.violations.append(f"{self._fault} at {n or '?'} of {self._act}: {words}")

    async def _healthy(self, n: int) -> None:
        says = ""
        for _ in range(20):
            if (says := await self._engine.health()) == "ok":
                return
            await asyncio.sleep(0.1)
        self._tell(n, f"health says {says} after the fault")
        await self._engine.again()

    async def _check(self) -> None:
        """What holds of the file once nothing is under way."""
        await self._engine.idle()
        for one in self._engine.violations():
            self._tell(self._n_of.get(self._session(one), 0), one)

    def _session(self, words: str) -> str:
        """The session of a person's message that a violation is about."""
        turn_id, session_id = re.search(r"turn_\w+", words), re.search(r"[0-9a-f]{8}-[0-9a-f-]{27}", words)
        sql = """select root.session_id from turns t join turns root on root.id = t.root_turn_id
          where t.id = ? or t.session_id = ?"""
        with opened(self._engine.data) as conn:
            row = conn.execute(sql, [one and one[0] for one in (turn_id, session_id)]).fetchone()
        return row[0] if row else session_id[0] if session_id else ""


async def boots(engine: Engine, fault: Fault, report: Report, *, start: int = 1, stride: int = 1) -> None:
    """A start with its n-th operation failing: it serves, or has ended in words; the next one serves."""
    for n in range(start, 100_000, stride):
        await engine.kill()
        engine.control.arm(fault, n)
        served = await engine.start()
        engine.control.disarm()
        hits = engine.control.hits
        report.swept += hits
        report.ended += not served
        wrong = "" if served else await engine.ended()
        if served and (says := await engine.health()) != "ok":
            wrong = f"health says {says}"
        report.violations += [f"{fault} at {n} of a start: {one}" for one in (wrong, *engine.problems) if one]
        engine.problems.clear()
        if not hits:
            return
