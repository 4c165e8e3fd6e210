"""Log lines: one for each record, in text or JSON, without a secret in it."""

import json
import logging
import subprocess
import sys

import pytest
from bytebrew_tokens.store import new_token

from bytebrew.base.jwt import SigningKey, sign
from bytebrew.base.logs import Line, trace_id
from bytebrew.base.masking import redact

JWT = sign({"sub": "x", "exp": 1}, SigningKey.generate())
SECRETS = (
    new_token(),
    JWT,
    "sk-proj-0123456789abcdefghij",
    "sk-ant-api03-0123456789_-abcdef",
    "xai-0123456789abcdefghij",
    "gsk_0123456789abcdefghij",
    "AIzaSyA0123456789_abcdefghij",
    "bbv_roI2RMPY-f71zU8YoPik09Tb8zQO--Yraj3n2a9zYHheh_Ust8TR83uM_tw",
)


def failing(words: str) -> logging.LogRecord:
    try:
        raise ValueError(words)
    except ValueError:
        return logging.LogRecord("bytebrew.test", logging.ERROR, __file__, 1, "it %s", ("broke",), sys.exc_info())


@pytest.mark.parametrize("secret", SECRETS, ids=range(len(SECRETS)))
@pytest.mark.parametrize("around", ["{}", "key={} was refused", '{{"api_key": "{}"}}', "https://vendor/v1?key={}&x=1"])
def test_what_looks_like_a_credential_is_blotted_out(secret: str, around: str) -> None:
    told = redact(around.format(secret))
    assert secret not in told
    assert secret[-10:] not in told
    assert "***" in told


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_what_follows_bearer_is_blotted_out_whatever_it_is(scheme: str) -> None:
    assert redact(f"Authorization: {scheme} hunter2") == f"Authorization: {scheme} ***"


def test_a_command_that_a_shell_is_to_replace_by_a_token_stays_whole() -> None:
    line = """-H "Authorization: Bearer $(curl -s -X POST http://127.0.0.1:8443/x | sed 's/a/b/')" """
    assert redact(line) == line


@pytest.mark.parametrize(
    "text", ["skeleton_of_a_long_identifier", "task-force-seventeen-is-here", "turn_0123456789abcdef01234567"]
)
def test_ordinary_words_stay(text: str) -> None:
    assert redact(text) == text


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


def test_a_trace_has_lines_of_its_own_on_a_terminal_none_of_which_looks_like_a_record() -> None:
    first, *trace = Line("terminal").format(failing("first\n2026-01-01 info forged\x1b[2J")).split("\n")
    assert first.endswith("it broke")
    assert trace[0] == "    | Traceback (most recent call last):"
    assert trace[-1] == "    | 2026-01-01 info forged\\x1b[2J"
    assert all(line.startswith("    | ") for line in trace)
