"""The command line, in processes of its own."""

import json
import re
import shlex
import signal
import socket
import sqlite3
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from bytebrew.testing import ADMIN, served_engine
from tests.archives import database, unpacked
from tests.commands import BYTEBREW, environment, install, run, start
from tests.processes import plugins_folder, serving
from tests.stored import ON_POSTGRESQL, event_numbers
from tests.tables import SCOPES

HEADERS = {"Authorization": f"Bearer {ADMIN}"}
SLEEPER = """
import asyncio
from bytebrew import MessageDelta, Provider, Stop, hookimpl

class Sleeper(Provider):
    type = "sleeper"

    async def stream(self, request, http):
        yield MessageDelta(content="good night")
        await asyncio.sleep(float(request.messages[-1].content))
        yield Stop()

@hookimpl
def register_providers(register):
    register(Sleeper())
"""


def configure(url: str, kind: str) -> None:
    """A schema `test` with a model of this type."""
    with httpx.Client(base_url=f"{url}/api/v1", headers=HEADERS) as client:
        model = {"name": "test", "type": kind, "model_name": "m"}
        agent = {"name": "test", "model": "test"}
        schema = {"name": "test", "entry_agent": "test", "chat_enabled": True}
        for noun, body in (("models", model), ("agents", agent), ("schemas", schema)):
            assert client.post(f"/{noun}", json=body).status_code == 201


def modes(folder: Path) -> dict[str, str]:
    """The rights of everything in a folder."""
    return {
        path.relative_to(folder).as_posix(): f"{stat.S_IMODE(path.stat().st_mode):o}"
        for path in (folder, *folder.rglob("*"))
    }


def test_serve_prints_one_ready_line_and_the_rest_on_standard_error(tmp_path: Path) -> None:
    with serving(tmp_path) as engine:
        assert httpx.get(f"{engine.url}/api/v1/health").json()["status"] == "ok"
        assert engine.url.startswith("http://127.0.0.1:")
        assert engine.stop() == 0
    assert engine.output == ""
    assert "Say hello:" in engine.errors
    assert "draining" in engine.errors


def test_the_curl_line_that_serve_prints_works_when_it_is_pasted(tmp_path: Path) -> None:
    with serving(tmp_path) as engine:
        while not (line := re.search(r"\n\n( *curl(?:.*\\\n)*.*)\n", engine.errors)):
            time.sleep(0.01)
        pasted = line[1]
        done = subprocess.run(["bash", "-c", pasted], capture_output=True, text=True, check=True, timeout=30)
    events = [line.removeprefix("event: ") for line in done.stdout.splitlines() if line.startswith("event: ")]
    assert list(dict.fromkeys(events)) == ["thinking", "tool_call", "tool_result", "message_delta", "message", "done"]
    assert "current_time says: 2" in done.stdout


def test_flags_win_over_variables_and_variables_over_the_originals(tmp_path: Path) -> None:
    settings = {
        "ENGINE_PORT": "1",
        "BYTEBREW_PORT": "2",
        "BYTEBREW_HOST": "203.0.113.1",
        "DATA_DIR": str(tmp_path / "original"),
        "BYTEBREW_DATA_DIR": str(tmp_path / "variable"),
    }
    flags = ("--host", "localhost", "--port", "0", "--data", str(tmp_path / "flag"))
    process = start([*BYTEBREW, "serve", *flags], settings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        assert b"is ready at http://localhost:" in process.stdout.readline()
    finally:
        process.terminate()
        process.communicate()
    assert [path.name for path in tmp_path.iterdir()] == ["flag"]


def test_help_lists_every_setting_also_a_plugins(tmp_path: Path) -> None:
    source = """
from typing import Annotated
from bytebrew import hookimpl
from msgspec import Meta, Struct

class Pond(Struct, frozen=True, kw_only=True):
    pond_depth: Annotated[int, Meta(description="how deep the pond is")] = 3

@hookimpl
def register_settings(register):
    register(Pond)
"""
    install(tmp_path, "pond", source)
    told = run("serve", "--help", settings={"BYTEBREW_PLUGINS_DIR": str(tmp_path)})
    assert told.returncode == 0
    words = " ".join(told.stdout.split())
    for row in (
        "BYTEBREW_PORT port to listen on; 0 takes a free one [8443]",
        "BYTEBREW_DRAIN_SECONDS how long SIGTERM waits for running turns [20s]",
        "BYTEBREW_LOCAL_SESSION_TTL how long a local session lasts",
        "BYTEBREW_POND_DEPTH how deep the pond is [3]",
    ):
        assert row in words


def test_bad_settings_are_exit_code_2_with_every_fault_on_a_line(tmp_path: Path) -> None:
    settings = {
        "BYTEBREW_DATA_DIR": str(tmp_path / "data"),
        "BYTEBREW_PROT": "1",
        "BYTEBREW_PORT": "http",
        "BYTEBREW_LOCAL_SESSION_TTL": "soon",
    }
    done = run("serve", settings=settings)
    assert (done.returncode, done.stdout) == (2, "")
    faults = done.stderr.splitlines()
    assert faults[0] == "bytebrew: BYTEBREW_PROT is not a setting; did you mean BYTEBREW_PORT?"
    assert [fault.partition(":")[0] for fault in faults[1:]] == ["BYTEBREW_PORT", "BYTEBREW_LOCAL_SESSION_TTL"]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("arguments", [("doctor",), ("backup", "copy.db"), ("token", "list")])
def test_every_command_names_bad_settings(arguments: tuple[str, ...]) -> None:
    done = run(*arguments, settings={"BYTEBREW_PROT": "1"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "BYTEBREW_PROT is not a setting" in done.stderr


@pytest.mark.parametrize("arguments", [("serve", "--colour"), ("dance",), ("token", "create", "x"), ("backup",)])
def test_a_wrong_command_line_is_exit_code_2_with_the_usage(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: bytebrew" in done.stderr


def test_a_host_that_would_hand_admin_to_the_network_is_refused(tmp_path: Path) -> None:
    done = run("serve", "--host", "0.0.0.0", "--port", "0", "--data", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert "set BYTEBREW_LOCAL_SESSION_SECRET" in done.stderr


def test_a_port_that_is_taken_is_exit_code_1(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        done = run("serve", "--port", port, "--data", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_engine_runs_on_a_data_folder(tmp_path: Path) -> None:
    with serving(tmp_path) as engine:
        second = run("serve", "--port", "0", "--data", str(tmp_path))
        assert (second.returncode, second.stdout) == (1, "")
        assert f"another engine runs on the data folder {tmp_path}; stop it first" in second.stderr
        engine.kill()
    with serving(tmp_path) as engine:  # a killed engine leaves no lock behind
        assert engine.stop() == 0


def test_a_data_folder_that_cannot_be_is_a_bad_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("serve", "--data", str(tmp_path / "file" / "data"))
    assert done.returncode == 2
    assert "BYTEBREW_DATA_DIR: " in done.stderr


@pytest.mark.sqlite
def test_a_damaged_database_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "bytebrew.db").write_bytes(b"no database" * 1000)
    for arguments in (("serve",), ("token", "list")):
        done = run(*arguments, settings={"BYTEBREW_DATA_DIR": str(tmp_path), "BYTEBREW_PORT": "0"})
        assert done.returncode == 1
        assert "bytebrew.db cannot be opened: file is not a database" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stream_that_only_follows_does_not_hold_up_the_end(number: int, tmp_path: Path) -> None:
    with serving(tmp_path) as engine:
        url = f"{engine.url}/api/v1"
        whole = httpx.post(f"{url}/schemas/demo/chat", headers=HEADERS, json={"message": "hi", "stream": False})
        session = whole.json()["session_id"]
        with httpx.stream("GET", f"{url}/sessions/{session}/events", headers=HEADERS) as following:
            pieces = following.iter_bytes()
            next(pieces)
            asked = time.monotonic()
            engine.process.send_signal(number)
            assert b"event: done" in b"".join(pieces)
        assert engine.ended() == 0
        assert time.monotonic() - asked < 5


@pytest.mark.parametrize(("drain", "last"), [("20", "event: done"), ("0", '"code":"draining"')])
def test_a_turn_that_runs_is_waited_for_as_long_as_drain_seconds_say(drain: str, last: str, tmp_path: Path) -> None:
    install(tmp_path / "plugins", "sleeper", SLEEPER)
    settings = {"BYTEBREW_PLUGINS_DIR": str(tmp_path / "plugins"), "BYTEBREW_DRAIN_SECONDS": drain}
    with serving(tmp_path / "data", settings) as engine:
        configure(engine.url, "sleeper")
        seconds = "1" if drain == "20" else "60"
        url = f"{engine.url}/api/v1/schemas/test/chat"
        with httpx.stream("POST", url, headers=HEADERS, json={"message": seconds}, timeout=20) as answer:
            pieces = answer.iter_text()
            while "good night" not in next(pieces):
                pass
            engine.process.terminate()
            assert last in "".join(pieces).strip().rpartition("\n\n")[2]
        assert engine.ended() == 0


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    install(tmp_path / "plugins", "sleeper", SLEEPER)
    with serving(tmp_path / "data", {"BYTEBREW_PLUGINS_DIR": str(tmp_path / "plugins")}) as engine:
        configure(engine.url, "sleeper")
        url = f"{engine.url}/api/v1/schemas/test/chat"
        with httpx.stream("POST", url, headers=HEADERS, json={"message": "60"}) as answer:
            pieces = answer.iter_text()
            while "good night" not in next(pieces):
                pass
            engine.process.terminate()
            while httpx.get(f"{engine.url}/api/v1/health").json()["status"] != "draining":
                time.sleep(0.01)
            assert engine.stop() == 1


@pytest.mark.parametrize("running", [True, False])
def test_tokens_are_made_listed_and_revoked_at_once(running: bool, tmp_path: Path) -> None:
    settings = {"BYTEBREW_DATA_DIR": str(tmp_path)}

    def token(*arguments: str) -> str:
        file = tmp_path / ("keys/secrets.key" if ON_POSTGRESQL else "bytebrew.db")
        fresh = not file.exists()
        done = run("token", *arguments, settings=settings)
        assert (done.returncode, f"{file} is new; BYTEBREW_DATA_DIR" in done.stderr) == (0, fresh)
        return done.stdout

    def work(status: Callable[[str], int | None]) -> None:
        until = ("--expires", "2099-01-31T00:00:00Z")
        new = token("create", "phone", "--scope", "chat", "--scope", "tasks", "--schema", "demo", *until).strip()
        assert (len(new), new[:3]) == (67, "bb_")
        assert status(new) in (200, None)
        rows = [line for line in token("list").splitlines() if " phone " in line]
        assert len(rows) == 1
        assert "chat,tasks" in rows[0]
        assert rows[0].endswith("  until 2099-01-31T00:00:00.000000Z  for demo")
        assert new not in rows[0]
        token("revoke", "phone" if running else rows[0].split()[0])
        assert status(new) in (401, None)
        assert " phone " not in token("list")

    if not running:
        work(lambda token: None)
        return
    with serving(tmp_path) as engine:
        url = f"{engine.url}/api/v1/tasks"
        work(lambda token: httpx.get(url, headers={"Authorization": f"Bearer {token}"}).status_code)


async def test_a_token_that_was_made_before_the_first_start_works(tmp_path: Path) -> None:
    new = run("token", "create", "first", "--scope", "admin", settings={"BYTEBREW_DATA_DIR": str(tmp_path)}).stdout
    async with served_engine(data=tmp_path) as (_, client):
        answer = await client.get("/api/v1/auth/tokens", headers={"Authorization": f"Bearer {new.strip()}"})
        assert answer.status_code == 200


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("create", "x", "--scope", "dance"), 1, "'dance' is not a scope; the scopes are " + ", ".join(SCOPES)),
        (("create", "", "--scope", "chat"), 2, "`str` of length >= 1 - at `$.name`"),
        (("create", "x", "--scope", "chat", "--schema", "No Such Name"), 2, "$.schemas"),
        (("create", "x", "--scope", "chat", "--expires", "soon"), 1, "'soon' is not a time; write a time like 2027"),
        (("create", "\udcff", "--scope", "chat"), 2, r"'\udcff' is no text in UTF-8"),
        (("revoke", "nobody"), 1, "There is no token 'nobody'"),
    ],
)
def test_a_token_that_cannot_be_is_told_in_words(
    arguments: tuple[str, ...], code: int, words: str, tmp_path: Path
) -> None:
    settings = {"BYTEBREW_DATA_DIR": str(tmp_path)}
    run("token", "create", "first", "--scope", "chat", settings=settings)
    done = run("token", *arguments, settings=settings)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.sqlite
@pytest.mark.parametrize("arguments", [("token", "list"), ("token", "revoke", "x")], ids=["list", "revoke"])
def test_a_command_that_can_only_look_makes_no_data_folder(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = run(*arguments, settings={"BYTEBREW_DATA_DIR": str(tmp_path / "data")})
    assert (done.returncode, done.stdout) == (1, "")
    assert "set BYTEBREW_DATA_DIR to the engine's data folder" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_name_of_a_token_does_not_steer_the_terminal(tmp_path: Path) -> None:
    settings = {"BYTEBREW_DATA_DIR": str(tmp_path)}
    run("token", "create", "a\x1b[31mb\nc – d", "--scope", "chat", settings=settings)
    assert r"  a\x1b[31mb\nc – d  " in run("token", "list", settings=settings).stdout


def test_a_closed_standard_output_is_no_fault(tmp_path: Path) -> None:
    command = f"exec {shlex.join(BYTEBREW)} serve --port 0 --data {shlex.quote(str(tmp_path))} <&- >&-"
    with subprocess.Popen(["bash", "-c", command], env=environment(), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert process.stderr.readline() == "Say hello:\n"
        process.terminate()
        assert (process.wait(30), "draining" in process.stderr.read()) == (0, True)


def test_a_name_is_taken_until_its_token_is_revoked(tmp_path: Path) -> None:
    settings = {"BYTEBREW_DATA_DIR": str(tmp_path)}
    codes = [
        run("token", *shlex.split(line), settings=settings).returncode
        for line in ("create x --scope chat", "create x --scope chat", "revoke x", "create x --scope chat")
    ]
    assert codes == [0, 1, 0, 0]


@pytest.mark.sqlite
def test_a_backup_is_whole_while_turns_are_written(tmp_path: Path) -> None:
    plugins, data = plugins_folder(tmp_path / "plugins"), tmp_path / "data"
    settings = {"BYTEBREW_PLUGINS_DIR": str(plugins), "BYTEBREW_DATA_DIR": str(data)}
    copies = [tmp_path / f"copy{n}.db" for n in range(3)]
    begun, finished = threading.Event(), threading.Event()

    def talk(url: str) -> dict[str, str]:
        while True:
            body = {"message": "50", "stream": False}
            answer: dict[str, str] = httpx.post(url, headers=HEADERS, json=body, timeout=30).json()
            begun.set()
            if finished.is_set():
                return answer

    with serving(data, settings) as engine, ThreadPoolExecutor() as pool:
        configure(engine.url, "slow")
        url = f"{engine.url}/api/v1/schemas/test/chat"
        before = httpx.post(url, headers=HEADERS, json={"message": "9", "stream": False}).json()["session_id"]
        talks = [pool.submit(talk, url) for _ in range(3)]
        assert begun.wait(30)
        done = [run("backup", str(copy), settings=settings) for copy in copies]
        finished.set()
        assert all("delta 49" in one.result()["message"] for one in talks)
    for copy, told in zip(copies, done, strict=True):
        assert (told.returncode, told.stdout) == (0, "")
        assert f"wrote {copy}" in told.stderr
        assert f"{stat.S_IMODE(copy.stat().st_mode):o}" == "600"
        with closing(sqlite3.connect(f"{database(copy).as_uri()}?mode=ro", uri=True)) as conn:
            assert conn.execute("pragma integrity_check").fetchone() == ("ok",)
            assert conn.execute("pragma foreign_key_check").fetchall() == []
            last = conn.execute("select max(n), type from events where session_id = ?", (before,)).fetchone()
            assert last[1] == "done"
            assert len(event_numbers(conn)) > 1
            assert all(found == [*range(1, len(found) + 1)] for found in event_numbers(conn).values())
    assert not list(tmp_path.glob(".copy*"))
    assert not list(data.glob(".backup-*"))


@pytest.mark.sqlite
def test_a_backup_can_be_served_from(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as engine:
        url = f"{engine.url}/api/v1"
        whole = httpx.post(f"{url}/schemas/demo/chat", headers=HEADERS, json={"message": "hi", "stream": False}).json()
        copy = tmp_path / "copy.tar"
        assert run("backup", str(copy), settings={"BYTEBREW_DATA_DIR": str(tmp_path / "data")}).returncode == 0
    with serving(unpacked(copy, tmp_path / "copy")) as engine:
        url = f"{engine.url}/api/v1/sessions/{whole['session_id']}"
        assert httpx.get(url, headers=HEADERS).json()["messages"][-1]["content"] == whole["message"]


@pytest.mark.sqlite
def test_a_backup_replaces_nothing_and_needs_a_database(tmp_path: Path) -> None:
    settings = {"BYTEBREW_DATA_DIR": str(tmp_path)}
    done = run("backup", str(tmp_path / "copy.db"), settings=settings)
    assert (done.returncode, "there is no database at" in done.stderr) == (1, True)
    run("token", "create", "x", "--scope", "chat", settings=settings)
    (tmp_path / "copy.db").write_text("precious")
    done = run("backup", str(tmp_path / "copy.db"), settings=settings)
    assert (done.returncode, "is there already; choose another name" in done.stderr) == (1, True)
    assert (tmp_path / "copy.db").read_text() == "precious"


def test_what_the_engine_writes_is_its_owners_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data) as engine:
        chat = f"{engine.url}/api/v1/schemas/demo/chat"
        assert httpx.post(chat, headers=HEADERS, json={"message": "hi", "stream": False}).status_code == 200
        running = modes(data)
        assert engine.stop() == 0
    database = set() if ON_POSTGRESQL else {"bytebrew.db", "bytebrew.db-wal", "bytebrew.db-shm"}
    assert database | {"engine.lock", "keys/secrets.key"} <= set(running)
    for name, mode in (running | modes(data)).items():
        assert mode == ("700" if (data / name).is_dir() else "600"), name


@pytest.mark.parametrize("form", ["text", "json"])
def test_log_level_and_log_format_are_those_of_standard_error(form: str, tmp_path: Path) -> None:
    settings = {"BYTEBREW_LOG_LEVEL": "debug", "BYTEBREW_LOG_FORMAT": form}
    with serving(tmp_path, settings) as engine:
        httpx.get(f"{engine.url}/api/v1/health", headers={"Authorization": "Bearer secret"})
        engine.stop()
    line = next(line for line in engine.errors.splitlines() if "GET /api/v1/health 200" in line)
    if form == "json":
        told = json.loads(line)
        assert (told["level"], told["trace"][:4]) == ("debug", "req_")
    else:
        assert " debug bytebrew.web.app req_" in line


def test_the_version_is_the_distributions() -> None:
    assert run("--version").stdout == "bytebrew, version 1.0.0\n"
