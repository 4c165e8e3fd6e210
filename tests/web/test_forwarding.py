"""Headers for tools: what a chat's body may bring, and that it never replaces what the request has."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from bytebrew.contract.tool import Call, Tool
from bytebrew.testing import plugin, served_engine
from tests.tables import check_refusal

CHAT = "/api/v1/schemas/demo/chat"


class Seeing(Tool):
    """Keeps the headers that it is shown; the demo model calls a tool whose name stands in the message."""

    name = "see"
    description = "sees"
    input_schema = {"type": "object", "properties": {}}

    def __init__(self) -> None:
        self.headers: Mapping[str, str] = {}

    async def run(self, call: Call, input: dict[str, Any]) -> str:
        self.headers = call.headers
        return "seen"


async def say(client: httpx.AsyncClient, body: Mapping[str, str], request: Mapping[str, str]) -> httpx.Response:
    await client.patch("/api/v1/agents/demo", json={"tools": ["see"]})
    return await client.post(CHAT, json={"message": "Use see, please", "headers": body}, headers=request)


def seeing() -> tuple[Seeing, tuple[str, object]]:
    tool = Seeing()
    return tool, plugin(register_tools=lambda register: register(tool))


@pytest.mark.parametrize("name", ["X-User-Id", "x-user-id", "Authorization", "Cookie", "X-Model-API-Key"])
async def test_a_header_that_is_not_on_the_operators_list_does_not_come_from_the_body(name: str) -> None:
    tool, own = seeing()
    async with served_engine(own) as (_, client):
        await client.put("/api/v1/settings/chat.body_headers", json={"value": ["X-Locale"]})
        answer = await say(client, {name: "somebody"}, {})
    assert answer.status_code == 400
    refusal = check_refusal(answer)
    assert refusal["details"][0]["path"] == f"$.headers.{name.lower()}"
    assert "chat.body_headers" in refusal["message"]
    assert tool.headers == {}


async def test_a_header_of_the_request_is_never_replaced_by_the_body() -> None:
    tool, own = seeing()
    async with served_engine(own) as (_, client):
        listed = await client.put("/api/v1/settings/chat.body_headers", json={"value": ["X-User-Id", "X-Locale"]})
        assert listed.status_code == 200
        answer = await say(client, {"x-user-ID": "mallory", "X-Locale": "de"}, {"X-USER-ID": "ada"})
    assert "event: done" in answer.text
    assert (tool.headers["x-user-id"], tool.headers["x-locale"]) == ("ada", "de")


async def test_what_names_the_caller_to_the_engine_comes_from_no_body_though_it_is_listed() -> None:
    _, own = seeing()
    async with served_engine(own) as (_, client):
        await client.put("/api/v1/settings/chat.body_headers", json={"value": ["Authorization"]})
        answer = await say(client, {"Authorization": "Bearer x"}, {})
    assert answer.status_code == 400


async def test_a_callers_own_key_is_refused_and_shown_to_no_tool_where_the_plugin_that_takes_it_is_disabled() -> None:
    tool, own = seeing()
    async with served_engine(own, settings={"BYTEBREW_DISABLED_PLUGINS": "own_key"}) as (_, client):
        answer = await say(client, {}, {"X-Model-API-Key": "sk-mine", "X-Locale": "de"})
        listed = await client.put("/api/v1/settings/chat.body_headers", json={"value": ["X-Model-API-Key"]})
        in_the_body = await say(client, {"X-Model-API-Key": "sk-mine"}, {})
    assert (answer.status_code, check_refusal(answer)["error"]) == (403, "byok_disabled")
    assert (listed.status_code, in_the_body.status_code) == (200, 400)
    assert tool.headers == {}


@pytest.mark.parametrize("value", [["a b"], [""], "X-A", [7]])
async def test_the_list_is_of_names_of_headers(value: Any) -> None:
    async with served_engine() as (_, client):
        answer = await client.put("/api/v1/settings/chat.body_headers", json={"value": value})
    assert answer.status_code == 400
