"""`bytebrew serve --workers`: several processes behind one socket, of which any may die."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from bytebrew.testing import ADMIN, databases
from tests.commands import run
from tests.processes import Process, plugins_folder, serving

HEADERS = {"Authorization": f"Bearer {ADMIN}"}
NOWHERE = "postgresql://nobody@127.0.0.1:9/nothing"
SECONDS = 30.0
"""Longest wait for what takes a second or two."""


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Settings of two workers on a database of their own, with the provider `slow`."""
    data = tmp_path / "data"
    databases.make(data, "none", lambda: None)
    try:
        yield {
            "BYTEBREW_DATA_DIR": str(data),
            "BYTEBREW_DATABASE_URL": databases.url_of(data),
            "BYTEBREW_PLUGINS_DIR": str(plugins_folder(tmp_path / "plugins")),
            "BYTEBREW_WORKERS": "2",
        }
    finally:
        databases.drop(data)


@pytest.fixture
def served(settings: dict[str, str]) -> Iterator[Process]:
    with serving(Path(settings["BYTEBREW_DATA_DIR"]), settings) as process:
        yield process


def until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def status(settings: dict[str, str]) -> list[dict[str, Any] | None]:
    done = run("status", "--json", settings=settings)
    return json.loads(done.stdout)["workers"] if done.stdout else []


def processes(settings: dict[str, str]) -> list[int]:
    """The workers' processes, once all answer."""
    until(lambda: all(status(settings)))
    return [worker["process"] for worker in status(settings) if worker]


def lives(process: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def answering(url: str) -> set[str]:
    """When the engines were started that take 40 new connections; that all go to one of two is 1 in 10^12."""
    answers = [httpx.get(f"{url}/api/v1/health", timeout=SECONDS) for _ in range(40)]
    assert {answer.status_code for answer in answers} == {200}
    return {answer.json()["started_at"] for answer in answers}


def begin_turn(process: Process, deltas: int) -> Iterator[str]:
    """The lines of the stream of a turn; the first is returned when the model has begun to answer."""
    with httpx.Client(base_url=f"{process.url}/api/v1", headers=HEADERS, timeout=SECONDS) as client:
        if client.get("/models/slow").status_code == 404:
            model = {"name": "slow", "type": "slow", "model_name": "slow"}
            for path, body in (
                ("/models", model),
                ("/agents", {"name": "slow", "model": "slow"}),
                ("/schemas", {"name": "slow", "entry_agent": "slow", "chat_enabled": True}),
            ):
                assert client.post(path, json=body).status_code == 201
        with client.stream("POST", "/schemas/slow/chat", json={"message": str(deltas)}) as answer:
            assert answer.status_code == 200
            lines = answer.iter_lines()
            yield next(line for line in lines if line == "event: message_delta")
            yield from lines


@pytest.mark.sqlite
def test_a_sqlite_file_has_one_process(tmp_path: Path) -> None:
    done = run("serve", "--workers", "2", settings={"BYTEBREW_DATA_DIR": str(tmp_path / "data")})
    assert (done.returncode, done.stdout) == (2, "")
    assert "2 processes cannot write to one SQLite file; set BYTEBREW_DATABASE_URL" in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("count", ["0", "-1", "some", "257"])
def test_the_number_of_workers_is_checked(count: str, tmp_path: Path) -> None:
    done = run("serve", "--workers", count, settings={"BYTEBREW_DATA_DIR": str(tmp_path / "data")})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "bytebrew: BYTEBREW_WORKERS: give a whole number from 1 to 256\n"


def test_a_port_in_use_is_said_once(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        given = {"BYTEBREW_DATA_DIR": str(tmp_path), "BYTEBREW_DATABASE_URL": NOWHERE, "BYTEBREW_PORT": str(port)}
        done = run("serve", "--workers", "3", settings=given)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"bytebrew: cannot listen on 127.0.0.1:{port}: Address already in use")
    assert done.stderr.count("\n") == 1


def test_what_keeps_the_workers_from_starting_is_said_once(tmp_path: Path) -> None:
    given = {"BYTEBREW_DATA_DIR": str(tmp_path), "BYTEBREW_DATABASE_URL": "db2://host/name", "BYTEBREW_PORT": "0"}
    done = run("serve", "--workers", "3", settings=given)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("bytebrew: BYTEBREW_DATABASE_URL: no plugin registers a store for 'db2'")
    assert done.stderr.count("\n") == 1


@pytest.mark.postgresql
def test_workers_share_the_port_and_the_status_shows_each(settings: dict[str, str], served: Process) -> None:
    assert " with 2 workers is ready at http://127.0.0.1:" in served.ready
    shown = run("status", settings=settings)
    assert shown.returncode == 0, shown.stderr
    for number, process in enumerate(processes(settings), 1):
        assert f"worker     {number} of 2\nengine     ok; ByteBrew " in shown.stdout
        assert f", process {process}, up " in shown.stdout
    assert served.stop() == 0
    assert run("status", settings=settings).returncode == 1


@pytest.mark.postgresql
def test_a_killed_worker_is_replaced_and_the_other_goes_on(settings: dict[str, str], served: Process) -> None:
    first, second = processes(settings)
    before = answering(served.url)
    assert len(before) == 2
    os.kill(second, signal.SIGKILL)
    during = answering(served.url)  # those of the dead one wait for the next
    until(lambda: "worker 2 listens again" in served.errors)
    assert processes(settings)[0] == first
    assert len(during | answering(served.url)) == 2
    assert len(before & during) == 1
    assert served.stop() == 0
    assert f"worker 2, process {second}, ended by SIGKILL; the next starts in 0.5 s" in served.errors


@pytest.mark.postgresql
def test_a_worker_that_is_ended_is_replaced_at_once(settings: dict[str, str], served: Process) -> None:
    first, second = processes(settings)
    os.kill(first, signal.SIGTERM)
    until(lambda: "worker 1 listens again" in served.errors)
    assert processes(settings)[1] == second
    assert served.stop() == 0
    assert f"worker 1, process {first}, ended with exit code 0; the next starts in 0 s" in served.errors
    assert "info worker-1 bytebrew." in served.errors


@pytest.mark.postgresql
def test_sigterm_lets_running_turns_end(settings: dict[str, str], served: Process) -> None:
    workers = processes(settings)
    turn = begin_turn(served, 300)
    next(turn)
    served.process.send_signal(signal.SIGTERM)
    assert "event: done" in list(turn)
    assert served.ended() == 0
    assert not any(map(lives, workers))


@pytest.mark.postgresql
def test_a_signal_to_all_is_one_signal_and_a_second_ends_at_once(settings: dict[str, str], served: Process) -> None:
    workers = processes(settings)
    turn = begin_turn(served, 100_000)
    next(turn)
    for process in (served.process.pid, *workers):  # as Ctrl-C and systemd do
        os.kill(process, signal.SIGTERM)
    until(lambda: served.errors.count("draining") == 2)
    assert "event: message_delta" in [next(turn) for _ in range(8)]
    served.process.send_signal(signal.SIGTERM)
    assert served.ended() == 1
    assert not any(map(lives, workers))
    with suppress(httpx.HTTPError):
        turn.close()  # type: ignore[attr-defined]


@pytest.mark.postgresql
def test_workers_end_with_their_supervisor(settings: dict[str, str], served: Process) -> None:
    workers = processes(settings)
    os.kill(served.process.pid, signal.SIGKILL)
    served.process.wait(SECONDS)
    until(lambda: not any(map(lives, workers)))


@pytest.mark.postgresql
def test_another_engine_on_the_data_folder_is_refused(settings: dict[str, str], served: Process) -> None:
    for count in ("1", "2"):
        done = run("serve", settings=settings | {"BYTEBREW_WORKERS": count, "BYTEBREW_PORT": "0"})
        assert (done.returncode, done.stdout) == (1, "")
        assert f"another engine runs on the data folder {settings['BYTEBREW_DATA_DIR']}" in done.stderr
    assert served.stop() == 0
