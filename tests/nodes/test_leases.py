"""A node lives by its lease: who is not heard of is ended, and its work goes on elsewhere as after a restart."""

import asyncio
import gc
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path

import anyio
import pytest
from bytebrew_postgres.driver import LOCK

from bytebrew.base.errors import BootError, Fenced, StorageError
from bytebrew.base.formats import new_uuid
from bytebrew.config import versions
from bytebrew.contract.connection import Connection
from bytebrew.contract.events import MessageDelta
from bytebrew.engine import Engine
from bytebrew.nodes import members
from bytebrew.nodes import node as node_module
from bytebrew.store.queries.events import read_events
from bytebrew.testing import ScriptedProvider, Step, chat, client, engine, providing, scripted_schema
from bytebrew.testing.postgres import Server, server

pytestmark = pytest.mark.postgresql
LEASE = 5.0


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    with server() as made:
        yield made


@pytest.fixture
def url(own: Server, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """That of an empty database; leases end soon."""
    monkeypatch.setattr(node_module, "LEASE_SECONDS", LEASE)
    monkeypatch.setattr(node_module, "BEAT_SECONDS", 0.2)
    name = f"e{abs(hash(request.node.name))}"
    own.execute(f"create database {name} owner bytebrew")
    return own.url(name)


@asynccontextmanager
async def running(url: str, data: Path, *answers: list[Step]) -> AsyncIterator[Engine]:
    """A node, with the key that all have."""
    provider = ScriptedProvider(*(answers or ([MessageDelta(content="from another")],)))
    (data / "keys").mkdir(parents=True, exist_ok=True)
    (data / "keys" / "secrets.key").write_text("07" * 32)
    settings = {"BYTEBREW_DATABASE_URL": url}
    async with engine(providing(provider), data=data, settings=settings) as made:
        yield made


class Apart:
    """A node in a task of its own, which may end before nodes that were started after it, or after those before it."""

    def __init__(self, url: str, data: Path, *answers: list[Step]) -> None:
        self._leaving = asyncio.Event()
        self._engine: asyncio.Future[Engine] = asyncio.get_running_loop().create_future()
        self._running = asyncio.create_task(self._run(running(url, data, *answers)))

    async def _run(self, starting: AbstractAsyncContextManager[Engine]) -> None:
        try:
            async with starting as made:
                self._engine.set_result(made)
                await self._leaving.wait()
        except Exception as error:
            if self._engine.done():
                raise
            self._engine.set_exception(error)

    async def __aenter__(self) -> Engine:
        return await self._engine

    async def __aexit__(self, *exc: object) -> None:
        self._leaving.set()
        await self._running


async def until(holds: Callable[[], object], seconds: float = 30) -> None:
    with anyio.fail_after(seconds):
        while not holds():
            await asyncio.sleep(0.02)


async def begun(first: Engine, session_id: str) -> "asyncio.Task[object]":
    """A chat whose turn has committed its first delta, and then waits."""

    async def say() -> object:
        async with client(first) as http:
            return await chat(http, "test", "hi", session_id=session_id)

    task = asyncio.create_task(say())
    await until(lambda: (log := first.journal._logs.get(session_id)) and log.committed >= 1)
    return task


async def status(on: Engine, session_id: str) -> str:
    sql = "select status from turns where session_id = ?"
    return str((await on.db.read(lambda conn: conn.execute(sql, (session_id,)).fetchone()))[0])


async def completed(on: Engine, session_id: str) -> None:
    with anyio.fail_after(30):
        while await status(on, session_id) != "completed":
            await asyncio.sleep(0.05)


def _kinds(conn: Connection, session_id: str) -> list[str]:
    return [name for _, name, _, _ in read_events(conn, session_id, 0, 2**62)]


async def test_a_node_that_is_not_heard_of_is_ended_and_can_write_nothing_more(url: str, tmp_path: Path) -> None:
    session_id = new_uuid()
    slow: list[Step] = [MessageDelta(content="from "), 60.0]
    async with running(url, tmp_path / "b") as other, Apart(url, tmp_path / "a", slow) as lost:
        await scripted_schema(other)
        chats = await begun(lost, session_id)
        name = f"lease of node {lost.node.id}"  # it lives, and says so no more
        next(task for task in asyncio.all_tasks() if task.get_name() == name).cancel()
        await completed(other, session_id)
        with pytest.raises(Fenced):
            await lost.db.write(lambda conn: conn.execute("update sessions set title = 'late'"))
        assert lost.db.lost.is_set()
        with pytest.raises(StorageError):
            await lost.db.read(members.list_all)
        assert [one.id for one in await other.db.read(members.list_all)] == [other.node.id]
        kinds = await other.db.read(_kinds, session_id)
        assert kinds[-2:] == ["message", "done"]
        assert kinds.count("done") == 1
        await until(lambda: (figures := other.node.figures()) and figures.nodes == 1)
        assert (other.node.counts.nodes_ended, other.node.counts.turns_taken_over) == (1, 1)
    await asyncio.wait([chats])
    chats.exception()


async def test_a_node_finds_out_by_its_next_sign_of_life_that_it_was_ended(url: str, tmp_path: Path) -> None:
    async with running(url, tmp_path / "a") as first, running(url, tmp_path / "b") as other:
        assert first.node.id is not None
        assert other.node.id is not None
        await other.db.write(members.take_over, first.node.id, other.node.id)
        await asyncio.wait_for(first.db.lost.wait(), 10)
        assert isinstance(first.db.fault, Fenced)


async def test_the_lowest_node_leads_until_it_leaves(url: str, tmp_path: Path) -> None:
    first = Apart(url, tmp_path / "a")
    assert (await first.__aenter__()).node.leads
    async with running(url, tmp_path / "b") as other:
        assert not other.node.leads
        await first.__aexit__()
        await asyncio.wait_for(other.node.led.wait(), 10)
        assert [one.id for one in await other.db.read(members.list_all)] == [other.node.id]


async def test_a_node_whose_start_fails_at_once_leaves_no_connection(
    url: str, tmp_path: Path, own: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(url, tmp_path):
        pass

    def fail(*args: object) -> None:
        raise BootError("the configuration cannot be read")

    monkeypatch.setattr(versions, "keep_all", fail)
    connected = f"select count(*) from pg_stat_activity where datname = '{url.rpartition('/')[2]}'"
    gc.disable()  # it would close them some time
    try:
        for _ in range(3):
            with pytest.raises(BootError, match="cannot be read"):
                async with running(url, tmp_path):
                    pass
            await until(lambda: own.execute(connected) == "0", 10)
    finally:
        gc.enable()


async def test_what_a_node_leaves_open_when_it_stops_goes_on_elsewhere(url: str, tmp_path: Path) -> None:
    session_id = new_uuid()
    slow: list[Step] = [MessageDelta(content="from "), 60.0]
    async with running(url, tmp_path / "b") as other:
        async with Apart(url, tmp_path / "a", slow) as stopping:
            await scripted_schema(other)
            chats = await begun(stopping, session_id)
        await asyncio.wait([chats])
        chats.exception()
        await completed(other, session_id)


async def test_a_start_on_the_same_folder_does_not_wait_for_the_lease(url: str, tmp_path: Path) -> None:
    async with running(url, tmp_path / "a") as first:
        await scripted_schema(first)
        before = first.node.id
        rows = await first.db.read(members.list_all)
    sql = "insert into nodes (id, name, version, key_code, started_at, seen) values (?, ?, ?, '', ?, ?)"
    async with running(url, tmp_path / "c") as third:  # the row that a killed one would leave
        await third.db.write(lambda conn: conn.execute(sql, (before, rows[0].name, "1", rows[0].started_at, 0.0)))
        async with running(url, tmp_path / "a") as again:
            assert {one.id for one in await again.db.read(members.list_all)} == {third.node.id, again.node.id}


async def test_a_node_on_a_copy_of_a_data_folder_does_not_end_the_other(url: str, tmp_path: Path) -> None:
    async with running(url, tmp_path / "a") as first:
        await asyncio.to_thread(shutil.copytree, tmp_path / "a", tmp_path / "b")
        async with running(url, tmp_path / "b") as other:
            assert {one.id for one in await other.db.read(members.list_all)} == {first.node.id, other.node.id}


async def test_nodes_that_were_all_away_from_the_database_do_not_end_each_other(
    url: str, tmp_path: Path, own: Server
) -> None:
    async with running(url, tmp_path / "a") as first, running(url, tmp_path / "b") as other:
        await asyncio.to_thread(own.kill)
        await asyncio.sleep(1.5 * LEASE)
        await asyncio.to_thread(own.start)
        await until(lambda: first.db.outage.fault is None and other.db.outage.fault is None)
        await asyncio.sleep(1.5 * LEASE)
        assert not first.db.lost.is_set()
        assert not other.db.lost.is_set()
        assert {one.id for one in await first.db.read(members.list_all)} == {first.node.id, other.node.id}


async def test_nodes_that_wait_to_end_a_lost_one_say_meanwhile_that_they_live(
    url: str, tmp_path: Path, own: Server
) -> None:
    """A long transaction of any node keeps the others from writing, but not from living."""
    ghost = "insert into nodes (id, name, version, key_code, started_at, seen) values (1000, 'ghost', '1', '', '', 0)"
    hold = f"begin; select pg_advisory_xact_lock({LOCK}); select pg_sleep({2.4 * LEASE}); commit"
    async with running(url, tmp_path / "a") as first, running(url, tmp_path / "b") as other:
        await first.db.write(lambda conn: conn.execute(ghost))
        await asyncio.to_thread(own.execute, hold, url.rpartition("/")[2])
        await until(lambda: {one.id for one in first.node.all} == {first.node.id, other.node.id})
        assert not first.db.lost.is_set()
        assert not other.db.lost.is_set()


STOPPED = """
import os, signal, sys
from bytebrew_postgres.driver import PostgresDriver
from bytebrew_postgres.statements import Statements

def send(*args):
    os.kill(os.getpid(), signal.SIGSTOP * (args[2].parameters[:1] == [b"stop"]))
    return sent(*args)

sent, Statements._send = Statements._send, send
driver = PostgresDriver(sys.argv[1])
conn = driver.open()
driver.begin(conn, None)
for text in (*["x" * 100_000] * 200, "stop"):
    conn.execute("select length(?)", (text,))
conn.flush()
"""
"""A process that is stopped while the server waits for the rest of what it sends."""


async def test_a_node_that_is_stopped_while_it_sends_keeps_nobody_from_writing(url: str, tmp_path: Path) -> None:
    async with running(url, tmp_path / "a") as other:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen([sys.executable, "-c", STOPPED, url], env=environment) as stopped:
            try:
                await asyncio.to_thread(os.waitid, os.P_PID, stopped.pid, os.WSTOPPED | os.WNOWAIT)
                with closing(other.driver.open()) as conn:  # as the node that it is
                    conn.execute(
                        "insert into nodes (name, version, key_code, started_at, seen) values ('s', '1', '', '', 0)"
                    )
                await asyncio.wait_for(other.db.write(lambda conn: None), 30)
            finally:
                stopped.kill()
