"""The face of OpenAI Chat Completions: shapes, segments, histories and errors, over HTTP."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from bytebrew import MessageDelta, Stop, Thinking, ToolCall, Usage
from bytebrew.testing import ScriptedProvider, client, engine, providing, scripted_schema

URL = "/v1/chat/completions"
WHERE = {
    "type": "function",
    "function": {"name": "where_am_i", "description": "The place", "parameters": {"type": "object", "properties": {}}},
}


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def says(*texts: str) -> list[Any]:
    """A step of the model."""
    return [*(MessageDelta(content=text) for text in texts), Usage(11, 7, cached_tokens=3, thinking_tokens=2)]


@asynccontextmanager
async def talking(
    *answers: list[Any], schema: dict[str, Any] | None = None, **agent: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, ScriptedProvider]]:
    """A client of an engine whose schema `test` has a model that gives these answers."""
    provider = ScriptedProvider(*answers)
    async with engine(providing(provider)) as running, client(running) as http:
        await scripted_schema(running, **agent)
        changed = await http.patch("/api/v1/schemas/test", json={"client_tools": True, **(schema or {})})
        assert changed.status_code == 200, changed.text
        yield http, provider


async def complete(http: httpx.AsyncClient, *messages: Any, **body: Any) -> httpx.Response:
    headers = body.pop("headers", {})
    return await http.post(URL, json={"model": "test", "messages": messages, **body}, headers=headers)


async def text_of(http: httpx.AsyncClient, *messages: Any, **body: Any) -> tuple[str, str]:
    """The text of an answer, and its session."""
    response = await complete(http, *messages, **body)
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["message"]["content"], response.headers["x-session-id"]


def chunks(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    parts = [part for part in response.text.split("\n\n") if part and not part.startswith(":")]
    assert parts[-1] == "data: [DONE]"
    return [json.loads(part.removeprefix("data: ")) for part in parts[:-1]]


async def test_a_completion_has_openais_shape() -> None:
    async with talking([Thinking(content="Hm"), *says("Hel", "lo")]) as (http, _):
        response = await complete(http, user("hi"))
        body = response.json()
        turn_id = response.headers["x-turn-id"]
        assert isinstance(body.pop("created"), int)
        assert body.pop("system_fingerprint").startswith("bytebrew-")
        assert body == {
            "id": f"chatcmpl-{turn_id}",
            "object": "chat.completion",
            "model": "test",
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": "Hello",
                        "refusal": None,
                        "annotations": [],
                        "reasoning_content": "Hm",
                    },
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {
                "prompt_tokens": 11,
                "completion_tokens": 7,
                "total_tokens": 18,
                "prompt_tokens_details": {"cached_tokens": 3, "audio_tokens": 0},
                "completion_tokens_details": {
                    "reasoning_tokens": 2,
                    "audio_tokens": 0,
                    "accepted_prediction_tokens": 0,
                    "rejected_prediction_tokens": 0,
                },
            },
        }


async def test_a_stream_has_chunks_of_one_id_and_its_usage_in_the_last_if_wanted() -> None:
    async with talking(says("Hel", "lo")) as (http, _):
        response = await complete(http, user("hi"), stream=True, stream_options={"include_usage": True})
        made = chunks(response)
        assert {one["id"] for one in made} == {f"chatcmpl-{response.headers['x-turn-id']}"}
        assert {one["object"] for one in made} == {"chat.completion.chunk"}
        assert [one["choices"][0]["delta"] for one in made[:-1]] == [
            {"role": "assistant", "content": ""},
            {"content": "Hel"},
            {"content": "lo"},
            {},
        ]
        assert [one["choices"][0]["finish_reason"] for one in made[:-1]] == [None, None, None, "stop"]
        assert [one["usage"] for one in made[:-1]] == [None] * 4
        assert (made[-1]["choices"], made[-1]["usage"]["total_tokens"]) == ([], 18)
        plain = chunks(await complete(http, user("hi"), stream=True))
        assert not any("usage" in one for one in plain)


async def test_a_conversation_continues_its_session_with_the_newest_message_alone() -> None:
    async with talking(says("one"), says("two"), says("three")) as (http, provider):
        said, session = [user("a")], ""
        for n, answer in enumerate(["one", "two", "three"]):
            text, now = await text_of(http, {"role": "system", "content": f"Be brief {n}."}, *said)
            assert (text, session or now) == (answer, now)
            session = now
            said += [assistant(text), user(f"b{n}")]
        assert [one.content for one in provider.requests[-1].messages if "Be brief" not in one.content] == [
            "a",
            "one",
            "b0",
            "two",
            "b1",
        ]


async def test_calls_of_the_clients_tools_end_an_answer_and_their_results_go_on_with_it() -> None:
    calls = [ToolCall("where_am_i", {"n": n}, f"call_{n}") for n in range(2)]
    answers = [[*says("Let me see."), *calls, Stop("tool_calls")], says("Here.")]
    async with talking(*answers, tool_execution="parallel") as (http, provider):
        first = await complete(http, user("where?"), tools=[WHERE], stream=True)
        made = chunks(first)
        assert made[-1]["choices"][0]["finish_reason"] == "tool_calls"
        tool_calls = made[-2]["choices"][0]["delta"]["tool_calls"]
        assert [(one["index"], one["id"], one["type"], one["function"]) for one in tool_calls] == [
            (n, f"call_{n}", "function", {"name": "where_am_i", "arguments": f'{{"n":{n}}}'}) for n in range(2)
        ]
        asks = {"role": "assistant", "content": "Let me see.", "tool_calls": tool_calls}
        results = [{"role": "tool", "tool_call_id": f"call_{n}", "content": f"place {n}"} for n in range(2)]
        second = await complete(http, user("where?"), asks, *results, tools=[WHERE])
        assert second.json()["choices"][0]["message"]["content"] == "Here."
        assert second.json()["id"] == f"chatcmpl-{first.headers['x-turn-id']}-1"
        for name in ("x-session-id", "x-turn-id"):
            assert second.headers[name] == first.headers[name]
        again = await complete(http, user("where?"), asks, *results, tools=[WHERE])
        assert again.content == second.content
        assert len(provider.requests) == 2
        third = await complete(http, user("where?"), asks, *results, assistant("Here."), user("thanks"), tools=[WHERE])
        assert third.headers["x-session-id"] == first.headers["x-session-id"]
        missing = await complete(http, user("where?"), asks, results[0], tools=[WHERE])
        assert (missing.status_code, missing.json()["error"]["param"]) == (400, "messages")


@pytest.mark.parametrize("stream", [True, False])
async def test_the_same_idempotency_key_gives_the_same_bytes(stream: bool) -> None:
    async with talking(says("Hel", "lo"), says("other")) as (http, provider):
        first, second = [
            await complete(http, user("hi"), stream=stream, headers={"Idempotency-Key": "k"}) for _ in range(2)
        ]
        assert first.content == second.content
        assert len(provider.requests) == 1
