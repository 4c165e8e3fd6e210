"""What fails is in the log: turns, refused callers, indexing; and under JSON nothing but records is printed."""

import json
import os
import pty
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from bytebrew import ProviderError
from bytebrew.testing import ScriptedProvider, chat, providing, scripted_schema, served_engine
from bytebrew.web import refusals
from bytebrew.web.http_state import http_state
from bytebrew.web.refusals import Refusals
from tests.commands import BYTEBREW, install, run, start
from tests.processes import Process, serving
from tests.stored import ON_POSTGRESQL

BROKEN = """
import sys, threading, warnings
from bytebrew import hookimpl

@hookimpl
async def startup(engine):
    warnings.warn("an old way", stacklevel=1)
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()

@hookimpl
async def request_answered(engine, method, path, status, seconds):
    raise ValueError("first line\\nsecond line")
"""


async def test_a_failed_turn_is_a_line_with_model_code_tries_and_session(caplog: pytest.LogCaptureFixture) -> None:
    failure = ProviderError("SECRET of the conversation", code="model_unavailable", retry=True, retry_after=0)
    async with served_engine(providing(ScriptedProvider([failure])), settings={"BYTEBREW_PROVIDER_RETRIES": "2"}) as (
        running,
        client,
    ):
        await scripted_schema(running)
        await chat(client, "test", "a word in confidence")
        session = (await client.get("/api/v1/sessions")).json()["sessions"][0]["id"]
    (line,) = [one for one in caplog.records if "failed" in one.getMessage()]
    words = line.getMessage()
    assert line.levelname == "WARNING"
    assert f"of session {session} failed after" in words
    assert words.endswith("model_unavailable (agent test, model test, tries 3)")
    assert "SECRET" not in caplog.text
    assert "confidence" not in caplog.text


async def test_a_refused_caller_is_a_line_and_a_flood_of_them_a_few(caplog: pytest.LogCaptureFixture) -> None:
    async with served_engine() as (running, client):
        for _ in range(50):
            answer = await client.get("/api/v1/agents", headers={"Authorization": "Bearer bb_wrong"})
            assert answer.status_code == 401
        assert http_state(running).refusals.count == 50
    lines = [one.getMessage() for one in caplog.records if one.name == "bytebrew.web.refusals"]
    assert lines[0].startswith("refused GET /api/v1/agents from 127.0.0.1: 401 ")
    assert refusals.AT_ONCE <= len(lines) < 2 * refusals.AT_ONCE
    assert "bb_wrong" not in caplog.text


def test_refusals_that_went_without_a_line_are_counted_in_the_next(caplog: pytest.LogCaptureFixture) -> None:
    moment = 0.0
    seen = Refusals(lambda: moment)
    for _ in range(25):
        seen.note("198.51.100.7", "GET /api/v1/agents", 401, "no")
    moment = refusals.SECONDS
    seen.note("198.51.100.7", "GET /api/v1/agents", 401, "no")
    assert len(caplog.records) == 11
    assert caplog.records[-1].getMessage().endswith("; 15 more refusals since the last line")


def test_under_json_every_line_that_is_printed_is_a_record(tmp_path: Path) -> None:
    install(tmp_path / "plugins", "broken", BROKEN)
    settings = {"BYTEBREW_LOG_FORMAT": "json", "BYTEBREW_PLUGINS_DIR": str(tmp_path / "plugins")}
    with serving(tmp_path / "data", settings) as engine:
        assert httpx.get(f"{engine.url}/api/v1/health").status_code == 200
        if not ON_POSTGRESQL:  # whose own means make backups
            copied = run(
                "backup", str(tmp_path / "x.tar"), settings={"BYTEBREW_DATA_DIR": str(tmp_path / "data"), **settings}
            )
            assert "wrote " in json.loads(copied.stderr.splitlines()[-1])["message"]
        assert engine.stop() == 0
    records = [json.loads(line) for line in (engine.ready, *engine.output.splitlines(), *engine.errors.splitlines())]
    assert all({"time", "level", "message"} <= record.keys() for record in records)
    messages = "\n".join(record["message"] for record in records)
    for words in ("Say hello:", " is ready at http://127.0.0.1:", "an old way", "nothing has caught this", "draining"):
        assert words in messages
    assert "Authorization: Bearer $(curl -s -X POST " in messages, "the line can be pasted from a log"
    traces = "\n".join(record.get("exception", "") for record in records)
    assert "ZeroDivisionError" in traces
    assert "first line\nsecond line" in traces


@pytest.mark.sqlite
def test_under_json_so_is_what_a_container_runs_beside_it(tmp_path: Path) -> None:
    settings = {"BYTEBREW_LOG_FORMAT": "json", "BYTEBREW_DATA_DIR": str(tmp_path / "data")}
    assert run("token", "create", "x", "--scope", "chat", settings=settings).returncode == 0
    copy, alone = str(tmp_path / "x.tar"), str(tmp_path / "data" / "bytebrew.db.before")
    shutil.copyfile(tmp_path / "data" / "bytebrew.db", alone)
    for arguments in (("gc",), ("backup", copy), ("restore", copy), ("restore", alone)):
        done = run(*arguments, settings=settings)
        assert done.returncode == 0, done.stderr
        records = [json.loads(line) for line in (*done.stdout.splitlines(), *done.stderr.splitlines())]
        assert records
        assert all({"time", "level", "message"} <= record.keys() for record in records)


@pytest.mark.parametrize(
    ("arguments", "settings", "code"),
    [
        (("serve", "--port", "no"), {}, 2),
        (("serve", "--no-such-flag"), {}, 2),
        (("backup", "x"), {"BYTEBREW_DATA_DIR": "/nowhere"}, 1),
    ],
)
def test_under_json_a_start_that_is_refused_is_a_record_too(
    arguments: tuple[str, ...], settings: dict[str, str], code: int
) -> None:
    done = run(*arguments, settings={"BYTEBREW_LOG_FORMAT": "json", **settings})
    assert (done.returncode, done.stdout) == (code, "")
    (record,) = map(json.loads, done.stderr.splitlines())
    assert record["level"] == "error"


def test_a_trace_can_be_read_on_a_terminal(tmp_path: Path) -> None:
    install(tmp_path / "plugins", "broken", BROKEN)
    given = {
        "BYTEBREW_DATA_DIR": str(tmp_path / "data"),
        "BYTEBREW_PORT": "0",
        "BYTEBREW_PLUGINS_DIR": str(tmp_path / "plugins"),
    }
    ours, theirs = pty.openpty()
    engine = start([*BYTEBREW, "serve"], given, stdout=subprocess.PIPE, stderr=theirs, text=True)
    try:
        assert engine.stdout is not None
        httpx.get(f"{engine.stdout.readline().rsplit(' ', 1)[1].strip()}/api/v1/health")
    finally:
        engine.terminate()
        engine.communicate(timeout=30)
    shown = os.read(ours, 65536).decode().replace("\r\n", "\n")
    os.close(ours)
    os.close(theirs)
    assert "\n    | Traceback (most recent call last):\n" in shown
    assert "\n    | ValueError: first line\n    | second line\n" in shown


def test_the_ready_line_names_the_address_in_both_forms(tmp_path: Path) -> None:
    for form in ("text", "json"):
        with serving(tmp_path / form, {"BYTEBREW_LOG_FORMAT": form}) as engine:
            assert isinstance(engine, Process)
            assert httpx.get(f"{engine.url}/api/v1/health").status_code == 200
