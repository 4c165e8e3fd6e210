"""Capabilities of agents over REST: given, changed, switched off and taken away, each at once."""

from typing import Any

import httpx
import pytest

from bytebrew import Agent, MessageDelta, Tool, Toolset, tool
from bytebrew.testing import ScriptedProvider, chat, plugin, providing, scripted_schema, served_engine
from tests.tables import check_refusal, token_with

ALL = "/api/v1/agents/a/capabilities"
MEMORY = {"max_entries": 1000, "retention_days": None, "embedding_model": None}


async def give(client: httpx.AsyncClient, type: str, agent: str = "a", **fields: Any) -> dict[str, Any]:
    answer = await client.post(f"/api/v1/agents/{agent}/capabilities", json={"type": type, **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_a_capability_is_given_changed_and_taken() -> None:
    async with served_engine() as (_, client):
        await client.post("/api/v1/agents", json={"name": "a"})
        assert (await client.get(ALL)).json() == []
        made = await give(client, "memory", config={"max_entries": 5})
        assert made == {"id": made["id"], "type": "memory", "config": {**MEMORY, "max_entries": 5}, "enabled": True}
        for method, key in (("PUT", made["id"]), ("PATCH", "memory")):
            changed = await client.request(method, f"{ALL}/{key}", json={"config": {"retention_days": 9}})
            assert (changed.status_code, changed.content) == (204, b"")
        assert (await client.put(f"{ALL}/memory", json={"type": "memory", "enabled": False})).status_code == 204
        config = {"max_entries": 5, "retention_days": 9, "embedding_model": None}
        assert (await client.get(ALL)).json() == [{**made, "config": config, "enabled": False}]
        assert (await client.get("/api/v1/agents/a")).json()["capabilities"] == (await client.get(ALL)).json()
        assert "capabilities" not in (await client.get("/api/v1/agents")).json()[0]
        gone = await client.delete(f"{ALL}/{made['id']}")
        assert (gone.status_code, gone.content) == (204, b"")
        for method in ("PUT", "PATCH", "DELETE"):
            assert check_refusal(await client.request(method, f"{ALL}/memory"))["error"] == "not_found"
        assert check_refusal(await client.get("/api/v1/agents/b/capabilities"))["error"] == "not_found"


async def test_an_agent_has_a_type_once_and_takes_its_capabilities_along_when_it_goes() -> None:
    async with served_engine() as (_, client):
        for name in ("a", "b"):
            await client.post("/api/v1/agents", json={"name": name})
            await give(client, "memory", name)
        await give(client, "knowledge")
        twice = await client.post(ALL, json={"type": "memory"})
        assert (twice.status_code, check_refusal(twice)["error"]) == (409, "conflict")
        await client.delete("/api/v1/agents/a")
        await client.post("/api/v1/agents", json={"name": "a"})
        assert (await client.get(ALL)).json() == []
        assert len((await client.get("/api/v1/agents/b/capabilities")).json()) == 1


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "$.type"),
        ({"type": "magic"}, "$.type"),
        ({"type": "memory", "config": []}, "$.config"),
        ({"type": "memory", "config": {"max_entries": 0}}, "$.config.max_entries"),
        ({"type": "memory", "config": {"max_entries": "5"}}, "$.config.max_entries"),
        ({"type": "memory", "config": {"retention_days": 0}}, "$.config.retention_days"),
        ({"type": "memory", "config": {"embedding_model": "Two Words"}}, "$.config.embedding_model"),
        ({"type": "memory", "config": {"embedding_model": "demo"}}, "$.config.embedding_model"),
        ({"type": "memory", "config": {"top_k": 3}}, "$.config.top_k"),
        ({"type": "knowledge", "config": {"top_k": 21}}, "$.config.top_k"),
        ({"type": "knowledge", "config": {"similarity_threshold": 1.5}}, "$.config.similarity_threshold"),
        ({"type": "memory", "colour": "red"}, "$.colour"),
    ],
)
async def test_a_bad_field_is_a_400_that_names_it(
    body: dict[str, Any], path: str, shared_client: httpx.AsyncClient
) -> None:
    await shared_client.post("/api/v1/agents", json={"name": "a"})
    answer = await shared_client.post(ALL, json=body)
    assert answer.status_code == 400
    assert check_refusal(answer)["details"][0]["path"] == path
    assert (await shared_client.get(ALL)).json() == []


async def test_a_type_is_fixed_and_a_bad_change_changes_nothing() -> None:
    async with served_engine() as (_, client):
        await client.post("/api/v1/agents", json={"name": "a"})
        made = await give(client, "memory")
        for change, path in (
            ({"type": "knowledge"}, "$.type"),
            ({"config": {"max_entries": -1}, "enabled": False}, "$.config.max_entries"),
        ):
            refused = check_refusal(await client.put(f"{ALL}/memory", json=change))
            assert refused["details"][0]["path"] == path
        assert (await client.get(ALL)).json() == [made]


async def test_an_agent_has_knowledge_while_that_capability_is_on() -> None:
    async def shown(client: httpx.AsyncClient) -> tuple[bool, bool]:
        one = (await client.get("/api/v1/agents/a")).json()
        [row] = [row for row in (await client.get("/api/v1/agents")).json() if row["name"] == "a"]
        return one["has_knowledge"], row["has_knowledge"]

    async with served_engine() as (_, client):
        await client.post("/api/v1/agents", json={"name": "a"})
        await give(client, "memory")
        assert await shown(client) == (False, False)
        await give(client, "knowledge", enabled=False)
        assert await shown(client) == (False, False)
        await client.patch(f"{ALL}/knowledge", json={"enabled": True})
        assert await shown(client) == (True, True)


async def test_a_missing_embedding_model_is_warned_of() -> None:
    async with served_engine() as (_, client):
        await client.post("/api/v1/agents", json={"name": "a", "model": "demo"})
        await give(client, "memory", config={"embedding_model": "later"})
        [warning] = (await client.get("/api/v1/agents/a")).json()["warnings"]
        assert "'later'" in warning
        model = {"name": "later", "type": "openai_compatible", "model_name": "e", "kind": "embedding"}
        model |= {"base_url": "http://127.0.0.1:1/v1", "api_key": "k"}
        made = await client.post("/api/v1/models", json={**model, "embedding_dim": 3})
        assert made.status_code == 201, made.text
        assert (await client.get("/api/v1/agents/a")).json()["warnings"] == []


async def test_a_source_of_tools_is_asked_while_the_agent_has_a_capability_that_is_on() -> None:
    asked: list[Agent] = []

    @tool
    async def remember() -> str:
        """Remember."""
        return "yes"

    class Source(Toolset):
        lists = ("capabilities",)

        async def tools(self, agent: Agent) -> list[Tool]:
            asked.append(agent)
            return [remember]

    def register_toolsets(register: Any) -> None:
        register(Source())

    provider = ScriptedProvider([MessageDelta(content="hello")])
    source = plugin("source", register_toolsets=register_toolsets)
    async with served_engine(providing(provider), source) as (engine, client):
        await scripted_schema(engine, "a")
        await chat(client, "a", "hi")
        await give(client, "knowledge", config={"top_k": 7})
        await chat(client, "a", "hi")
        await client.put(f"{ALL}/knowledge", json={"enabled": False})
        await chat(client, "a", "hi")
    [agent] = asked
    [capability] = agent.capabilities
    assert (capability.type, capability.config["top_k"], capability.enabled) == ("knowledge", 7, True)
    own = [[spec.name for spec in request.tools if spec.name == "remember"] for request in provider.requests]
    assert own == [[], ["remember"], []]


async def test_reading_and_writing_need_the_scopes_of_agents() -> None:
    async with served_engine() as (engine, client):
        await client.post("/api/v1/agents", json={"name": "a"})
        reader = (await token_with(engine, "agents:read")).token
        client.headers["authorization"] = f"Bearer {reader}"
        assert (await client.get(ALL)).status_code == 200
        assert (await client.post(ALL, json={"type": "memory"})).status_code == 403
        writer = (await token_with(engine, "agents:write")).token
        client.headers["authorization"] = f"Bearer {writer}"
        assert (await client.get(ALL)).status_code == 403
        assert (await client.post(ALL, json={"type": "memory"})).status_code == 201
