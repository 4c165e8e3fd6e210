"""Nodes behind a real PgBouncer, which has the settings that the documentation shows."""

import asyncio
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
from bytebrew_postgres.connection import PostgresConnection
from bytebrew_postgres.driver import PostgresDriver

from bytebrew.base.errors import BootError
from bytebrew.contract.entities import NewModel
from bytebrew.engine import Engine
from bytebrew.store.configuration import models
from bytebrew.testing import ADMIN, client, engine
from bytebrew.testing.postgres import USER, Server, server
from tests.commands import run
from tests.nodes.chats import URL, Stream, data, eventually, say, two
from tests.nodes.engines import Node
from tests.processes import plugins_folder, serving
from tests.store.moving.places import new_place

pytestmark = pytest.mark.postgresql
ROOT = Path(__file__).parents[2]
UNPACKED = ROOT / ".cache/peers/pgbouncer"
PROGRAM = UNPACKED / "usr/sbin/pgbouncer"
LIBRARIES = ":".join(map(str, UNPACKED.glob("usr/lib/*-linux-gnu")))
PAGE = (ROOT / "docs/how-to/postgresql.md").read_text()
SETTINGS: Mapping[str, Mapping[str, str]] = {"transaction": {"BYTEBREW_DATABASE_POOLER": "true"}, "session": {}}
"""What a node is told about a pooler in each of its modes."""
SLOW: Sequence[tuple[str, Mapping[str, Any]]] = (
    ("models", {"name": "slow", "type": "slow", "model_name": "slow"}),
    ("agents", {"name": "slow", "model": "slow"}),
    ("schemas", {"name": "slow", "entry_agent": "slow", "chat_enabled": True}),
)
each_mode = pytest.mark.parametrize("mode", SETTINGS)


class PgBouncer:
    """The pooler before a database of a server, on a port that it keeps; it runs from `start` to `kill`."""

    def __init__(self, folder: Path, to: Server, mode: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.settings = {
            "BYTEBREW_DATABASE_URL": to.url("bytebrew", port=self.port),
            "BYTEBREW_PORT": "0",
            **SETTINGS[mode],
        }
        self._config, users = folder / "pgbouncer.ini", folder / "userlist.txt"
        [text] = re.findall(r"```ini\n(.*?)```", PAGE, re.DOTALL)
        for shown, here in (
            ("host=db.example port=5432", f"host=127.0.0.1 port={to.port}"),
            ("listen_port = 6432", f"listen_port = {self.port}\nunix_socket_dir ="),
            ("/etc/pgbouncer/userlist.txt", str(users)),
            ("pool_mode = transaction", f"pool_mode = {mode}"),
            ("default_pool_size = 20", f"default_pool_size = {20 if mode == 'transaction' else 40}"),
        ):
            assert shown in text
            text = text.replace(shown, here)
        self._config.write_text(text)
        users.write_text(f'"{USER}" "{to.password}"\n')
        self._log = folder / "log"
        self._user = [] if os.geteuid() else ["-u", "nobody"]
        if self._user:
            nobody = pwd.getpwnam("nobody")
            for path in (folder, self._config, users):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once it listens."""
        command: list[str | Path] = [PROGRAM, *self._user, self._config]
        environment = {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": LIBRARIES}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        while self._process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5):
                return
        raise AssertionError(self._log.read_text())

    def kill(self) -> None:
        """SIGKILL: all connections end without a word."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    if not PROGRAM.exists():
        pytest.skip("not set up: run tests/peers/setup.sh pooler")
    with server() as made:
        yield made


@contextmanager
def pooler(to: Server, mode: str) -> Iterator[PgBouncer]:
    """A pooler before an empty database."""
    to.execute(f"create database bytebrew owner {USER}")
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as folder:
        made = PgBouncer(Path(folder), to, mode)
        made.start()
        try:
            yield made
        finally:
            made.kill()
            to.execute("drop database bytebrew with (force)")


def run_there(*arguments: str, settings: Mapping[str, str]) -> Any:
    return anyio.to_thread.run_sync(lambda: run(*arguments, settings=settings))


async def replayed(node: Node, session: str) -> str:
    answer = await node.http.get(f"/api/v1/sessions/{session}/events", params={"follow": "false"})
    return answer.text


@each_mode
async def test_nodes_answer_for_each_other_behind_a_pooler(own: Server, mode: str) -> None:
    gate = asyncio.Event()
    answers = [say("one "), gate, say("two")], [say("three"), asyncio.Event()]
    with pooler(own, mode) as pgbouncer:
        async with two(*answers, settings=pgbouncer.settings) as (a, b, _):
            with closing(a.engine.driver.open()) as conn:
                assert isinstance(conn, PostgresConnection)
                assert any(conn.is_pooled() for _ in range(10)) == (mode == "transaction")  # nodes take processes too
            first = Stream(a.http, "Hi", key="k")
            seen = await first.until("message_delta")
            again = Stream(b.http, "Hi", key="k", last_event_id=seen.id)
            await again.opened()
            gate.set()
            assert await again.whole() == ["message_delta", "message", "done"]
            await first.task
            assert again.events == first.events[1:]
            second = Stream(a.http, "More", session_id=first.session)
            await second.until("message_delta")
            assert (await b.http.post(f"/api/v1/sessions/{first.session}/cancel")).status_code == 204
            await second.task
            assert data(second.events[-1])["status"] == "cancelled"
            assert await replayed(a, first.session) == await replayed(b, first.session)


@each_mode
async def test_a_stream_pauses_while_the_pooler_is_away_and_requests_are_told(own: Server, mode: str) -> None:
    go_on = asyncio.Event()
    deltas = [say(f"{n} ") for n in range(50)]
    with pooler(own, mode) as pgbouncer:
        async with two([say("before "), go_on, *deltas], [say("again")], settings=pgbouncer.settings) as (a, b, _):
            stream = Stream(a.http, "Hi")
            await stream.until("message_delta")
            pgbouncer.kill()
            go_on.set()
            for node in (a, b):
                with anyio.fail_after(10):
                    refused = await node.http.post(URL, json={"message": "x"})
                assert (refused.status_code, refused.json()["error"]) == (503, "storage")
            assert not stream.task.done()
            pgbouncer.start()
            with anyio.fail_after(60):
                await stream.task
            assert stream.text == "before " + "".join(one.content for one in deltas)
            assert [one.id for one in stream.events] == [str(n) for n in range(1, len(stream.events) + 1)]
            await eventually(lambda: _answers(b))
            after = Stream(b.http, "More", session_id=stream.session)
            await after.task
            assert after.text == "again"


async def _answers(node: Node) -> bool:
    return bool((await node.http.get("/api/v1/health")).json()["status"] == "ok")


@each_mode
async def test_a_request_is_told_soon_that_the_server_behind_the_pooler_is_away(own: Server, mode: str) -> None:
    with pooler(own, mode) as pgbouncer:
        async with two([say("one")], [say("two")], settings=pgbouncer.settings) as (a, b, _):
            await Stream(a.http, "Hi").task
            await anyio.to_thread.run_sync(own.kill)
            try:
                with anyio.fail_after(20):
                    while (refused := await a.http.post(URL, json={"message": "x"})).status_code == 200:
                        pass
                assert (refused.status_code, refused.json()["error"]) == (503, "storage")
            finally:
                await anyio.to_thread.run_sync(own.start)
            for node in (a, b):
                with anyio.fail_after(60):
                    while not await _answers(node):
                        await asyncio.sleep(0.05)
            assert (await b.http.post(URL, json={"message": "x"})).status_code == 200


def administer(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {ADMIN}"}, timeout=60)


def test_a_node_that_is_killed_is_followed_by_another_behind_a_pooler(own: Server, tmp_path: Path) -> None:
    with pooler(own, "transaction") as pgbouncer:
        settings = {**pgbouncer.settings, "BYTEBREW_PLUGINS_DIR": str(plugins_folder(tmp_path / "plugins"))}
        with serving(tmp_path / "a", settings) as lost, administer(lost.url) as http:
            for path, body in SLOW:
                http.post(f"/api/v1/{path}", json=body).raise_for_status()
            shutil.copytree(tmp_path / "a" / "keys", tmp_path / "b" / "keys")
            with serving(tmp_path / "b", settings) as left, administer(left.url) as other:
                with http.stream("POST", "/api/v1/schemas/slow/chat", json={"message": "1500"}) as chat:
                    session = chat.headers["x-session-id"]
                    with pytest.raises(httpx.TransportError):
                        for text in chat.iter_text():
                            if "message_delta" in text:
                                lost.kill()
                with other.stream("GET", f"/api/v1/sessions/{session}/events") as followed:
                    text = ""
                    for part in followed.iter_text():
                        text += part
                        if "event: done" in text and text.endswith("\n\n"):
                            break
                assert '"status":"completed"' in text
                numbers = [int(n) for n in re.findall(r"^id: (\d+)$", text, re.MULTILINE)]
                assert numbers == [*range(1, len(numbers) + 1)]
                assert len(other.get("/api/v1/nodes").json()["data"]) == 1


def advisory_locks(own: Server) -> int:
    return int(own.execute("select count(*) from pg_locks where locktype = 'advisory'"))


def test_one_copy_at_a_time_is_made_through_a_pooler(own: Server) -> None:
    with pooler(own, "transaction") as pgbouncer:
        url = pgbouncer.settings["BYTEBREW_DATABASE_URL"]
        one, other = (PostgresDriver(url, pooler=True).transfer({}) for _ in range(2))
        with one.writing(), pytest.raises(BootError, match="another bytebrew migrate copies"), other.writing():
            pass
        with other.writing():
            pass


async def test_data_is_moved_through_a_pooler_and_no_lock_stays_behind(own: Server, tmp_path: Path) -> None:
    old = new_place("sqlite", tmp_path / "data")
    with (made := Engine(old.settings)).migrated() as conn:
        models.create(conn, NewModel(name="far", type="openai_chat", model_name="m", api_key="sk"), made.secrets)
    with pooler(own, "transaction") as pgbouncer:
        url = pgbouncer.settings["BYTEBREW_DATABASE_URL"]
        there = await run_there("migrate", "--to", url, settings={**old.settings, **SETTINGS["transaction"]})
        assert there.returncode == 0, there.stderr
        assert advisory_locks(own) == 0
        moved = pgbouncer.settings | {"BYTEBREW_DATA_DIR": str(old.data)}
        back = await run_there("migrate", "--to", str(tmp_path / "back"), settings=moved)
        assert back.returncode == 0, back.stderr
        assert advisory_locks(own) == 0
        examined = await run_there("doctor", settings=moved)
        assert "ok  pooler: BYTEBREW_DATABASE_POOLER is set" in examined.stdout
        assert examined.returncode == 0, examined.stdout
        async with engine(data=old.data, settings=pgbouncer.settings) as running, client(running) as http:
            assert [one["name"] for one in (await http.get("/api/v1/models")).json()] == ["far"]


async def test_a_pooler_of_transactions_that_nobody_announces_is_refused(own: Server, tmp_path: Path) -> None:
    with pooler(own, "transaction") as pgbouncer:
        unaware = pgbouncer.settings | {"BYTEBREW_DATABASE_POOLER": "false"}
        with pytest.raises(BootError, match="behind a pooler of transactions; set BYTEBREW_DATABASE_POOLER=true"):
            async with engine(data=tmp_path / "data", settings=unaware):
                pass
        examined = await run_there("doctor", settings=unaware | {"BYTEBREW_DATA_DIR": str(tmp_path / "data")})
        assert "BAD pooler: it is behind a pooler of transactions" in examined.stdout
        assert examined.returncode == 1


async def test_a_node_says_nothing_of_the_pooler_in_session_mode(own: Server, tmp_path: Path) -> None:
    with pooler(own, "session") as pgbouncer:
        settings = pgbouncer.settings | {"BYTEBREW_DATA_DIR": str(tmp_path / "data")}
        examined = await run_there("doctor", settings=settings)
        assert "ok  pooler: connections keep their server process" in examined.stdout
