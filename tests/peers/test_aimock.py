"""Conversations in five vendors' wires with a server by someone else."""

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest

from bytebrew import tool
from bytebrew.base.sse_reader import ServerSentEvent
from bytebrew.testing import chat, names, plugin, served_engine

pytestmark = pytest.mark.peers

SERVER = Path(__file__).parents[2] / ".cache/peers/aimock/node_modules/@copilotkit/aimock/dist/cli.js"
KEY = "sk-peer-0123456789abcdef"
GREETING = "Grüße aus Köln, liebe Welt! 世界 sagt hallo. 🎉"


class Vendor(NamedTuple):
    """A type of model, its path on the server, and the header that has the key."""

    type: str
    path: str
    header: str


VENDORS = (
    Vendor("openai_compatible", "/v1", "authorization"),
    Vendor("anthropic", "", "x-api-key"),
    Vendor("google", "/v1beta", "x-goog-api-key"),
    Vendor("ollama", "", "authorization"),
    Vendor("azure_openai", "", "api-key"),
)


def when(says: str, response: dict[str, Any], match: dict[str, Any] | None = None, **how: Any) -> dict[str, Any]:
    """What the server answers to a user's message, in the server's own notation."""
    return {"match": {"userMessage": says} | (match or {}), "response": response, **how}


def fails(status: int) -> dict[str, Any]:
    return {"error": {"message": "The server went BOOM 42", "type": "some_error"}, "status": status}


FIXTURES = [
    when("greet", {"content": GREETING, "usage": {"prompt_tokens": 11, "completion_tokens": 7}}),
    when("weather", {"content": "Föhn here, snow there."}, {"toolResultContains": "雪 in 北京"}),
    when(
        "weather",
        {"toolCalls": [{"name": "weather", "arguments": {"city": city}} for city in ("Zürich", "北京")]},
        {"hasToolResult": False},
    ),
    *(when(f"fail {status}", fails(status)) for status in (400, 401, 429, 500, 503)),
    when("break off", {"content": GREETING * 10}, truncateAfterChunks=3),
]


@pytest.fixture(scope="module")
def aimock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's URL."""
    assert SERVER.exists(), "run tests/peers/setup.sh first"
    fixtures = tmp_path_factory.mktemp("aimock") / "fixtures.json"
    fixtures.write_bytes(msgspec.json.encode({"fixtures": FIXTURES}))
    with subprocess.Popen(
        ["node", SERVER, "-p", "0", "-f", fixtures, "--chunk-size", "6", "--strict"],
        env=os.environ | {"AIMOCK_API_KEYS": KEY},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            url = next((line.split()[-1] for line in process.stdout if "listening on" in line), "")
            assert url, "the server did not start"
            yield url
        finally:
            process.kill()


@tool
async def weather(city: str) -> str:
    """The weather in a city."""
    return {"Zürich": "föhn in Zürich", "北京": "雪 in 北京"}[city]


def register_tools(register: Any) -> None:
    register(weather)


@asynccontextmanager
async def talking(url: str, vendor: Vendor) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an engine whose schema `talk` has an agent with that vendor's model and the tool `weather`."""
    settings = {"BYTEBREW_PROVIDER_RETRIES": "0"}
    async with served_engine(plugin(register_tools=register_tools), settings=settings) as (_, client):
        for path, body in (
            ("models", {"type": vendor.type, "model_name": "m-1", "base_url": url + vendor.path, "api_key": KEY}),
            ("agents", {"model": "talk", "system": "Be brief.", "tools": ["weather"], "tool_execution": "parallel"}),
            ("schemas", {"entry_agent": "talk", "chat_enabled": True}),
        ):
            answer = await client.post(f"/api/v1/{path}", json={"name": "talk", **body})
            assert answer.status_code == 201, answer.text
        yield client


def data(events: list[ServerSentEvent], name: str) -> list[dict[str, Any]]:
    """What the events of a name carry."""
    return [msgspec.json.decode(event.data) for event in events if event.event == name]


async def asked(url: str) -> list[dict[str, Any]]:
    """The requests that the server has had."""
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {KEY}"}) as client:
        found: list[dict[str, Any]] = (await client.get("/__aimock/journal")).json()
    return found


each_vendor = pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.type)


@each_vendor
async def test_text_is_streamed_and_its_tokens_are_counted(aimock: str, vendor: Vendor) -> None:
    async with talking(aimock, vendor) as client:
        events = await chat(client, "talk", "Please greet me")
    deltas = [delta["content"] for delta in data(events, "message_delta")]
    assert names(events) == ["message_delta", "message", "done"]
    assert len(deltas) > 3
    assert "".join(deltas) == data(events, "message")[0]["content"] == GREETING
    usage = data(events, "done")[0]["usage"]
    counted = (0, 0) if vendor.type == "ollama" else (11, 7)  # in Ollama's wire this server always says 0
    assert (usage["input_tokens"], usage["output_tokens"]) == counted
    latest = (await asked(aimock))[-1]
    assert latest["headers"].get(vendor.header), "the key came in another header"
    assert KEY not in latest["path"]


@each_vendor
async def test_two_parallel_calls_are_run_and_their_results_understood(aimock: str, vendor: Vendor) -> None:
    async with talking(aimock, vendor) as client:
        events = await chat(client, "talk", "How is the weather?")
    assert names(events) == ["tool_call"] * 2 + ["tool_result"] * 2 + ["message_delta", "message", "done"]
    assert [call["input"] for call in data(events, "tool_call")] == [{"city": "Zürich"}, {"city": "北京"}]
    results = {result["call_id"]: result["output"] for result in data(events, "tool_result")}
    assert [results[call["call_id"]] for call in data(events, "tool_call")] == ["föhn in Zürich", "雪 in 北京"]
    assert data(events, "message")[0]["content"] == "Föhn here, snow there."


@each_vendor
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "model_bad_request"),
        (401, "model_auth"),
        (429, "model_rate_limited"),
        (500, "model_unavailable"),
        (503, "model_overloaded"),
    ],
)
async def test_an_error_is_told_in_the_servers_words(aimock: str, vendor: Vendor, status: int, code: str) -> None:
    async with talking(aimock, vendor) as client:
        events = await chat(client, "talk", f"Please fail {status}")
    assert names(events) == ["error"]
    error = data(events, "error")[0]
    assert error["code"] == code
    assert "BOOM 42" in error["message"]


@each_vendor
async def test_an_answer_that_breaks_off_is_no_answer(aimock: str, vendor: Vendor) -> None:
    async with talking(aimock, vendor) as client:
        events = await chat(client, "talk", "Please break off")
    assert events[-1].event == "error"
    assert data(events, "error")[0]["code"] == "model_unavailable"
