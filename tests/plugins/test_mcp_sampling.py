"""Sampling: an MCP server has a model answer, where the operator lets it, at the expense of the turn."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bytebrew import MessageDelta, ProviderError, Stop, ToolCall, Usage
from tests.conversation.test_confirmations import Talk
from tests.plugins.test_mcp import World, world
from tests.plugins.test_mcp_elicitation import ASK, LEGACY, MODERN, replies

HAIKU = {"role": "user", "content": {"type": "text", "text": "A haiku, please"}}


def sample(**params: Any) -> dict[str, Any]:
    """A request of a server."""
    return {"method": "sampling/createMessage", "params": {"messages": [HAIKU], "maxTokens": 50, **params}}


@asynccontextmanager
async def sampling(version: str = LEGACY, on: str = "on", **body: Any) -> AsyncIterator[World]:
    """An engine with a server that samples."""
    announced: dict[str, Any] = {"elicitation": {"form": {}, "url": {}}}
    if on == "on" and body.get("sampling", True):
        announced["sampling"] = {}
    how = {"versions": [version], "more_tools": [ASK], "client_capabilities": announced}
    async with world(sampling=on, probe_timeout="0.3") as w:
        server = await w.add(how=how, **{"sampling": True, **body})
        assert server["status"]["status"] == "connected"
        yield w


def turn(w: World, answer: list[Any], **params: Any) -> Talk:
    """A turn whose tool has the model answer."""
    w.model.answers[len(w.model.requests) :] = [
        [ToolCall("ask", {"requests": [sample(**params)]}), Usage(10, 5)],
        answer,
        [MessageDelta(content="Done."), Usage(20, 6)],
    ]
    return Talk(w.client, "POST", "/api/v1/schemas/test/chat", json={"message": "Go on"})


@pytest.mark.parametrize("version", [LEGACY, MODERN])
async def test_a_model_answers_a_server(version: str) -> None:
    async with sampling(version, sampling_max_tokens=40) as w:
        answer = [MessageDelta(content="Old pond"), Usage(7, 3), Stop("max_tokens")]
        talk = turn(w, answer, systemPrompt="Be short.", temperature=0.5, stopSequences=["."])
        got = (await replies(talk))[0]
        assert got["role"] == "assistant"
        assert (got["content"], got["stopReason"]) == ({"type": "text", "text": "Old pond"}, "maxTokens")
        assert (await talk.end())[-1] == "done"
        asked = w.model.requests[1]
        assert (asked.system, asked.max_tokens, asked.tools) == ("Be short.", 40, ())
        assert [one.content for one in asked.messages] == ["A haiku, please"]
        assert got["model"] in [model["name"] for model in (await w.client.get("/api/v1/models")).json()]
        [done] = talk.datas("done")
        assert (done["usage"]["input_tokens"], done["usage"]["output_tokens"]) == (37, 14)
        url = f"/api/v1/sessions/{done['session_id']}/turns/{done['turn_id']}/spans"
        spans = [one for one in (await w.client.get(url)).json()["spans"] if one["kind"] == "model"]
        assert [(one["purpose"], one["output_tokens"]) for one in spans] == [("step", 5), ("sampling", 3), ("step", 6)]


@pytest.mark.parametrize("version", [LEGACY, MODERN])
@pytest.mark.parametrize(("on", "server"), [("off", True), ("on", False)])
async def test_it_is_off_unless_both_the_setting_and_the_server_say_so(version: str, on: str, server: bool) -> None:
    async with sampling(version, on, sampling=server) as w:
        talk = turn(w, [MessageDelta(content="Done.")])
        [result] = await talk.until("tool_result")
        wanted = "nobody here can give" if version == MODERN else "does not offer sampling/createMessage"
        assert wanted in result["output"]
        await talk.end()
        assert len(w.model.requests) == 2


@pytest.mark.parametrize(
    "params",
    [
        {"tools": [{"name": "t", "inputSchema": {}}]},
        {"includeContext": "allServers"},
        {"messages": []},
        {"messages": [{"role": "system", "content": {"type": "text", "text": "x"}}]},
        {"messages": [{"role": "user", "content": {"type": "audio", "data": "AAAA"}}]},
        {"maxTokens": 0},
        {"maxTokens": "many"},
    ],
)
async def test_what_is_not_offered_is_refused(params: dict[str, Any]) -> None:
    async with sampling() as w:
        talk = turn(w, [MessageDelta(content="Done.")], **params)
        assert (await replies(talk))[0]["code"] == -32602
        await talk.end()
        assert len(w.model.requests) == 2


async def test_an_operator_chooses_the_model_and_is_warned_of_one_that_is_not_there() -> None:
    async with sampling(sampling_model="cheap") as w:
        assert "sampling_model: there is no model 'cheap' yet" in (await w.get())["warnings"]
        refused = (await replies(turn(w, [MessageDelta(content="Done.")])))[0]
        assert (refused["code"], refused["message"]) == (-32603, "what it asks for failed here (model_missing)")
        body = {"name": "cheap", "type": "scripted", "model_name": "small"}
        assert (await w.client.post("/api/v1/models", json=body)).status_code == 201
        assert (await w.get())["warnings"] == []
        first = len(w.model.requests)
        talk = turn(w, [MessageDelta(content="Old pond")])
        assert (await replies(talk))[0]["model"] == "cheap"
        await talk.end()
        assert [one.model_name for one in w.model.requests[first:]][1] == "small"


async def test_a_budget_limits_it() -> None:
    async with sampling() as w:
        body = {"name": "few", "window": "day", "tokens": 20_000}
        assert (await w.client.post("/api/v1/budgets", json=body)).status_code == 201
        long = {"role": "user", "content": {"type": "text", "text": "long " * 20_000}}
        talk = turn(w, [MessageDelta(content="Done.")], messages=[long])
        refused = (await replies(talk))[0]
        assert (refused["code"], refused["message"]) == (-32603, "what it asks for failed here (budget_exceeded)")
        await talk.end()
        assert len(w.model.requests) == 1


async def test_a_failure_of_the_model_does_not_reach_the_server_in_words() -> None:
    async with sampling() as w:
        fault = ProviderError("the key sk-42 is wrong", code="model_auth")
        refused = (await replies(turn(w, [fault])))[0]
        assert (refused["code"], refused["message"]) == (-32603, "what it asks for failed here (model_auth)")


async def test_a_server_has_one_answer_after_another() -> None:
    async with sampling(LEGACY) as w:
        script: list[Any] = [[ToolCall("ask", {"requests": [sample()], "times": 3}), Usage(1, 1)]]
        script += [[MessageDelta(content=text), Usage(1, 1)] for text in ("0", "1", "2", "Done.")]
        w.model.answers[len(w.model.requests) :] = script
        talk = Talk(w.client, "POST", "/api/v1/schemas/test/chat", json={"message": "Go on"})
        assert [one["content"]["text"] for one in await replies(talk)] == ["0", "1", "2"]
        await talk.end()
        [done] = talk.datas("done")
        assert done["usage"]["output_tokens"] == 5
