"""OpenAI's Responses with real clients: OpenAI's own for Python and Node.js, and the AI SDK's for Open Responses."""

import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.peers.served import Served, node, served, slow, steps

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]

PYTHON = Path(__file__).parents[2] / ".cache/peers/openai/bin/python"
SCRIPTS = Path(__file__).parent
MESSAGE = steps(
    [{"think": "hm"}, *slow(*(f"word{n} " for n in range(30))), ["weather", {"city": "Oslo"}]], ["So: ", None]
)
EVENTS = [
    *("response.created", "response.in_progress"),
    *("response.output_item.added", "response.reasoning_summary_part.added", "response.reasoning_summary_text.delta"),
    *("response.reasoning_summary_text.done", "response.reasoning_summary_part.done", "response.output_item.done"),
    *("response.output_item.added", "response.content_part.added"),
    *("response.output_text.delta", "response.output_text.delta"),
    *("response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed"),
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("engine")) as running:
        yield running


def python(engine: Served, *arguments: str) -> "subprocess.Popen[str]":
    """An act of the official client for Python."""
    assert PYTHON.exists(), "run tests/peers/setup.sh first"
    command = ["timeout", "60", str(PYTHON), str(SCRIPTS / "responses_client.py"), engine.url, engine.token, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def javascript(engine: Served, *arguments: str) -> "subprocess.Popen[str]":
    """An act of a client for Node.js."""
    return node(SCRIPTS / "responses_client.mjs", engine.url, engine.token, *arguments)


def lines(process: "subprocess.Popen[str]") -> Iterator[Any]:
    """What the client prints, line by line; it must end well."""
    assert process.stdout is not None
    with process:
        yield from map(json.loads, process.stdout)
    assert process.returncode == 0


def merged(found: Sequence[Any]) -> dict[str, list[Any]]:
    values: dict[str, list[Any]] = {}
    for line in found:
        for name, value in line.items():
            values.setdefault(name, []).append(value)
    return values


@pytest.mark.parametrize("client", [python, javascript])
def test_the_official_client_does_all_that_a_response_can_do(engine: Served, client: Any) -> None:
    found = merged([*lines(client(engine, "acts"))])
    assert found["text"] == ["Hello", "more", "ab", "at home", "at sea", "so: paid 3"]
    assert found["status"] == ["completed", "cancelled", 404]
    assert (found["metadata"], found["total"], found["again"]) == ([{"a": "b"}], [15], [True, "cancelled"])
    assert (found["previous"], found["items"]) == ([True], [[steps(["more"])]])
    assert (found["kinds"], found["reasoning"]) == ([EVENTS], ["hm"])
    assert (found["call"], found["arguments"], found["parsed"]) == (["where"], [{"n": 1}], [4])
    assert (found["asked"], found["output"]) == (["pay"], ["paid 3"])
    assert (found["code"], found["param"]) == (["not_found", "previous_response_not_found"], ["previous_response_id"])


def test_each_case_of_the_compliance_suite_over_http_is_held_to_the_types_of_the_specification(engine: Served) -> None:
    found = [*lines(python(engine, "comply"))]
    names = "basic-response assistant-phase streaming-response system-prompt tool-calling image-input multi-turn"
    assert [line["case"] for line in found] == names.split()
    assert all(line["status"] == "completed" and line["has"] and line["events"] > 5 for line in found)


def alike(text: str, response_id: str) -> str:
    """A text without what differs between two responses: their ids and when they were created."""
    return re.sub(r'("created_at": ?)[0-9.]+', r"\g<1>0", text.replace(response_id.removeprefix("resp_"), "x"))


@pytest.mark.parametrize("client", [python, javascript])
def test_a_stream_in_the_background_outlives_a_kill_and_is_that_of_a_calm_engine(tmp_path: Path, client: Any) -> None:
    with served(tmp_path) as engine:
        transcripts, raw = [], []
        for kill_at in (0, 12):
            events = []
            for line in lines(client(engine, MESSAGE, "background")):
                events.append(line["event"])
                if kill_at and len(events) == kill_at:
                    engine.kill()
                    engine.start()
            response_id = events[0]["response"]["id"]
            transcripts.append(json.loads(alike(json.dumps(events), response_id)))
            headers = {"Authorization": f"Bearer {engine.token}"}
            whole = httpx.get(f"{engine.url}/v1/responses/{response_id}?stream=true", headers=headers).text
            raw.append(alike(whole, response_id))
        calm, killed = transcripts
        assert [event["sequence_number"] for event in killed] == [*range(len(killed))]
        assert killed == calm
        assert raw[0] == raw[1]
        assert calm[-1]["response"]["output"][-1]["content"][0]["text"] == "So: Sunny in Oslo"


def test_the_ai_sdk_runs_its_tools_streams_and_shows_errors(engine: Served) -> None:
    found = merged([*lines(javascript(engine, "ai"))])
    assert found["text"] == ["at home", "one two", "and so on"]
    assert found["steps"] == [2]
    assert found["deltas"] == [["one ", "two"]]
    assert found["reasoning"] == ["hm"]
    assert found["object"] == [{"n": 4}]
    assert found["total"] == [15]
    [error] = found["error"]
    assert error.startswith("The model 'none' does not exist")
