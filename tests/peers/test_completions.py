"""OpenAI's own clients for Python and Node.js talk to an engine as to OpenAI, also one that is killed."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.peers.served import SCHEMA, Served, node, served, slow, steps

pytestmark = [pytest.mark.peers, pytest.mark.timeout(90)]

PYTHON = Path(__file__).parents[2] / ".cache/peers/openai/bin/python"
HERE = Path(__file__).parent
Start = Callable[[str, str, str, str], "subprocess.Popen[str]"]


def in_python(*arguments: str) -> "subprocess.Popen[str]":
    assert PYTHON.exists(), "run tests/peers/setup.sh first"
    command = ["timeout", "60", str(PYTHON), str(HERE / "completions_client.py"), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def in_node(*arguments: str) -> "subprocess.Popen[str]":
    return node(HERE / "completions_client.mjs", *arguments)


each_client = pytest.mark.parametrize("start", [in_python, in_node], ids=["python", "node"])


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("engine")) as made:
        yield made


@contextmanager
def program(start: Start, what: str, engine: Served, text: str = "Hi") -> Iterator[Iterator[Any]]:
    """A program with a client, by the lines that it writes."""
    with start(what, engine.url, engine.token, text) as process:
        try:
            assert process.stdout is not None
            yield map(json.loads, process.stdout)
            assert process.wait(30) == 0
        finally:
            process.kill()


def lines(start: Start, what: str, engine: Served, text: str = "Hi") -> list[Any]:
    with program(start, what, engine, text) as shown:
        return list(shown)


@each_client
def test_models_are_the_schemas(engine: Served, start: Start) -> None:
    assert lines(start, "models", engine) == [["demo", SCHEMA], "bytebrew", [404, "model_not_found", "model"]]


@each_client
def test_a_conversation_is_one_session_whole_and_streamed(engine: Served, start: Start) -> None:
    shown = lines(start, "conversation", engine, steps(["Hel", "lo"]) + start.__name__)
    sessions = {session for session, _, _ in shown if session}
    assert [rest for _, *rest in shown] == [["Hello", 15], ["Hello", 15], ["Hello", "stop"]]
    assert len(sessions) == 1
    said = [role for role, _, _ in engine.messages(sessions.pop())]
    assert said == ["user", "assistant"] * 3


def test_the_clients_tools_are_run_until_the_answer_in_python(engine: Served) -> None:
    shown = lines(
        in_python, "tools", engine, steps(["Well ", ["where", {"n": 1}]], [["where", {"n": 2}]], ["At ", None])
    )
    assert shown == [
        ["tool_calls", "Well ", ['{"n":1}']],
        ["tool_calls", None, ['{"n":2}']],
        ["stop", 'At place {"n":2}', []],
    ]


def test_the_clients_tools_are_run_until_the_answer_in_node(engine: Served) -> None:
    content, roles = lines(in_node, "tools", engine, steps(["Well ", ["where", {"n": 1}]], ["At ", None]))
    assert content == 'At place {"n":1}'
    assert roles == ["user", "assistant", "tool", "assistant"]


def test_a_person_approves_a_call_in_words(engine: Served) -> None:
    question, answer = lines(in_python, "approvals", engine, steps([["pay", {"amount": 3}]], [None]))
    assert question.startswith('May I run `pay` with\n\n```json\n{"amount":3}\n```')
    assert f"{engine.url}/api/v1/approvals" in question
    assert answer == "paid 3"


def test_an_answer_is_an_object_of_the_programs_type(engine: Served) -> None:
    assert lines(in_python, "structured", engine, steps(['{"n": ', "4}"])) == [4]


def test_an_image_is_an_attachment(engine: Served) -> None:
    [[session, answer]] = lines(in_python, "image", engine, steps(["Seen"]))
    assert answer == "Seen"
    [row, _] = engine.admin.get(f"sessions/{session}/messages").raise_for_status().json()
    assert row["attachments"][0]["media_type"] == "image/png"


def test_errors_are_the_clients_own_exceptions(engine: Served) -> None:
    assert lines(in_python, "errors", engine) == [
        ["AuthenticationError", 401, "invalid_api_key", None],
        ["BadRequestError", 400, "unsupported_value", "n"],
        ["BadRequestError", 400, "invalid_request", "messages"],
        ["NotFoundError", 404, "model_not_found", "model"],
    ]


@each_client
def test_a_stream_that_a_kill_broke_off_is_whole_by_its_key(tmp_path: Path, start: Start) -> None:
    text = steps([*slow(*(f"word {n} " for n in range(40))), ["weather", {"city": "Oslo"}]], [" So: ", None])
    with served(tmp_path) as engine:
        killed, seen = False, 0
        with program(start, "again", engine, text) as shown:
            for n, (streamed, _finish) in enumerate(shown):
                if n == 8 and not killed:
                    engine.kill()
                    killed, seen = True, len(streamed)
                    engine.start()
                whole = streamed
        assert killed
        assert 0 < seen < len(whole)
        assert whole == "".join(f"word {n} " for n in range(40)) + " So: Sunny in Oslo"
        sessions = engine.admin.get("sessions").raise_for_status().json()["sessions"]
        assert len(sessions) == 1
        assert len(engine.messages(sessions[0]["id"])) == 4


def test_a_request_that_a_kill_broke_off_is_repeated_by_the_client_and_answered_once(tmp_path: Path) -> None:
    with served(tmp_path) as engine:
        with program(in_python, "retried", engine) as shown:
            assert next(shown) == "sent"
            until = time.monotonic() + 10
            while not (sessions := engine.admin.get("sessions").json()["sessions"]) and time.monotonic() < until:
                time.sleep(0.05)
            time.sleep(0.3)
            engine.kill()
            engine.start()
            answer = next(shown)
        assert answer == "".join(f"word {n} " for n in range(1, 41))
        assert [one["id"] for one in engine.admin.get("sessions").json()["sessions"]] == [sessions[0]["id"]]
