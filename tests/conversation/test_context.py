"""What a model is shown of a long session: the summary's own limits, and what is left out where a vendor refuses."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

import anyio
import httpx
import pytest

from bytebrew import tool
from bytebrew.base.errors import ProviderError
from bytebrew.base.http_client.client import Http
from bytebrew.contract.events import MessageDelta
from bytebrew.contract.messages import Message, ModelRequest, Stop, ToolCall
from bytebrew.contract.provider import Provider, ProviderEvent
from bytebrew.conversation import history
from bytebrew.conversation.history import TokenCounts, fitted, token_counts
from bytebrew.engine import Engine
from bytebrew.store.messages import tokens
from bytebrew.testing import ScriptedProvider, chat, plugin, providing, scripted_schema, served_engine

TOO_LONG = "This model's maximum context length is {} tokens. However, your messages resulted in {} tokens"


def say(text: str) -> list[Any]:
    return [MessageDelta(content=text)]


def datas(events: list[Any], name: str) -> list[dict[str, Any]]:
    return [json.loads(event.data) for event in events if event.event == name]


async def converse(client: httpx.AsyncClient, count: int, session_id: str | None = None) -> tuple[str, list[Any]]:
    """The session, and all events, after so many messages."""
    seen: list[Any] = []
    for n in range(count):
        given = {"session_id": session_id} if session_id else {}
        events = await chat(client, "test", f"question {n} " + "x" * 400, **given)
        assert events[-1].event == "done", events[-1]
        session_id = json.loads(events[-1].data)["session_id"]
        seen += events
    assert session_id is not None
    return session_id, seen


class Double(Provider):
    """A model whose summaries follow a script of their own, and that may take less than it is sent."""

    type = "scripted"

    def __init__(self, summary: list[Any] | None = None, window: int | None = None) -> None:
        self.summary, self.window = summary or say("SUMMARY"), window
        self.requests: list[ModelRequest] = []
        self.summaries: list[ModelRequest] = []
        self.refused = 0

    async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
        summarises = request.system.startswith("Summarise")
        (self.summaries if summarises else self.requests).append(request)
        size = sum(map(tokens, request.messages))
        if self.window and size > self.window:
            self.refused += 1
            raise ProviderError(TOO_LONG.format(self.window, size), code="model_context_too_long")
        async for event in ScriptedProvider(self.summary if summarises else say("a" * 400)).stream(request, http):
            yield event


async def test_a_summary_has_a_token_limit_of_its_own() -> None:
    provider = Double()
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine, max_context_size=1000, max_tokens=77)
        await converse(client, 8)
    assert provider.summaries
    assert {request.max_tokens for request in provider.summaries} == {history.LEAST_SUMMARY}
    assert {request.max_tokens for request in provider.requests} == {77}


async def test_a_model_that_rambles_over_a_summary_holds_no_session_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "SUMMARY_SECONDS", 0.1)
    provider = Double(summary=[*say("So far. "), 30.0])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine, max_context_size=1000)
        with anyio.fail_after(30):
            session_id, _ = await converse(client, 8)
        made = len(provider.summaries)
        assert "So far." in provider.requests[-1].system
        await converse(client, 1, session_id)
    assert 0 < made < 8
    assert len(provider.summaries) <= made + 1


@pytest.mark.parametrize(
    "nothing",
    [
        [asyncio.Event()],
        [ProviderError("no", code="model_bad_request")],
        [*say("I will not"), Stop("refusal")],
        [Stop()],
    ],
    ids=["silent", "refused", "refuses", "empty"],
)
async def test_what_cannot_be_summarised_is_left_out_and_told_once(
    nothing: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "SUMMARY_SECONDS", 0.1)
    provider = Double(summary=nothing)
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine, max_context_size=1000)
        with anyio.fail_after(30):
            _, events = await converse(client, 8)
    told = datas(events, "context_trimmed")
    assert told
    assert {one["reason"] for one in told} == {"no_summary"}
    assert len(provider.summaries) == len(told)
    assert "Summary of the conversation" not in provider.requests[-1].system
    assert all(sum(map(tokens, request.messages)) <= 1000 for request in provider.requests)


async def test_a_summary_that_fails_for_a_while_is_made_later() -> None:
    provider = Double(summary=[ProviderError("busy", code="model_overloaded")])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine, max_context_size=1000)
        session_id, events = await converse(client, 8)
        provider.summary, provider.summaries = say("SUMMARY"), []
        await converse(client, 1, session_id)
    assert datas(events, "context_trimmed") == []
    assert "question 0 " in provider.summaries[0].messages[0].content
    assert "SUMMARY" in provider.requests[-1].system


# A vendor that refuses


async def window(engine: Engine) -> int | None:
    sql = "select context_window from models where name = 'test'"
    found: int | None = await engine.db.read(lambda conn: conn.execute(sql).fetchone()[0])
    return found


async def test_what_is_too_long_is_sent_again_with_less_and_the_window_is_remembered() -> None:
    provider = Double()
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        session_id, _ = await converse(client, 20)
        provider.window = 2000
        _, events = await converse(client, 1, session_id)
        assert provider.refused == 1
        assert await window(engine) == 2000
        [trimmed] = datas(events, "context_trimmed")
        assert (trimmed["reason"], trimmed["window"]) == ("too_long", 2000)
        assert trimmed["messages"] > 0
        await converse(client, 5, session_id)
        assert provider.refused == 1
        assert (await client.put("/api/v1/models/test", json={"model_name": "another"})).status_code == 200
        assert await window(engine) is None
    last = provider.requests[-1].messages
    assert (last[0].role, last[-1].role) == ("user", "user")


async def test_a_fallback_that_takes_less_than_the_model_answers_the_end_of_a_long_session() -> None:
    large = type("Large", (ScriptedProvider,), {"type": "large"})([MessageDelta(content="a" * 4000)])
    small = Double(window=2000)
    async with served_engine(providing(large, small)) as (engine, client):
        for body in (
            {"name": "test", "type": "scripted", "model_name": "x"},
            {"name": "large", "type": "large", "model_name": "x", "fallback": ["test"]},
        ):
            assert (await client.post("/api/v1/models", json=body)).status_code == 201
        await client.post("/api/v1/agents", json={"name": "test", "model": "large"})
        await client.post("/api/v1/schemas", json={"name": "test", "entry_agent": "test", "chat_enabled": True})
        session_id, _ = await converse(client, 4)
        large.answers = [[ProviderError("down", code="model_unavailable")]]
        _, events = await converse(client, 1, session_id)
        [trimmed] = datas(events, "context_trimmed")
        assert (trimmed["reason"], trimmed["window"], small.refused) == ("too_long", 2000, 1)
        assert await window(engine) == 2000
        sql = "select context_window from models where name = 'large'"
        assert await engine.db.read(lambda conn: conn.execute(sql).fetchone()[0]) is None
        failed = await client.post(
            "/api/v1/schemas/test/chat", json={"message": "x" * 100_000, "session_id": session_id, "stream": False}
        )
        assert (failed.status_code, failed.json()["error"]) == (502, "model_unavailable")


async def test_a_message_that_is_too_long_by_itself_fails_in_the_vendors_words() -> None:
    provider = Double(window=1200)
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        events = await chat(client, "test", "x" * 10_000)
    [error] = datas(events, "error")
    assert (error["code"], provider.refused) == ("model_context_too_long", 1)
    assert error["message"].startswith("This model's maximum context length is 1200 tokens")


async def test_a_step_is_not_sent_again_without_end() -> None:
    class Never(Double):
        async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
            self.requests.append(request)
            if self.window:
                raise ProviderError("too long", code="model_context_too_long")
            yield MessageDelta(content="a" * 400)
            yield Stop()

    provider = Never()
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        session_id, _ = await converse(client, 20)
        provider.window, provider.requests = 1, []
        events = await chat(client, "test", "go", session_id=session_id)
    sizes = [sum(map(tokens, request.messages)) for request in provider.requests]
    assert len(sizes) == 4
    assert sizes == sorted(sizes, reverse=True)
    assert datas(events, "error")[0]["code"] == "model_context_too_long"


@pytest.mark.parametrize("words", [TOO_LONG, "too long"])
async def test_a_turn_of_many_steps_gets_on_however_often_it_has_to_be_shortened(words: str) -> None:
    class Strict(Provider):
        """A model that counts two fifths more tokens than the engine, and looks at forty things."""

        type = "scripted"
        refused = steps = 0

        async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
            size = sum(map(tokens, request.messages)) * 7 // 5
            if size > 8000:
                self.refused += 1
                raise ProviderError(words.format(8000, size), code="model_context_too_long")
            self.steps += 1
            yield MessageDelta(content="well") if self.steps > 40 else ToolCall("look", {"n": self.steps}, "")
            yield Stop()

    @tool(idempotent=True)
    async def look(n: int) -> str:
        """Looks at a thing."""
        return "x" * 1600

    provider = Strict()
    looking = plugin(register_tools=lambda register: register(look))
    async with served_engine(providing(provider), looking) as (engine, client):
        await scripted_schema(engine, tools=["look"])
        events = await chat(client, "test", "go")
    assert (events[-1].event, provider.steps) == ("done", 41)
    assert len(datas(events, "context_trimmed")) == provider.refused > 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 10001 tokens.",
            (8192, 10001),
        ),
        (
            "maximum context length is 4096 tokens. However, you requested 5000 tokens (4000 in the messages)",
            (4096, 5000),
        ),
        ("prompt is too long: 210000 tokens > 200000 maximum", (200000, 210000)),
        ("input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, decrease", (200000, None)),
        ("input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", (1048576, 1200000)),
        ("Prompt contains 40000 tokens, too large for model with 32768 maximum context length", (32768, 40000)),
        ("This model's maximum prompt length is 131072 but the request contains 200000 tokens.", (131072, 200000)),
        ("the request exceeds the available context size (4096 tokens), try increasing it", (4096, None)),
        ("the maximum context length is 8,192 tokens", (8192, None)),
        ("the context window is 5 tokens", (None, None)),
        ("Please reduce the length of the messages", (None, None)),
    ],
)
def test_a_window_is_read_out_of_vendors_words(words: str, told: tuple[int | None, int | None]) -> None:
    assert token_counts(words) == TokenCounts(*told)


def test_long_tool_results_of_this_turn_lose_their_ends_once_earlier_turns_are_gone() -> None:
    earlier = [Message("user", "a" * 400), Message("assistant", "b" * 400), Message("user", "now")]
    own = [
        Message("assistant", tool_calls=(ToolCall("t", {}, "c"),)),
        Message("tool", "r" * 40_000, call_id="c", tool="t"),
    ]
    trimmed = fitted(earlier, own, 1000)
    assert (trimmed.earlier, trimmed.dropped) == (earlier[2:], 2)
    assert trimmed.own[0] == own[0]
    assert sum(map(tokens, [*trimmed.earlier, *trimmed.own])) <= 1050
    assert "left out to fit the context" in trimmed.own[1].content


# Answers that broke off


def failing() -> list[Any]:
    return [*say("Half of"), ProviderError("it broke", code="model_unavailable")]


def waiting() -> list[Any]:
    return [*say("Half of"), 30.0]


@pytest.mark.parametrize(
    ("answer", "status", "mark"),
    [(failing, "failed", "[This answer broke off here"), (waiting, "cancelled", "[This answer was stopped here")],
)
async def test_a_partial_answer_goes_back_to_the_model_marked(
    answer: Callable[[], list[Any]], status: str, mark: str
) -> None:
    provider = ScriptedProvider(answer(), say("ok"))
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        talking = asyncio.create_task(chat(client, "test", "go"))
        with anyio.fail_after(10):
            while status == "cancelled" and not [turn for turn in engine.runner.turns.values() if turn.text]:
                await asyncio.sleep(0.005)
        for turn in [*engine.runner.turns.values()] if status == "cancelled" else []:
            await client.post(f"/api/v1/sessions/{turn.session_id}/cancel")
        with anyio.fail_after(10):
            events = await talking
        session_id = datas(events, "done" if status == "cancelled" else "error")[0]["session_id"]
        await chat(client, "test", "and?", session_id=session_id)
        messages = (await client.get(f"/api/v1/sessions/{session_id}/messages")).json()
    partial = provider.requests[1].messages[1]
    assert partial.content.startswith(f"Half of\n{mark}")
    assert (messages[1]["content"], messages[1]["broken_off"]) == ("Half of", status)
    assert "broken_off" not in messages[3]
