"""GET /tools/metadata: the tools of all sources."""

from typing import Any

import pytest

from bytebrew import Tool, Toolset, tool
from bytebrew.testing import plugin, served_engine

METADATA = "/api/v1/tools/metadata"


@tool(idempotent=True)
async def sail(knots: int) -> str:
    """Sails."""
    return f"{knots} knots"


class Cannon(Tool):
    """A tool with all that operators are told."""

    name = "cannon"
    description = "Fires"
    input_schema = {"type": "object", "properties": {}}
    confirm = True
    risk = "dangerous"
    source = "armoury"


class Armoury(Toolset):
    """A source of tools for some agents."""

    async def all(self) -> list[Tool]:
        return [Cannon()]

    async def tools(self, agent: Any) -> list[Tool]:
        return []


SHIP = plugin(
    "ship",
    register_tools=lambda register: register(sail),
    register_toolsets=lambda register: register(Armoury()),
)


async def test_what_a_model_reads_of_arguments_is_not_changed_with_the_code() -> None:
    async with served_engine() as (_, client):
        found = {one["name"]: one["input_schema"] for one in (await client.get(METADATA)).json()}
    assert found["manage_tasks"]["description"] == "What a model may send."
    words = "Where to read: `call_id` is that of the cut result, offset and length are in characters."
    assert found["read_result"]["description"] == words


async def test_every_tool_is_listed_with_its_source_and_its_risk() -> None:
    async with served_engine(SHIP) as (_, client):
        await client.post("/api/v1/agents", json={"name": "mate", "description": "Helps", "model": "demo"})
        found = (await client.get(METADATA)).json()
    by_name = {one["name"]: one for one in found}
    assert [one["name"] for one in found] == sorted(one["name"] for one in found)
    assert by_name["sail"] == {
        "name": "sail",
        "description": "Sails.",
        "source": "built-in",
        "security_zone": "safe",
        "input_schema": {"type": "object", "properties": {"knots": {"type": "integer"}}, "required": ["knots"]}
        | {"additionalProperties": False},
        "idempotent": True,
        "confirm": False,
    }
    assert by_name["cannon"] == {
        "name": "cannon",
        "description": "Fires",
        "source": "armoury",
        "security_zone": "dangerous",
        "input_schema": {"type": "object", "properties": {}},
        "idempotent": False,
        "confirm": True,
    }
    assert (by_name["spawn_mate"]["source"], by_name["spawn_mate"]["description"]) == ("spawn", "Helps")
    assert by_name["read_result"]["input_schema"]["required"] == ["call_id"]


@pytest.mark.parametrize(("scope", "status"), [("agents:read", 200), ("admin", 200), ("chat", 403), (None, 401)])
async def test_the_list_needs_a_scope(scope: str | None, status: int) -> None:
    async with served_engine() as (_, client):
        headers = {"authorization": ""}
        if scope is not None:
            made = await client.post("/api/v1/auth/tokens", json={"name": "t", "scopes": [scope]})
            headers = {"authorization": f"Bearer {made.json()['token']}"}
        assert (await client.get(METADATA, headers=headers)).status_code == status
