"""A start that the disk or the memory does not allow: it ends in words, and the next one finds all that was there."""

import errno
import json
import signal
import subprocess
from pathlib import Path

import httpx
import pytest

from bytebrew.testing import ADMIN
from tests.commands import BYTEBREW, environment, run
from tests.faults import layer
from tests.processes import serving

pytestmark = pytest.mark.sqlite

OPEN, WRITE = layer.Fault("open", errno.EMFILE), layer.Fault("write", errno.EIO)
MEMORY = layer.Fault("memory", errno.ENOMEM)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_start_that_fails_ends_in_words_and_loses_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data) as engine:
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {ADMIN}"}, timeout=30) as client:
            url = f"{engine.url}/api/v1/schemas/demo/chat"
            session_id = (await client.post(url, json={"message": "hello", "stream": False})).json()["session_id"]
        engine.kill()
    control = layer.Control(tmp_path / "control")
    settings = environment({"BYTEBREW_DATA_DIR": str(data), "BYTEBREW_PORT": "0"})
    for fault, n in [*((OPEN, n) for n in range(4, 17)), (WRITE, 3), (WRITE, 13), (MEMORY, 387)]:
        control.arm(fault, n, lasting=True)
        starting = subprocess.Popen(
            [*BYTEBREW, "serve"],
            env=settings | layer.environment(control.path, data),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert starting.stdout is not None
        if starting.stdout.readline():
            starting.send_signal(signal.SIGKILL)
            starting.communicate()
            continue
        _, errors = starting.communicate(timeout=20)
        assert starting.returncode == 1
        assert errors.startswith(b"bytebrew: "), errors.decode()
    with serving(data) as engine:
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {ADMIN}"}, timeout=30) as client:
            url = f"{engine.url}/api/v1/sessions/{session_id}/events?follow=false"
            page = json.loads((await client.get(url)).content)
    assert page["epoch"] == 1
    assert page["events"][-1]["event"] == "done"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_command_shows_a_token_if_and_only_if_it_is_stored(tmp_path: Path) -> None:
    data, control = tmp_path / "data", layer.Control(tmp_path / "control")
    settings = {"BYTEBREW_DATA_DIR": str(data)}
    with serving(data) as engine:
        engine.kill()
    for n in (1, *range(11, 21)):
        control.arm(WRITE, n, lasting=True)
        faulty = settings | layer.environment(control.path, data)
        done = run("token", "create", f"token{n}", "--scope", "chat", settings=faulty)
        control.disarm()
        stored = f"token{n} " in run("token", "list", settings=settings).stdout
        assert (done.stdout.startswith("bb_"), done.returncode == 0) == (stored, stored), (n, done.stderr)
