"""What an agent names and the engine does not have is told where the agent is saved, shown and imported."""

from typing import Any

import httpx
import pytest

from bytebrew import Agent, Tool, Toolset
from bytebrew.testing import plugin, served_engine
from tests.mcp_double import Web

URL = "/api/v1/agents"
IMPORT = "/api/v1/config/import"
MODEL = {"name": "real", "type": "ollama", "model_name": "m", "is_default": True}


async def saved(client: httpx.AsyncClient, **fields: Any) -> list[str]:
    """The warnings of a new agent with a real model."""
    answer = await client.post(URL, json={"name": "clerk", "model": "real", **fields})
    assert answer.status_code == 201, answer.text
    warnings: list[str] = answer.json()["warnings"]
    assert (await client.get(f"{URL}/clerk")).json()["warnings"] == warnings
    assert (await client.put(f"{URL}/clerk", json={"description": "again"})).json()["warnings"] == warnings
    return warnings


@pytest.mark.parametrize(
    ("fields", "warning"),
    [
        ({"model": "gone"}, "There is no model 'gone' yet"),
        ({"summary_model": "gone"}, "summary_model: there is no model 'gone' yet"),
        ({"tools": ["current_time", "weathr"]}, "tools: there is no tool 'weathr' yet"),
        ({"mcp_servers": ["files"]}, "mcp_servers: there is no MCP server 'files' yet"),
        ({"can_spawn": ["nobody"]}, "can_spawn: there is no agent 'nobody' yet"),
        ({"tools": ["spawn_demo"]}, "tools: 'spawn_demo' comes with the agent's name in can_spawn, not from here"),
        (
            {"tools": ["memory_store"]},
            "tools: 'memory_store' is there once the capability memory is on, "
            "with POST /api/v1/agents/clerk/capabilities",
        ),
        (
            {"tools": ["knowledge_search"]},
            "tools: 'knowledge_search' is there once a knowledge base is linked, "
            "with POST /api/v1/knowledge-bases/{id}/agents/clerk",
        ),
    ],
    ids=lambda value: value.split(":")[0] if isinstance(value, str) else next(iter(value)),
)
async def test_a_name_that_does_not_exist_is_in_the_warnings_of_the_save_and_of_an_import(
    fields: dict[str, Any], warning: str
) -> None:
    async with served_engine() as (_, client):
        await client.post("/api/v1/models", json=MODEL)
        assert await saved(client, **fields) == [warning]
        taken = (await client.post(IMPORT, json={"agents": {"clerk": fields}})).json()
        assert [(one["path"], one["message"]) for one in taken["warnings"]] == [("$.agents.clerk", warning)]


async def test_what_there_is_is_no_warning() -> None:
    async with served_engine() as (_, client):
        await client.post("/api/v1/models", json=MODEL)
        await client.post("/api/v1/tools", json={"name": "weather", "url": "http://127.0.0.1:1/"})
        await client.post("/api/v1/mcp-servers", json={"name": "files", "url": "http://127.0.0.1:1/", "enabled": False})
        tools = ["current_time", "weather", "manage_tasks", "show_structured_output"]
        warnings = await saved(client, tools=tools, mcp_servers=["files"], can_spawn=["demo", "clerk"])
        assert warnings == ["mcp_servers: the MCP server 'files' is disabled"]


async def test_an_agent_that_has_the_demo_model_for_want_of_another_is_warned_of() -> None:
    async with served_engine() as (_, client):
        made = (await client.post(URL, json={"name": "clerk"})).json()
        [warning] = made["warnings"]
        assert warning.endswith("create a model with POST /api/v1/models")
        assert (await client.get(f"{URL}/demo")).json()["warnings"] == []  # it names the model
        await client.post("/api/v1/models", json=MODEL)
        assert (await client.get(f"{URL}/clerk")).json()["warnings"] == []


async def test_knowledge_without_a_base_is_warned_of_until_one_is_linked() -> None:
    async with served_engine() as (_, client):
        await client.post("/api/v1/models", json=MODEL)
        await client.post(URL, json={"name": "clerk", "model": "real"})
        await client.post(f"{URL}/clerk/capabilities", json={"type": "knowledge"})
        [warning] = (await client.get(f"{URL}/clerk")).json()["warnings"]
        assert warning.startswith("capabilities: no knowledge base is linked yet")
        base = (await client.post("/api/v1/knowledge-bases", json={"name": "handbook"})).json()["id"]
        await client.post(f"/api/v1/knowledge-bases/{base}/agents/clerk")
        assert (await client.get(f"{URL}/clerk")).json()["warnings"] == []


async def test_a_source_of_tools_that_does_not_say_what_it_has_is_trusted_to_have_it() -> None:
    class Unsaid(Toolset):
        lists = ("tools",)

        async def tools(self, agent: Agent) -> list[Tool]:
            return []

    def register_toolsets(register: Any) -> None:
        register(Unsaid())

    async with served_engine(plugin(register_toolsets=register_toolsets)) as (_, client):
        await client.post("/api/v1/models", json=MODEL)
        assert await saved(client, tools=["weathr"]) == []


async def test_what_a_servers_filters_name_and_is_not_there_is_in_its_warnings() -> None:
    async with Web(json=True) as double, served_engine() as (_, client):
        filters = {"allow_tools": ["echo", "ecko"], "agent_tools": {"demo": ["echo"], "nobody": ["echo"]}}
        body = {"name": "double", "url": double.url, "pin": "off", **filters}
        assert (await client.post("/api/v1/mcp-servers", json=body)).status_code == 201
        server: dict[str, Any] = {}
        while server.get("status", {}).get("status") != "connected":
            server = (await client.get("/api/v1/mcp-servers/double")).json()
        assert "echo" in {tool["name"] for tool in server["tools"]}
        expected = [
            "agent_tools: there is no agent 'nobody' yet",
            "allow_tools: the server offers no tool 'ecko'",
        ]
        assert server["warnings"] == expected
        taken = await client.post(IMPORT, json={"mcp_servers": {"double": {"deny_tools": ["gone"]}}})
        told = [one["message"] for one in taken.json()["warnings"]]
        assert told == [*expected, "deny_tools: the server offers no tool 'gone'"]
