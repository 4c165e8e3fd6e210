"""The history epoch over kills, lost logs and copies, and the lock on the database file; real engines, real SIGKILL."""

import os
import random
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from bytebrew.testing import ADMIN
from tests.archives import unpacked
from tests.commands import BYTEBREW, run, start
from tests.processes import Process, serving

pytestmark = pytest.mark.sqlite

HEADERS = {"Authorization": f"Bearer {ADMIN}"}


def say(engine: Process, session_id: str | None = None) -> tuple[str, list[str]]:
    """A turn with the demo model: its session and the ids of its events."""
    body = {"message": "hello"} | ({"session_id": session_id} if session_id else {})
    response = httpx.post(f"{engine.url}/api/v1/schemas/demo/chat", headers=HEADERS, json=body, timeout=30)
    lines = response.text.splitlines()
    return response.headers["x-session-id"], [line[4:] for line in lines if line.startswith("id: ")]


def resumed(engine: Process, session_id: str, last: str) -> tuple[int, str]:
    """Status and error of a client that resumes behind an event."""
    url = f"{engine.url}/api/v1/sessions/{session_id}/events?follow=false"
    response = httpx.get(url, headers=HEADERS | {"Last-Event-ID": last})
    return response.status_code, response.json().get("error", "")


def epoch(data: Path) -> int:
    """The epoch of a folder's database, which this leaves as it is."""
    with closing(sqlite3.connect(f"{(data / 'bytebrew.db').as_uri()}?mode=ro", uri=True)) as conn:
        found: int = conn.execute("select epoch from history").fetchone()[0]
        return found


def killed(data: Path) -> tuple[str, list[str]]:
    """A session with a turn in the file itself and one in the log that an engine leaves which was killed."""
    with serving(data) as engine:
        session_id, ids = say(engine)
        assert engine.stop() == 0
    with serving(data) as engine:
        _, more = say(engine, session_id)
        engine.kill()
    return session_id, ids + more


@pytest.mark.parametrize("command", ["", "token create x --scope chat", "backup {copy}", "doctor", "gc"])
def test_a_log_that_is_missing_after_a_kill_begins_another_epoch(command: str, tmp_path: Path) -> None:
    copy, tmp_path = tmp_path / "copy.db", tmp_path / "data"
    session_id, ids = killed(tmp_path)
    (tmp_path / "bytebrew.db-wal").unlink()
    if command:
        done = run(*command.format(copy=copy).split(), settings={"BYTEBREW_DATA_DIR": str(tmp_path)})
        assert done.returncode == 0, done.stderr
    with serving(tmp_path) as engine:
        assert resumed(engine, session_id, ids[-1]) == (410, "history_changed")
        _, again = say(engine, session_id)
        assert again[-1] == f"2:{ids[-1]}"  # the number is there again, with another event
        assert resumed(engine, session_id, ids[-1]) == (410, "history_changed")
        assert resumed(engine, session_id, again[-1]) == (200, "")
        assert engine.stop() == 0
    assert "bytebrew.db-wal is missing: what was committed last may be lost" in engine.errors
    with serving(tmp_path) as engine:
        assert engine.stop() == 0
    assert (epoch(tmp_path), " error " in engine.errors) == (2, False)


@pytest.mark.parametrize(
    "commands",
    [(), ("token create x --scope chat", "token list"), ("config export", "gc"), ("backup {copy}", "doctor")],
    ids=str,
)
def test_a_kill_that_leaves_the_log_begins_none_whatever_command_comes_next(
    commands: tuple[str, ...], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    session_id, ids = killed(data)
    for command in commands:
        done = run(*command.format(copy=tmp_path / "copy.db").split(), settings={"BYTEBREW_DATA_DIR": str(data)})
        assert done.returncode == 0, done.stderr
    with serving(data) as engine:
        assert resumed(engine, session_id, ids[-1]) == (200, "")
        assert say(engine, session_id)[1][0] == str(len(ids) + 1)
        assert engine.stop() == 0
    assert epoch(data) == 1


def test_what_a_command_writes_without_an_engine_is_in_the_file_itself(tmp_path: Path) -> None:
    settings = {"BYTEBREW_DATA_DIR": str(tmp_path)}
    assert run("token", "create", "x", "--scope", "chat", settings=settings).returncode == 0
    (tmp_path / "bytebrew.db-wal").unlink(missing_ok=True)
    (tmp_path / "bytebrew.db-shm").unlink(missing_ok=True)
    assert " x " in run("token", "list", settings=settings).stdout


@pytest.mark.slow
def test_a_kill_at_any_time_of_a_boot_begins_none(tmp_path: Path) -> None:
    settings = {"BYTEBREW_DATA_DIR": str(tmp_path), "BYTEBREW_PORT": "0"}
    killed(tmp_path)
    for _ in range(8):
        booting = start([*BYTEBREW, "serve"], settings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        time.sleep(random.uniform(0.02, 0.4))
        booting.kill()
        booting.communicate()
    with serving(tmp_path) as engine:
        assert engine.stop() == 0
    assert epoch(tmp_path) == 1


def test_a_copy_of_the_file_without_its_log_begins_another(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as engine:
        say(engine)
        (tmp_path / "copy").mkdir()
        shutil.copy(tmp_path / "data" / "bytebrew.db", tmp_path / "copy")
    with serving(tmp_path / "copy") as engine:
        assert say(engine)[1][0] == "2:1"
        assert engine.stop() == 0
    assert "was not closed by its engine" in engine.errors


def test_a_copy_by_backup_is_whole(tmp_path: Path) -> None:
    copy = tmp_path / "copy.tar"
    with serving(tmp_path / "data") as engine:
        say(engine)
        assert run("backup", str(copy), settings={"BYTEBREW_DATA_DIR": str(tmp_path / "data")}).returncode == 0
    with serving(unpacked(copy, tmp_path / "copy")) as engine:
        assert engine.stop() == 0
    assert " error " not in engine.errors


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_one_engine_runs_on_a_file_by_whatever_name(link: Callable[[Path, Path], None], tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with serving(tmp_path / "data") as engine:
        link(tmp_path / "data" / "bytebrew.db", other / "bytebrew.db")
        second = run("serve", "--port", "0", "--data", str(other))
        assert (second.returncode, second.stdout) == (1, "")
        words = f"another engine runs on {other / 'bytebrew.db'} under another name of that file; stop it first"
        assert words in second.stderr
        say(engine)
        engine.kill()
    shutil.rmtree(other)
    with serving(tmp_path / "data") as engine:
        assert engine.stop() == 0


def test_the_locks_of_sqlite_hold_while_an_engine_runs(tmp_path: Path) -> None:
    with serving(tmp_path) as engine:
        say(engine)
        with (
            closing(sqlite3.connect(tmp_path / "bytebrew.db", timeout=0.1)) as conn,
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            conn.execute("pragma journal_mode = delete")
        say(engine)
