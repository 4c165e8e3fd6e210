"""A plugin's tool asks a person while it runs, and the faces of other protocols show what it asks."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from bytebrew_ag_ui.outcomes import interrupt
from bytebrew_openai.chat import questions

from bytebrew import (
    Agent,
    Call,
    ConfirmationAsked,
    Engine,
    Http,
    Message,
    MessageDelta,
    ModelRequest,
    ProviderEvent,
    Question,
    Tool,
    ToolCall,
    ToolError,
    Toolset,
    Usage,
)
from bytebrew.testing import ScriptedProvider, plugin, providing, scripted_schema, served_engine
from tests.conversation.test_confirmations import Talk
from tests.plugins.test_ai_sdk_projection import call, chunks, numbered, short
from tests.plugins.test_mcp_server import MODERN, NOVEMBER, McpClient
from tests.plugins.test_spawn import troupe

FIELDS = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
ABOUT = Question(message="Who are you?", fields=FIELDS)
VISIT = Question(message="Pay there", url="https://pay.example/1", host="pay.example")


class Survey(Tool):
    """Asks what it is to ask, and returns what a person answers."""

    name = "survey"
    description = "Asks a person."
    input_schema: Mapping[str, Any] = {"type": "object"}  # type: ignore[assignment]
    source = "survey:desk"
    timeout = 0.5

    def __init__(self, engine: Engine, about: Sequence[Question]) -> None:
        self._engine, self._about = engine, about
        self.late: Call | None = None

    async def run(self, call: Call, input: dict[str, Any]) -> Any:
        self.late = call
        answers = await self._engine.ask(call, self._about)
        return [[one.action, dict(one.content)] for one in answers]


class Leaver(Survey):
    """Leaves its requests behind once its model has begun to answer."""

    left: Sequence[asyncio.Task[Any]] = ()

    def __init__(self, engine: Engine, about: Sequence[Question], begun: asyncio.Event) -> None:
        super().__init__(engine, about)
        self.begun = begun

    async def run(self, call: Call, input: dict[str, Any]) -> Any:
        self.left = [
            asyncio.create_task(self._engine.ask(call, self._about)),
            asyncio.create_task(
                self._engine.sample(call, ModelRequest(model_name="", base_url="", messages=(Message("user", "x"),)))
            ),
        ]
        await self.begun.wait()
        return "left"


class Slow(ScriptedProvider):
    """Takes its time to end an answer that nobody wants any more."""

    def __init__(self, *answers: Any) -> None:
        super().__init__(*answers)
        self.begun = asyncio.Event()

    async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
        try:
            async for event in super().stream(request, http):
                yield event
                if isinstance(event, MessageDelta):
                    self.begun.set()
        finally:
            await asyncio.sleep(0.2)


class Surveys(Toolset):
    def __init__(self, tool: Survey) -> None:
        self.tool = tool

    async def tools(self, agent: Agent) -> Sequence[Tool]:
        return [self.tool]


class World:
    """An engine whose agent has the tool."""

    def __init__(self, engine: Any, client: httpx.AsyncClient, tool: Survey) -> None:
        self.engine, self.client, self.tool = engine, client, tool

    def begin(self) -> Talk:
        return Talk(self.client, "POST", "/api/v1/schemas/test/chat", json={"message": "Go on"})

    async def respond(self, question: dict[str, Any], word: str, **body: Any) -> httpx.Response:
        given = {"confirmation_id": question["confirmation_id"], "answers": [word], **body}
        return await self.client.post(f"/api/v1/sessions/{question['session_id']}/respond", json=given)


@asynccontextmanager
async def surveying(*about: Question) -> AsyncIterator[World]:
    made: list[Survey] = []

    def register_toolsets(register: Any, engine: Engine) -> None:
        made.append(Survey(engine, about))
        register(Surveys(made[0]))

    model = ScriptedProvider([ToolCall("survey", {})], [MessageDelta(content="Done.")])
    async with served_engine(providing(model), plugin(register_toolsets=register_toolsets)) as (engine, client):
        await scripted_schema(engine)
        yield World(engine, client, made[0])


def asked(about: Question = ABOUT, **more: Any) -> ConfirmationAsked:
    """The event of a question."""
    said = {"message": about.message} | ({"url": about.url, "host": about.host} if about.url else {})
    form: Any = {} if about.fields is None else {"input_schema": about.fields}
    return ConfirmationAsked(
        session_id="s",
        turn_id="turn_1",
        confirmation_id="q",
        call_id="a",
        source="survey:desk",
        tool="survey",
        risk="safe",
        input=said,
        args_digest="",
        kind="elicitation",
        expires_at=None,
        **form,
        **more,
    )


async def test_a_tool_asks_several_questions_at_once_and_its_time_limit_pauses() -> None:
    async with surveying(ABOUT, VISIT) as w:
        talk = w.begin()
        first, second = await talk.until("confirmation", 2)
        assert (first["source"], first["tool"], first["risk"]) == ("survey:desk", "survey", "safe")
        assert first["args_digest"] != second["args_digest"]
        stale = await w.respond(second, "approve", args_digest=first["args_digest"])
        assert (stale.status_code, stale.json()["error"]) == (409, "stale_digest")
        await asyncio.sleep(0.7)  # more than the tool may take
        assert (await w.respond(second, "approve")).status_code == 200
        assert (await w.respond(first, "approve", input={"name": "Zoë"})).status_code == 200
        [result] = await talk.until("tool_result")
        assert json.loads(result["output"]) == [["accept", {"name": "Zoë"}], ["accept", {}]]
        await talk.end()
        assert w.tool.late is not None
        with pytest.raises(ToolError, match="The call is over"):
            await w.engine.ask(w.tool.late, [ABOUT])
        with pytest.raises(ToolError, match="The call is over"):
            await w.engine.sample(
                w.tool.late, ModelRequest(model_name="", base_url="", messages=(Message("user", "x"),))
            )


async def test_the_person_of_the_root_turn_is_asked_by_the_tool_of_a_spawned_agent() -> None:
    made: list[Survey] = []

    def register_toolsets(register: Any, engine: Engine) -> None:
        made.append(Survey(engine, [ABOUT]))
        register(Surveys(made[0]))

    scripts: Any = {
        "boss": [[ToolCall("spawn_clerk", {"message": "Find out"})], [MessageDelta(content="Done.")]],
        "clerk": [[ToolCall("survey", {})], [MessageDelta(content="It is Zoë.")]],
    }
    surveys, can_spawn = plugin(register_toolsets=register_toolsets), {"boss": {"can_spawn": ["clerk"]}}
    async with troupe(scripts, surveys, agents=can_spawn, relations=["boss>clerk"]) as at:
        talk = Talk(at.client, "POST", "/api/v1/schemas/test/chat", json={"message": "Go on"})
        [question] = await talk.until("confirmation")
        assert (question["session_id"], question["agent"]) == (talk.session_id, "clerk")
        given = {"confirmation_id": question["confirmation_id"], "answers": ["accept"], "input": {"name": "Zoë"}}
        answered = await at.client.post(f"/api/v1/sessions/{talk.session_id}/respond", json=given)
        assert answered.status_code == 200, answered.text
        assert (await talk.end())[-1] == "done"
        assert at.models["clerk"].requests[-1].messages[-1].content == '[["accept",{"name":"Zoë"}]]'


async def test_the_digest_is_over_the_fields_too() -> None:
    other = Question(message=ABOUT.message, fields={**FIELDS, "required": []})
    async with surveying(ABOUT, other) as w:
        first, second = await w.begin().until("confirmation", 2)
        assert first["input"] == second["input"]
        assert first["args_digest"] != second["args_digest"]
        await w.client.post(f"/api/v1/sessions/{first['session_id']}/cancel")


async def test_in_the_public_view_nothing_of_it_is_shown() -> None:
    async with surveying(ABOUT) as w:
        made = await w.client.post(
            "/api/v1/auth/tokens", json={"name": "visitor", "scopes": ["chat"], "view": "public"}
        )
        headers = {"authorization": f"Bearer {made.json()['token']}"}
        talk = Talk(w.client, "POST", "/api/v1/schemas/test/chat", json={"message": "Go on"}, headers=headers)
        [question] = await talk.until("confirmation")
        assert question.keys() == {"session_id", "turn_id", "confirmation_id", "call_id", "expires_at"}
        assert (await w.respond(question, "reject")).status_code == 200
        await talk.end()


@pytest.mark.parametrize("action", ["accept", "decline"])
async def test_a_client_of_the_newest_mcp_gets_the_form_of_the_tool(action: str) -> None:
    async with surveying(ABOUT) as w:
        client = McpClient(w.client, MODERN, {"elicitation": {}})
        params = {"name": "test", "arguments": {"message": "go"}}
        first = (await client.post("tools/call", params)).json()["result"]
        ((key, request),) = first["inputRequests"].items()
        assert request["params"]["requestedSchema"] == FIELDS
        assert request["params"]["message"] == "survey:desk asks while survey runs: Who are you?"
        answer = {key: {"action": action, **({"content": {"name": "Zoë"}} if action == "accept" else {})}}
        state = {"requestState": first["requestState"], "inputResponses": answer}
        result = await client.result("tools/call", params | state)
        assert result["content"][0]["text"] == "Done."
        session = result["structuredContent"]["session_id"]
        events = (await w.client.get(f"/api/v1/sessions/{session}/events?follow=false")).json()["data"]
        [ended] = [one["data"] for one in events if one["event"] == "tool_result"]
        assert json.loads(ended["output"]) == [[action, {"name": "Zoë"} if action == "accept" else {}]]


async def test_what_a_client_of_mcp_leaves_out_is_not_filled_in() -> None:
    nick = {"type": "object", "properties": {"nick": {"type": "string", "default": "Zed"}}}
    async with surveying(Question(message="Who are you?", fields=nick)) as w:
        client = McpClient(w.client, MODERN, {"elicitation": {}})
        params = {"name": "test", "arguments": {"message": "go"}}
        first = (await client.post("tools/call", params)).json()["result"]
        (key,) = first["inputRequests"]
        answers = {"requestState": first["requestState"], "inputResponses": {key: {"action": "accept", "content": {}}}}
        result = await client.result("tools/call", params | answers)
        session = result["structuredContent"]["session_id"]
        events = (await w.client.get(f"/api/v1/sessions/{session}/events?follow=false")).json()["data"]
        [ended] = [one["data"] for one in events if one["event"] == "tool_result"]
        assert json.loads(ended["output"]) == [["accept", {}]]


async def test_a_client_of_an_older_mcp_gets_it_within_the_stream() -> None:
    async with surveying(VISIT) as w:
        client = McpClient(w.client, NOVEMBER, {"elicitation": {"form": {}}})
        await client.begin()
        async with client.streamed("tools/call", {"name": "test", "arguments": {"message": "go"}}) as stream:
            async for _, message in stream:
                if message.get("method") == "elicitation/create":
                    assert (
                        "page of pay.example before you accept: https://pay.example/1" in message["params"]["message"]
                    )
                    body = {"jsonrpc": "2.0", "id": message["id"], "result": {"action": "accept", "content": {}}}
                    assert (await w.client.post("/mcp", json=body, headers=client.headers)).status_code == 202
                if "result" in message:
                    break
            assert message["result"]["content"][0]["text"] == "Done."


async def test_a_client_of_chat_completions_reads_it_and_declines() -> None:
    async with surveying(ABOUT) as w:
        body: dict[str, Any] = {"model": "test", "messages": [{"role": "user", "content": "Go on"}]}
        first = (await w.client.post("/v1/chat/completions", json=body)).json()["choices"][0]["message"]["content"]
        assert "`survey:desk` asks while `survey` runs:\n\n> Who are you?" in first
        body["messages"] += [{"role": "assistant", "content": first}, {"role": "user", "content": "approve"}]
        refused = await w.client.post("/v1/chat/completions", json=body)
        assert (refused.status_code, "name must be filled in" in refused.text) == (422, True)
        body["messages"][-1]["content"] = "reject"
        answer = (await w.client.post("/v1/chat/completions", json=body)).json()
        assert answer["choices"][0]["message"]["content"].endswith("Done.")


def test_a_page_to_visit_is_a_link_with_its_host_in_chat_completions() -> None:
    text = questions.text([asked(VISIT)], "https://engine.example")
    assert "> Pay there\n\nIt wants you to open a page of `pay.example`: <https://pay.example/1>" in text


def test_ag_ui_has_the_form_as_the_schema_of_the_answer() -> None:
    made = interrupt("turn_1", asked(), shown=True)
    assert (made["reason"], made["message"]) == ("confirmation", "survey:desk asks: Who are you?")
    assert made["responseSchema"]["properties"] == {"approved": {"type": "boolean"}, "editedArgs": FIELDS}
    assert "editedArgs" not in interrupt("turn_1", asked(VISIT), shown=True)["responseSchema"]["properties"]


def test_the_ai_sdk_has_it_as_data_and_not_as_an_approval() -> None:
    made = chunks(numbered(call("a"), asked(), waits=[2]))
    assert "tool-approval-request a" not in short(made)
    [data] = [one["data"] for one in made if one["type"].startswith("data-")]
    assert (data["input"], data["input_schema"]) == ({"message": "Who are you?"}, FIELDS)


async def test_an_answer_without_a_stream_shows_nothing_of_it_in_the_public_view() -> None:
    async with surveying(ABOUT) as w:
        made = await w.client.post(
            "/api/v1/auth/tokens", json={"name": "visitor", "scopes": ["chat"], "view": "public"}
        )
        headers = {"authorization": f"Bearer {made.json()['token']}"}
        body = {"message": "Go on", "stream": False}
        got = (await w.client.post("/api/v1/schemas/test/chat", json=body, headers=headers)).json()
        [question] = got["questions"]
        assert (question["input"], question["input_schema"]) == ({}, None)
        talk = Talk(w.client, "GET", f"/api/v1/sessions/{got['session_id']}/events", params={"after": 0})
        [asked] = await talk.until("confirmation")
        assert (await w.respond(asked, "reject")).status_code == 200
        await talk.end()


async def test_what_a_tool_leaves_behind_ends_with_its_call_and_is_counted_once() -> None:
    made: list[Leaver] = []

    def register_toolsets(register: Any, engine: Engine) -> None:
        made.append(Leaver(engine, [ABOUT], model.begun))
        register(Surveys(made[0]))

    sampled: list[Any] = [Usage(100, 100), MessageDelta(content="s"), asyncio.Event()]
    model = Slow([ToolCall("survey", {}), Usage(1, 1)], sampled, [MessageDelta(content="Done."), Usage(5, 5)])
    async with served_engine(providing(model), plugin(register_toolsets=register_toolsets)) as (engine, client):
        await scripted_schema(engine)
        talk = Talk(client, "POST", "/api/v1/schemas/test/chat", json={"message": "Go on"})
        await talk.until("message_delta")
        ended = await asyncio.gather(*made[0].left, return_exceptions=True)
        assert [str(one) for one in ended] == ["The call is over: nothing can be asked for it"] * 2
        assert not any(turn.holds for turn in engine.runner.turns.values())
        assert (await talk.end())[-1] == "done"
        [question] = (await client.get("/api/v1/approvals", params={"status": "cancelled"})).json()["data"]
        assert question["id"] == talk.datas("confirmation")[0]["confirmation_id"]
        [done] = talk.datas("done")
        assert done["usage"]["input_tokens"] == 106
        url = f"/api/v1/sessions/{done['session_id']}/turns/{done['turn_id']}/spans"
        spans = [one for one in (await client.get(url)).json()["spans"] if one["kind"] == "model"]
        assert [(one["purpose"], one["output_tokens"]) for one in spans] == [
            ("step", 1),
            ("sampling", 100),
            ("step", 5),
        ]
