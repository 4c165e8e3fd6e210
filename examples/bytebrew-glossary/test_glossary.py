"""Glossaries in a real engine: from the configuration file, over REST, and as a tool of the agents that name them."""

import bytebrew_glossary
import httpx
import pytest

from bytebrew import MessageDelta, ToolCall
from bytebrew.testing import ScriptedProvider, chat, client, engine, names, providing, scripted_schema, token

PLUGIN = ("glossary", bytebrew_glossary)
FILE = "glossaries:\n  finance:\n    terms: {ARR: Annual recurring revenue}\n  travel:\n    terms: {PNR: A booking}\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def take_in(http: httpx.AsyncClient, text: str) -> None:
    headers = {"Content-Type": "application/yaml"}
    taken = await http.post("/api/v1/config/import?mode=replace", content=text, headers=headers)
    assert taken.status_code == 200, taken.text


async def test_an_agent_looks_up_terms_of_its_own_glossaries_only() -> None:
    calls = [[ToolCall("look_up_term", {"term": term})] for term in ("arr", "PNR")]
    model = ScriptedProvider(*calls, [MessageDelta(content="I see.")])
    async with engine(PLUGIN, providing(model)) as running, client(running) as http:
        await take_in(http, FILE)
        await scripted_schema(running, glossaries=("finance",))
        events = await chat(http, "test", "What is our ARR?")
    assert names(events)[-1] == "done"
    results = [message.content for message in model.requests[-1].messages if message.role == "tool"]
    assert results[0] == "ARR: Annual recurring revenue"
    assert "No glossary has 'PNR'" in results[1]


async def test_an_agent_without_a_glossary_has_no_tool_and_an_unknown_name_is_a_warning() -> None:
    model = ScriptedProvider([MessageDelta(content="I see.")])
    async with engine(PLUGIN, providing(model)) as running, client(running) as http:
        await scripted_schema(running)
        await chat(http, "test", "What is our ARR?")
        changed = await http.patch("/api/v1/agents/test", json={"glossaries": ["nowhere"]})
    assert "look_up_term" not in [one.name for one in model.requests[0].tools]
    assert "nowhere" in str(changed.json()["warnings"])


async def test_terms_are_changed_over_rest_and_exported() -> None:
    async with engine(PLUGIN) as running, client(running) as http:
        await take_in(http, FILE)
        url = "/api/v1/glossaries/finance/terms"
        assert (await http.put(f"{url}/MRR", json={"meaning": "Monthly recurring revenue"})).status_code == 200
        assert (await http.delete(f"{url}/ARR")).status_code == 204
        assert (await http.delete(f"{url}/ARR")).status_code == 404
        assert (await http.put(f"{url}/ARR", json={"meaning": ""})).status_code == 400
        listed = (await http.get("/api/v1/glossaries")).json()
        exported = (await http.get("/api/v1/config/export")).text
        await take_in(http, exported)
        assert (await http.get("/api/v1/glossaries")).json() == listed
    assert listed[0] == {"name": "finance", "terms": {"MRR": "Monthly recurring revenue"}}
    assert "MRR: Monthly recurring revenue" in exported


async def test_the_routes_need_the_scope() -> None:
    async with engine(PLUGIN) as running, client(running, await token(running, "chat")) as visitor:
        assert (await visitor.get("/api/v1/glossaries")).status_code == 403
        refused = await visitor.put("/api/v1/glossaries/a/terms/b", json={"meaning": "c"})
        assert refused.status_code == 403
