"""Log lines: one for each record, in text or JSON, without a secret in it."""

import json
import logging
import subprocess
import sys

import pytest

from bytebrew.base.logs import Line, trace_id
from tests.base.test_masking import JWT, SECRETS


def failing(words: str) -> logging.LogRecord:
    try:
        raise ValueError(words)
    except ValueError:
        return logging.LogRecord("bytebrew.test", logging.ERROR, __file__, 1, "it %s", ("broke",), sys.exc_info())


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_record_is_one_line_even_with_a_trace(form: str) -> None:
    line = Line(form).format(failing("first\nsecond\r\nthird"))
    assert len(line.splitlines()) == 1
    assert "Traceback" in line
    assert "second" in line
    assert "it broke" in line


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_trace_gives_no_secret_away(form: str) -> None:
    line = Line(form).format(failing(f"cannot use {SECRETS[0]} nor {JWT}"))
    assert SECRETS[0] not in line
    assert JWT not in line


def test_json_carries_the_fields_and_the_trace_id() -> None:
    token = trace_id.set("req_1")
    try:
        told = json.loads(Line("json").format(failing("x")))
    finally:
        trace_id.reset(token)
    assert {name: told[name] for name in ("level", "logger", "trace", "message")} == {
        "level": "error",
        "logger": "bytebrew.test",
        "trace": "req_1",
        "message": "it broke",
    }
    assert told["exception"].splitlines()[-1] == "ValueError: x"
    assert told["time"].endswith("Z")


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_a_client_sends_cannot_forge_a_line_or_steer_a_terminal(form: str) -> None:
    hostile = "a\n2026-01-01 info forged\x1b[2Jb\u2028c\x85d\ud800e\x9b2Jf"
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "%s", (hostile,), None)
    line = Line(form).format(record)
    assert len(line.encode().split(b"\n")) == 1
    assert "\x1b" not in line
    assert form == "json" or "\x9b" not in line  # one character that begins such a sequence too


def test_records_of_every_logger_go_to_standard_error_at_the_level_that_was_asked_for() -> None:
    program = """
import logging, bytebrew.base.logs
bytebrew.base.logs.start("warning", "json")
logging.getLogger("any").info("quiet")
logging.getLogger("any").warning("loud")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert [json.loads(line)["message"] for line in done.stderr.splitlines()] == ["loud"]


def test_what_a_fenced_node_cannot_do_is_not_told_again_and_again() -> None:
    program = """
import logging, bytebrew.base.logs
from bytebrew.base.errors import Fenced, StorageError
bytebrew.base.logs.start("warning", "json")
for error in (Fenced(), StorageError("full")):
    try:
        raise error
    except StorageError:
        logging.getLogger("any").exception("a loop failed: %s", error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert [json.loads(line)["message"] for line in done.stderr.splitlines()] == ["a loop failed: full"]


def test_a_trace_has_lines_of_its_own_on_a_terminal_none_of_which_looks_like_a_record() -> None:
    first, *trace = Line("terminal").format(failing("first\n2026-01-01 info forged\x1b[2J")).split("\n")
    assert first.endswith("it broke")
    assert trace[0] == "    | Traceback (most recent call last):"
    assert trace[-1] == "    | 2026-01-01 info forged\\x1b[2J"
    assert all(line.startswith("    | ") for line in trace)
