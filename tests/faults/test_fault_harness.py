"""An engine that is killed at every record and at random instants, while its client and the world around it live on."""

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from aiohttp import web

from bytebrew.base.formats import new_uuid
from bytebrew.store import messages, sessions
from bytebrew.store.queries.events import read_events
from bytebrew.testing import ADMIN
from tests.commands import BYTEBREW, environment, install
from tests.conversation.test_confirmations import LINE, answer, engine_on, follow, say
from tests.conversation.test_confirmations import configure as ledger_agent
from tests.conversation.test_recovery import person, stopped
from tests.ledger import Ledger
from tests.processes import send
from tests.stored import opened

EVERY, MODES, RANDOM = (1, 2, 80) if "ALL_FAULTS" in os.environ else (11, 1, 4)
"""Each how manieth record is tried, in how many ways to run tools, and how many kills come at random instants."""

DOOM = '''
"""A tool that works in a process of its own, and a death that can be ordered."""
import os
import signal
import anyio
from bytebrew import Route, hookimpl, tool
from ledger_plugin import LedgerSettings

def doom(db, side, at):
    """SIGKILL at a transaction from now: before it, or after it and before anybody is told."""
    run = db._writer.run

    async def counted(work):
        nonlocal at
        at -= 1
        if at == 0 and side == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = await run(work)
        if at == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    db._writer.run = counted

@hookimpl
async def startup(engine):
    if ordered := os.environ.get("DOOM"):
        side, at = ordered.split()
        doom(engine.db, side, int(at))

@hookimpl
def register_routes(register, engine):
    async def order(request):
        doom(engine.db, request.path["side"], int(request.path["at"]))

    register(Route(method="GET", path="/doom/{side}/{at}", scope=None, run=order, summary="Order a death"))

@hookimpl
def register_tools(register, settings):
    path = str(settings.of(LedgerSettings).ledger)

    @tool
    async def append(n: int) -> str:
        """Adds a line, which cannot be taken back."""
        await anyio.run_process(["sh", "-c", 'sleep 0.003; echo "append $0" >> "$1"; sleep 0.003', str(n), path])
        return f"appended {n}"

    register(append)
'''
SAID, CHILD_SAID = "one two three four five.", "I did"
STEPS = {SAID: 4, CHILD_SAID: 2}


def script(n: int) -> str:
    """What the models do in a run: all kinds of tools, an agent that is spawned, and questions."""
    child = [["I ", 0.003, ["append", {"n": -n}], ["sign", {"name": f"{-n}"}]], ["did"]]
    spawn = ["spawn_helper", {"message": json.dumps(child)}]
    return json.dumps(
        [
            ["one ", 0.003, "two ", ["append", {"n": n}]],
            ["three ", ["post", {"n": n}], ["pay", {"amount": n}]],
            ["four ", spawn, ["sign", {"name": f"{n}"}]],
            ["five", 0.003, "."],
        ]
    )


async def frames(response: httpx.Response) -> AsyncIterator[bytes]:
    """The events of a stream as they are; a last one that was cut is none."""
    rest = b""
    async for chunk in response.aiter_raw():
        *whole, rest = (rest + chunk).split(b"\n\n")
        for frame in whole:
            if not frame.startswith(b":"):
                yield frame


class Run:
    """A message, and its client, who comes back whenever the engine does until the turn has ended."""

    def __init__(self, client: httpx.AsyncClient, n: int) -> None:
        self.n = n
        self.session_id = new_uuid()
        self.seen: list[bytes] = []
        self._client = client
        self.task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        schema, path = ("parallel", "sequential")[self.n % 2], f"/api/v1/sessions/{self.session_id}/events"
        body = {"message": script(self.n), "session_id": self.session_id, "subagents": self.n % 4 > 1}
        while not self.over:
            if self.seen:
                last = self.seen[-1].partition(b"\n")[0].removeprefix(b"id: ").decode()
                asked = self._client.stream("GET", path, headers={"Last-Event-ID": last})
            else:
                key = {"Idempotency-Key": self.session_id}
                asked = self._client.stream("POST", f"/api/v1/schemas/{schema}/chat", json=body, headers=key)
            with suppress(httpx.TransportError):
                await self._read(asked)
            await asyncio.sleep(0.005)

    async def _read(self, asked: Any) -> None:
        async with asked as response:
            if response.status_code != 200:
                raise AssertionError(f"{response.status_code}: {(await response.aread()).decode()}")
            async for frame in frames(response):
                self.seen.append(frame)
                if self.over:
                    return

    @property
    def over(self) -> bool:
        """Whether its last event has come."""
        return bool(self.seen) and self.seen[-1].split(b"\n")[1] in (b"event: done", b"event: error")

    async def end(self) -> None:
        """Returns once it is over."""
        with anyio.fail_after(30):
            await self.task

    async def replay(self) -> list[bytes]:
        """What a client sees who comes now."""
        found: list[bytes] = []
        async with self._client.stream("GET", f"/api/v1/sessions/{self.session_id}/events") as response:
            async for frame in frames(response):
                found.append(frame)
                if len(found) == len(self.seen):
                    break
        return found


class Engines:
    """One engine after the other on one data folder; `kills` counts those that did not end by themselves."""

    def __init__(self, folder: Path, client: httpx.AsyncClient) -> None:
        install(folder / "plugins", "ledger", LINE)
        install(folder / "plugins", "doom", DOOM)
        self.client = client
        self.data = folder / "data"
        self.ledger = Ledger(folder / "ledger")
        self.kills = 0
        self.asked: list[str] = []
        self._errors = folder / "errors.log"
        self._settings = {
            "BYTEBREW_DATA_DIR": str(self.data),
            "BYTEBREW_PORT": "0",
            "BYTEBREW_BOOTSTRAP_ADMIN_TOKEN": ADMIN,
            "BYTEBREW_PLUGINS_DIR": str(folder / "plugins"),
            "BYTEBREW_LEDGER": str(folder / "ledger"),
        }
        self._process: asyncio.subprocess.Process

    async def spawn(self, doom: str = "") -> None:
        """A process, of which it is not known yet whether it will serve."""
        given = environment({**self._settings, "DOOM": doom})
        with self._errors.open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *BYTEBREW, "serve", env=given, stdout=asyncio.subprocess.PIPE, stderr=errors
            )

    async def ready(self) -> None:
        """Returns once it serves, or is dead."""
        assert self._process.stdout is not None
        line = (await self._process.stdout.readline()).decode()
        if line:
            self.client.base_url = line.rsplit(" ", 1)[1].strip()

    async def start(self, doom: str = "") -> None:
        """A process that serves."""
        await self.spawn(doom)
        await self.ready()

    async def kill(self) -> None:
        """SIGKILL: no word of farewell."""
        send(self._process, signal.SIGKILL)
        await self.dead()

    async def dead(self) -> None:
        """Returns once it is."""
        await self._process.wait()
        assert self._process.returncode == -9, self._errors.read_text()[-4000:]
        self.kills += 1

    async def outlived(self, run: Run) -> bool:
        """Whether it still lives at the end of a run."""
        death = asyncio.create_task(self._process.wait())
        with anyio.fail_after(30):
            await asyncio.wait([run.task, death], return_when=asyncio.FIRST_COMPLETED)
        if self._process.returncode is None:
            death.cancel()
            return True
        await self.dead()
        return False


@asynccontextmanager
async def post_office(written: Ledger) -> AsyncIterator[str]:
    """A server that adds a line for each request; its URL."""

    async def post(request: web.Request) -> web.Response:
        written.add(f"post {request.match_info['n']}")
        await asyncio.sleep(0.003)
        return web.Response(text="posted")

    app = web.Application()
    app.router.add_post("/{n}", post)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def configure(client: httpx.AsyncClient, office: str) -> None:
    """Schemas `sequential` and `parallel`, whose agents run their tools so and may spawn `helper`."""
    tools = ["append", "post", "pay", "sign"]
    url = {"url": f"{office}/{{{{n}}}}", "parameters": {"n": {"type": "integer"}}}
    wanted: list[tuple[str, dict[str, Any]]] = [
        ("models", {"name": "steps", "type": "steps", "model_name": "steps"}),
        ("tools", {"name": "post", "method": "POST", "description": "Posts", **url}),
        ("agents", {"name": "helper", "model": "steps", "tools": tools}),
    ]
    for mode in ("sequential", "parallel"):
        agent = {"name": mode, "model": "steps", "tools": tools, "can_spawn": ["helper"], "tool_execution": mode}
        wanted += [("agents", agent), ("schemas", {"name": mode, "entry_agent": mode, "chat_enabled": True})]
    for path, body in wanted:
        made = await client.post(f"/api/v1/{path}", json=body)
        assert made.status_code == 201, made.text


@asynccontextmanager
async def engines_in(folder: Path) -> AsyncIterator[Engines]:
    """Engines, the first of which serves and is configured, and a person who answers all that they ask."""
    headers = {"Authorization": f"Bearer {ADMIN}"}
    async with httpx.AsyncClient(headers=headers, timeout=30) as client:
        engines = Engines(folder, client)
        async with post_office(engines.ledger) as office:
            await engines.start()
            try:
                await configure(client, office)
                async with person(client, engines.ledger) as engines.asked:
                    yield engines
            finally:
                await engines.kill()


def events(raw: list[tuple[int, str, bytes]], name: str) -> list[dict[str, Any]]:
    """The data of the events of a type that are the turn's own."""
    datas = [json.loads(data) for _, kind, data in raw if kind == name]
    return [data for data in datas if "agent" not in data]


async def check(engines: Engines, run: Run, kills: int) -> None:
    """Nothing is lost and nothing twice, for the client, in the file, and out in the world."""
    assert await run.replay() == run.seen
    counts = engines.ledger.counts()
    n = run.n
    done = [f"append {n}", f"append {-n}", f"post {n}", f"pay {n}", f"sign {n}", f"sign {-n}"]
    assert {line: counts[line] for line in done} == dict.fromkeys(done, 1)
    assert sum(STEPS.values()) <= sum(counts[f"model {step}"] for step in range(4)) <= sum(STEPS.values()) + kills
    with opened(engines.data) as conn:
        root, child = sessions.below(conn, run.session_id)
        for session_id, said, calls in ((root, SAID, 5), (child, CHILD_SAID, 2)):
            raw = [row[:3] for row in read_events(conn, session_id, 0, 10_000)]
            assert [number for number, _, _ in raw] == list(range(1, len(raw) + 1))
            assert raw[-1][1] == "done"
            assert "".join(delta["content"] for delta in events(raw, "message_delta")) == said
            assert [message["content"] for message in events(raw, "message")] == [said]
            started, ended = ([one["call_id"] for one in events(raw, f"tool_{of}")] for of in ("call", "result"))
            assert len(started) == len(set(started)) == calls
            assert Counter(started) == Counter(ended)
            [turn] = conn.execute("select * from turns where session_id = ?", (session_id,)).fetchall()
            steps = STEPS[said] + (STEPS[CHILD_SAID] if session_id == root else 0)
            assert (turn["status"], turn["input_tokens"], turn["output_tokens"]) == ("completed", 10 * steps, steps)
            assert events(raw, "done")[0]["usage"]["input_tokens"] == 10 * steps
            paid = "select count(*), sum(input_tokens) from usage where turn_id = ?"
            assert tuple(conn.execute(paid, (turn["id"],)).fetchone()) == (STEPS[said], 10 * STEPS[said])
            kept = messages.of_turn(conn, session_id, turn["id"])
            assert Counter(one.role for one in kept) == {"user": 1, "assistant": STEPS[said], "tool": calls}
            assert len(messages.paired(kept)) == len(kept)
            assert "".join(one.content for one in kept if one.role == "assistant") == said
            for table, over in (("tool_calls", {"completed"}), ("confirmations", {"spent", "approved"})):
                states = conn.execute(f"select status from {table} where turn_id = ?", (turn["id"],))
                assert {row["status"] for row in states} <= over


def records() -> Iterator[tuple[int, int]]:
    """Records at which an engine is killed, each with the number of a run."""
    runs = count(1)
    for at in range(1, 500, EVERY):
        for _ in range(MODES):
            yield at, next(runs)


@pytest.mark.kills
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("side", ["before", "after"])
async def test_killed_at_a_record(side: str, tmp_path: Path) -> None:
    async with engines_in(tmp_path) as engines:
        outlived = 0
        for at, n in records():
            engines.ledger.clear()
            assert (await engines.client.get(f"/doom/{side}/{at}")).status_code == 204
            run = Run(engines.client, n)
            if await engines.outlived(run):
                outlived += 1
                await engines.kill()
            await engines.start()
            await run.end()
            await check(engines, run, 1)
            if outlived == MODES:
                break
        assert 15 < at < 100
        assert "unknown_outcome" in engines.asked or EVERY > 1


@pytest.mark.kills
@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_killed_again_at_a_record_while_it_is_taken_up(tmp_path: Path) -> None:
    async with engines_in(tmp_path) as engines:
        outlived = 0
        for at, n in records():
            engines.ledger.clear()
            run = Run(engines.client, n)
            while len(run.seen) < 1 + at * 5 % 17:
                await asyncio.sleep(0)
            await engines.kill()
            await engines.start(f"{'before' if at % 2 else 'after'} {at}")
            if await engines.outlived(run):
                outlived += 1
                await engines.kill()
            await engines.start()
            await run.end()
            await check(engines, run, 2)
            if outlived == MODES:
                break
        assert 5 < at < 100


@pytest.mark.kills
@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_killed_at_random_instants(tmp_path: Path) -> None:
    dice = random.Random(4)
    async with engines_in(tmp_path) as engines:
        began = time.monotonic()
        run = Run(engines.client, 1)
        await run.end()
        seconds = time.monotonic() - began
        await engines.kill()
        began = time.monotonic()
        await engines.start()
        start = time.monotonic() - began
        while engines.kills < RANDOM:
            engines.ledger.clear()
            before = engines.kills
            run = Run(engines.client, run.n + 1)
            await asyncio.sleep(dice.uniform(0, seconds))
            await engines.kill()
            while dice.random() < 0.4:
                await engines.spawn()
                await asyncio.sleep(dice.uniform(start / 2, start + seconds))
                await engines.kill()
            await engines.start()
            await run.end()
            await check(engines, run, engines.kills - before)


async def test_a_retry_that_is_cut_too_is_asked_about_again(tmp_path: Path) -> None:
    async with engine_on(tmp_path) as (running, client, written):
        await ledger_agent(client)
        talk = say(client, [[["pay", {"amount": 1, "slow": 30}]], ["ok"]])
        while not written.counts()["pay 1"]:
            await asyncio.sleep(0.01)
        await stopped(running, talk)
    async with engine_on(tmp_path) as (running, client, written):
        rest = follow(client, talk.session_id)
        [asked] = await rest.until("confirmation")
        written.clear()  # so that the tool takes its time once more
        await answer(client, talk.session_id, asked["call_id"], "retry")
        while not written.counts()["pay 1"]:
            await asyncio.sleep(0.01)
        await running.drain(0)
        await rest.end()
    async with engine_on(tmp_path) as (_, client, written):
        rest = follow(client, talk.session_id)
        [_, again] = await rest.until("confirmation", 2)
        assert (again["kind"], again["call_id"]) == ("unknown_outcome", asked["call_id"])
        assert (await answer(client, talk.session_id, asked["confirmation_id"], "retry")).status_code == 404
        await answer(client, talk.session_id, again["call_id"], "mark_done")
        await rest.end()
    assert [result["has_error"] for result in rest.datas("tool_result")] == [False]
    assert written.counts()["pay 1"] == 1
