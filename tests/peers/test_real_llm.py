"""A real model behind a real server of the OpenAI wire: what happens is asserted, what the model says never."""

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Literal

import anyio
import httpx
import msgspec
import pytest
from bytebrew_chat_completions import ChatCompletions
from msgspec import Struct

from bytebrew import Message, ModelRequest, Stop, ToolCall, ToolSpec, Usage, tool
from bytebrew.base.sse_reader import ServerSentEvent
from bytebrew.testing import chat, engine, events_of, names, plugin, providing, served_engine

pytestmark = pytest.mark.peers

PYTHON = Path(__file__).parents[2] / ".cache/peers/llm/bin/python"
LONG = 1500
"""Tokens that take the model many seconds."""


@pytest.fixture(scope="module")
def llm() -> Iterator[str]:
    """The URL of llama.cpp's server with a small model."""
    with listening(CTX="4096") as url:
        yield url


@pytest.fixture
def narrow_llm() -> Iterator[str]:
    """The same with a window of 1024 tokens, as two conversations share the server's."""
    with listening(CTX="2048") as url:
        yield url


@contextmanager
def listening(**settings: str) -> Iterator[str]:
    """The URL of a server with these settings."""
    assert PYTHON.exists(), "run tests/peers/setup.sh first"
    with subprocess.Popen(
        [PYTHON, Path(__file__).with_name("real_llm_server.py")],
        env=os.environ | {"PORT": "0"} | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline().split()
            assert ready and ready[0] == "listening", "the model's server did not start"
            yield ready[1]
        finally:
            process.kill()


@asynccontextmanager
async def talking(
    llm: str, *plugins: tuple[str, object], type: str = "openai_compatible", **agent: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an engine whose schema `talk` has an agent on the real model, deterministic but for its settings."""
    async with served_engine(*plugins) as (_, client):
        for path, body in (
            ("models", {"type": type, "model_name": "smollm2", "base_url": f"{llm}/v1"}),
            ("agents", {"model": "talk", "temperature": 0, "max_tokens": 60, "max_steps": 3} | agent),
            ("schemas", {"entry_agent": "talk", "chat_enabled": True}),
        ):
            answer = await client.post(f"/api/v1/{path}", json={"name": "talk", **body})
            assert answer.status_code == 201, answer.text
        yield client


def data(events: list[ServerSentEvent], name: str) -> list[dict[str, Any]]:
    """What the events of a name carry."""
    return [msgspec.json.decode(event.data) for event in events if event.event == name]


async def test_the_deltas_of_a_streamed_answer_make_up_its_message(llm: str) -> None:
    async with talking(llm) as client:
        events = await chat(client, "talk", "Count from one to twenty.")
    deltas = [delta["content"] for delta in data(events, "message_delta")]
    assert names(events) == ["message_delta", "message", "done"]
    assert len(deltas) > 5
    assert data(events, "message")[0]["content"] == "".join(deltas)
    usage = data(events, "done")[0]["usage"]
    assert usage["input_tokens"] > 0
    assert usage["output_tokens"] >= len(deltas)


class Forecast(Struct, forbid_unknown_fields=True):
    """The arguments of the tool `forecast`."""

    city: Literal["Paris", "Rome", "Oslo"]
    days: int


SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome", "Oslo"]}, "days": {"type": "integer"}},
    "required": ["city", "days"],
}
CLOSED = SCHEMA | {"additionalProperties": False}


async def test_a_tool_call_that_is_required_comes_with_arguments_that_fit_the_schema(llm: str) -> None:
    request = ModelRequest(
        model_name="smollm2",
        base_url=f"{llm}/v1",
        messages=(Message("user", "What will the weather be in Rome for the next 3 days?"),),
        tools=(ToolSpec("forecast", "The weather of the coming days in a city.", SCHEMA),),
        tool_choice="required",
        temperature=0,
        max_tokens=200,
    )
    async with engine() as running:
        provider = running.providers["openai_compatible"]
        events = [event async for event in provider.stream(request, running.http)]
    call, usage, stop = events
    assert isinstance(call, ToolCall)
    assert call.tool == "forecast"
    assert call.malformed is None
    msgspec.convert(call.input, Forecast)
    assert isinstance(usage, Usage)
    assert usage.output_tokens > 0
    assert stop == Stop("tool_calls")


async def test_a_structured_answer_is_valid_and_comes_as_data_where_the_server_enforces_the_schema(llm: str) -> None:
    async with talking(llm, max_tokens=200, response_format={"type": "json_schema", "schema": CLOSED}) as client:
        events = await chat(client, "talk", "The weather in Rome for the next 3 days?")
    message = data(events, "message")[0]
    assert msgspec.json.decode(message["content"]) == message["data"]
    msgspec.convert(message["data"], Forecast)
    assert names(events) == ["message_delta", "message", "done"]


class Forcing(ChatCompletions):
    """Requires a tool call until there is a result, and an answer in words from then on."""

    type = "forcing"

    def body(self, request: ModelRequest) -> dict[str, Any]:
        choice = "none" if request.messages[-1].role == "tool" else "required"
        return super().body(request) | {"tool_choice": choice}


@tool
async def forecast(city: Literal["Paris", "Rome", "Oslo"], days: int) -> str:
    """The weather of the coming days in a city."""
    return f"{city}: rain on day {days}"


def with_forecast() -> tuple[str, object]:
    def register_tools(register: Any) -> None:
        register(forecast)

    return plugin(register_tools=register_tools)


async def test_the_model_is_given_the_result_of_the_tool_that_it_called(llm: str) -> None:
    asked = "What will the weather be in Rome for the next 3 days?"
    async with talking(
        llm, providing(Forcing()), with_forecast(), type="forcing", tools=["forecast"], max_tokens=200
    ) as client:
        events = await chat(client, "talk", asked)
    assert names(events) == ["tool_call", "tool_result", "message_delta", "message", "done"]
    call, result = data(events, "tool_call")[0], data(events, "tool_result")[0]
    arguments = msgspec.convert(call["input"], Forecast)
    assert result["call_id"] == call["call_id"]
    assert result["output"] == f"{arguments.city}: rain on day {arguments.days}"


async def test_whatever_the_model_makes_of_a_tool_on_offer_every_call_has_its_result(llm: str) -> None:
    async with talking(llm, with_forecast(), tools=["forecast"]) as client:
        events = await chat(client, "talk", "Say hello.")
    called, answered = ([call["call_id"] for call in data(events, name)] for name in ("tool_call", "tool_result"))
    assert called == answered
    assert events[-1].event == "done" or data(events, "error")[0]["code"] == "max_steps_reached"


async def slots(model: httpx.AsyncClient) -> list[dict[str, Any]]:
    """What llama.cpp says of each of its slots: whether it generates, and how much in its latest request."""
    found: list[dict[str, Any]] = (await model.get("/slots")).json()
    return found


async def generating(model: httpx.AsyncClient) -> bool:
    return any(slot["is_processing"] for slot in await slots(model))


async def test_cancelling_a_turn_stops_the_model_and_the_session_goes_on(llm: str) -> None:
    async with talking(llm, max_tokens=LONG) as client, httpx.AsyncClient(base_url=llm) as model:
        events: list[ServerSentEvent] = []
        body = {"message": "Write a very long story about the sea, in ten chapters."}
        async with client.stream("POST", "/api/v1/schemas/talk/chat", json=body) as response:
            session_id = response.headers["x-session-id"]
            async for event in events_of(response):
                events.append(event)
                if len(data(events, "message_delta")) == 3 and event.event == "message_delta":
                    assert await generating(model)
                    assert (await client.post(f"/api/v1/sessions/{session_id}/cancel")).status_code == 204
        assert names(events) == ["message_delta", "done"]
        assert data(events, "done")[0]["status"] == "cancelled"

        with anyio.fail_after(10):
            while await generating(model):
                await anyio.sleep(0.05)
        decoded = [slot["next_token"][0]["n_decoded"] for slot in await slots(model) if "next_token" in slot]
        assert max(decoded) < LONG

        await client.patch("/api/v1/agents/talk", json={"max_tokens": 20})
        goes_on = await chat(client, "talk", "Who are you?", session_id=session_id)
        begins = await chat(client, "talk", "Who are you?")
    assert names(goes_on) == names(begins) == ["message_delta", "message", "done"]
    seen, alone = (data(events, "done")[0]["usage"]["input_tokens"] for events in (goes_on, begins))
    assert seen > alone


class Recording(ChatCompletions):
    """Keeps what the real model is asked."""

    type = "recording"

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[ModelRequest] = []

    def body(self, request: ModelRequest) -> dict[str, Any]:
        self.requests.append(request)
        return super().body(request)


@pytest.mark.timeout(900)
async def test_a_conversation_goes_on_past_the_real_window_of_its_model(narrow_llm: str) -> None:
    provider = Recording()
    summarised: list[dict[str, Any]] = []
    trimmed: list[dict[str, Any]] = []
    async with talking(
        narrow_llm, providing(provider), type="recording", max_tokens=16, summary_keep=1, max_turn_duration=900
    ) as client:
        session_id: str | None = None
        for n in range(5):
            fact = f"Fact {n}: the door {n} is opened by the code {n}{n}{n}. " + "The weather was fine that day. " * 40
            events = await chat(client, "talk", fact, **({"session_id": session_id} if session_id else {}))
            assert events[-1].event == "done", events[-1]
            session_id = data(events, "done")[0]["session_id"]
            summarised += data(events, "summarised")
            cut_short = data(events, "context_trimmed")
            trimmed += cut_short
            # what was just said is in the request as it was, unless a summary of this length leaves it no room
            answered = [one for one in provider.requests if not one.system.startswith("Summarise")][-1]
            shown = " ".join(message.content for message in answered.messages)
            assert all(f"code {m}{m}{m}." in shown for m in range(n if cut_short or n == 0 else n - 1, n + 1)), n
        detail = (await client.get(f"/api/v1/sessions/{session_id}")).json()
    assert [one["reason"] for one in trimmed] == ["too_long"] * len(trimmed)  # until the window is known
    assert 1 <= len(trimmed) <= 3
    assert summarised
    assert [one["through"] for one in summarised] == sorted({one["through"] for one in summarised})
    assert sum(one["messages"] for one in summarised) == summarised[-1]["through"] == detail["summary"]["through"]
    assert sum(one["tokens_before"] for one in summarised) > sum(one["tokens_after"] for one in summarised)
    assert detail["message_count"] == 10
    assert detail["summary"]["content"] in provider.requests[-1].system
