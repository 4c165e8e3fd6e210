"""Values that one database would keep and another would not are refused, or kept, alike on both."""

import asyncio
import json
import random
from base64 import b64encode
from pathlib import Path
from typing import Any

import httpx
import pytest

from bytebrew import MessageDelta, ToolCall, tool
from bytebrew.testing import ScriptedProvider, Step, chat, names, plugin, providing, scripted_schema, served_engine
from tests.tables import check_refusal

NUL = "has the character U+0000, which no text may have"
CHAT = "/api/v1/schemas/test/chat"
AGENTS = "/api/v1/agents"


@tool
async def shout(text: str) -> str:
    """Says it louder."""
    return text.upper()


def shouting() -> tuple[str, object]:
    return plugin(register_tools=lambda register: register(shout))


def long(size: int) -> str:
    """A text that no index compresses."""
    dice = random.Random(size)
    return "".join(chr(dice.randint(0x10400, 0x1F000)) for _ in range(size))


@pytest.mark.parametrize(
    ("method", "path", "body", "at"),
    [
        ("POST", AGENTS, {"name": "a", "description": "b\0"}, "$.description"),
        ("POST", AGENTS, {"name": "a", "tools": ["b", "\0"]}, "$.tools[1]"),
        ("POST", AGENTS, {"name": "a\0"}, "$.name"),
        ("POST", "/api/v1/models", {"name": "a", "type": "ollama", "model_name": "\0"}, "$.model_name"),
        ("PUT", "/api/v1/settings/custom.a", {"value": [{"b": {"c": "\0"}}]}, "$.value[0].b.c"),
        ("PUT", "/api/v1/settings/custom.a", {"value": {"b\0": 1}}, "$.value"),
        ("POST", "/api/v1/schemas/demo/chat", {"message": "\0"}, "$.message"),
        ("POST", "/api/v1/tasks", {"agent": "demo", "title": "a\0"}, "$.title"),
        ("GET", f"{AGENTS}/a%00", None, "$.name"),
        ("GET", "/api/v1/sessions?user_sub=%00", None, "$.user_sub"),
        ("DELETE", "/api/v1/users/a%00", None, "$.sub"),
    ],
)
async def test_the_character_0_in_a_request_is_refused_by_its_path(
    method: str, path: str, body: Any, at: str, shared_client: httpx.AsyncClient
) -> None:
    answer = await shared_client.request(method, path, json=body)
    assert answer.status_code == 400, answer.text
    assert check_refusal(answer)["details"] == [{"path": at, "message": NUL}]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"model": "demo", "messages": [{"role": "user", "content": "\0"}]}),
        ("/v1/responses", {"model": "demo", "input": "\0"}),
        ("/ai-sdk/demo/chat", {"messages": [{"id": "a", "role": "user", "parts": [{"type": "text", "text": "\0"}]}]}),
        ("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "\0"}}),
    ],
)
async def test_it_is_refused_in_the_shape_of_each_protocol(
    path: str, body: Any, shared_client: httpx.AsyncClient
) -> None:
    answer = await shared_client.post(path, json=body)
    assert answer.status_code == 400, answer.text
    assert NUL in answer.text


async def test_a_backslash_before_u0000_makes_it_six_plain_characters(shared_client: httpx.AsyncClient) -> None:
    made = await shared_client.post(AGENTS, json={"name": "six", "description": r"a \u0000"})
    assert (made.status_code, made.json()["description"]) == (201, r"a \u0000")


async def test_it_is_refused_in_a_configuration_with_its_line(shared_client: httpx.AsyncClient) -> None:
    text = 'agents:\n  zero:\n    model: demo\n    description: "a\\0b"\n'
    answer = await shared_client.post(
        "/api/v1/config/import", content=text, headers={"Content-Type": "application/yaml"}
    )
    assert answer.status_code == 400
    [problem] = check_refusal(answer)["details"]
    assert (problem["line"], problem["message"]) == (4, NUL)


async def test_what_a_model_and_a_tool_say_is_replayed_as_it_was_sent(tmp_path: Path) -> None:
    call = ToolCall("shout", {"text": "c\0d"}, call_id="1")
    script: list[list[Step]] = [[MessageDelta(content="a\0b"), call], [MessageDelta(content="e\0f")]] * 2
    provider = providing(ScriptedProvider(*script))
    answers: list[dict[str, bytes]] = []
    for _ in range(2):  # the second engine has only what the first has stored
        async with served_engine(provider, shouting(), data=tmp_path) as (engine, client):
            if not answers:
                await scripted_schema(engine, tools=("shout",))
            for _ in range(2):
                bodies = {"stream": {"message": "go"}, "whole": {"message": "go", "stream": False}}
                sent = {
                    name: await client.post(CHAT, json=body, headers={"Idempotency-Key": name})
                    for name, body in bodies.items()
                }
                answers.append({name: answer.content for name, answer in sent.items()})
    live = answers[0]
    assert all(later == live for later in answers)
    assert rb"C\u0000D" in live["stream"]
    assert json.loads(live["whole"])["message"] == "a\0be\0f"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_a_name_of_any_length_is_a_name_of_nothing(method: str, shared_client: httpx.AsyncClient) -> None:
    answer = await shared_client.request(method, f"{AGENTS}/{long(2000)}", json=None if method == "DELETE" else {})
    assert answer.status_code == 404, answer.text
    check_refusal(answer)


async def test_a_models_calls_may_have_any_ids_and_names() -> None:
    calls = [
        ToolCall("shout", {"text": "a"}, call_id=long(3000)),
        ToolCall(long(4000), {}, call_id=long(4000)),
        ToolCall("b\ud800", {}, call_id="c\udc00"),
    ]
    script = providing(ScriptedProvider(calls, [MessageDelta(content="done")]))
    async with served_engine(script, shouting()) as (engine, client):
        await scripted_schema(engine, tools=("shout",))
        events = await chat(client, "test", "go", user_sub=long(255))
        assert names(events)[-1] == "done"
        outputs = [json.loads(one.data)["output"] for one in events if one.event == "tool_result"]
        assert outputs == ["A", f"There is no tool named '{long(4000)[:255]}'", "There is no tool named 'b?'"]
        audited = (await client.get("/api/v1/audit/tool-calls")).json()["data"]
        assert [row["status"] for row in audited] == ["failed", "failed", "completed"]


async def test_a_task_ends_whatever_host_its_callback_url_names() -> None:
    secret = f"whsec_{b64encode(bytes(32)).decode()}"
    script = providing(ScriptedProvider([MessageDelta(content="done")]))
    async with served_engine(script, settings={"BYTEBREW_CALLBACK_SECRET": secret}) as (engine, client):
        await scripted_schema(engine)
        body = {"agent": "test", "title": "a", "callback_url": f"https://{long(1900)}/"}
        made = await client.post("/api/v1/tasks", json=body)
        assert made.status_code == 201, made.text
        async with asyncio.timeout(20):
            while (await client.get(f"/api/v1/tasks/{made.json()['id']}")).json()["status"] != "completed":
                await asyncio.sleep(0.02)
        assert len((await client.get("/api/v1/callbacks/deliveries")).json()["data"]) == 1
