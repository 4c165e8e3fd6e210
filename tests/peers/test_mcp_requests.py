"""Elicitation, sampling, resources and prompts with servers by others: the reference server and one of the SDK."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from bytebrew import MessageDelta, ToolCall
from bytebrew.testing import ScriptedProvider, providing, scripted_schema, served_engine
from tests.conversation.test_confirmations import Talk
from tests.peers.test_mcp_peers import EVERYTHING, PEERS, SDK, Running, free_port

pytestmark = [pytest.mark.peers, pytest.mark.timeout(90)]
SERVER = """
import sys
from typing import Annotated
from pydantic import BaseModel, Field
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.resolve import Elicit, Resolve, Sample
from mcp_types import CreateMessageResult, SamplingMessage, TextContent

server = MCPServer("peer")

class Guest(BaseModel):
    name: str = Field(description="as in your passport")
    nights: int = Field(ge=1, le=30)
    breakfast: bool = False

async def guest() -> Elicit[Guest]:
    return Elicit("Who stays, and for how long?", Guest)

async def haiku(topic: str) -> Sample:
    message = SamplingMessage(role="user", content=TextContent(type="text", text=f"A haiku on {topic}"))
    return Sample([message], max_tokens=30)

@server.tool()
async def book(guest: Annotated[Guest, Resolve(guest)]) -> str:
    "Books a room."
    return f"{guest.name} stays {guest.nights} nights, breakfast {guest.breakfast}"

@server.tool()
async def write(topic: str, haiku: Annotated[CreateMessageResult, Resolve(haiku)]) -> str:
    "Writes a haiku."
    return f"{haiku.model} wrote: {haiku.content.text}"

@server.resource("note://{name}")
def note(name: str) -> str:
    return f"The note {name}"

@server.resource("list://all")
def notes() -> str:
    return "one, two"

@server.prompt()
def greet(name: str) -> str:
    return f"Greet {name}"

if sys.argv[1] == "stdio":
    server.run("stdio")
else:
    server.run(sys.argv[1], host="127.0.0.1", port=int(sys.argv[2]))
"""
REFERENCE = [name for name in PEERS if name.startswith("reference")]
OFFICIAL = [name for name in PEERS if not name.startswith("reference")]


class Desk:
    """An engine with the server `peer`, and a model that calls what it is told to."""

    def __init__(self, client: httpx.AsyncClient, model: ScriptedProvider) -> None:
        self.client, self.model = client, model

    def call(self, tool: str, *answers: str, **input: Any) -> Talk:
        """A turn that calls a tool; the model's further answers, and then the end."""
        self.model.requests.clear()
        texts = [[MessageDelta(content=one)] for one in (*answers, "Done.")]
        self.model.answers = [[ToolCall(tool, input)], *texts]
        return Talk(self.client, "POST", "/api/v1/schemas/test/chat", json={"message": "Go on"})

    async def respond(self, question: dict[str, Any], word: str, **body: Any) -> httpx.Response:
        """The person's answer."""
        given = {"confirmation_id": question["confirmation_id"], "answers": [word], **body}
        return await self.client.post(f"/api/v1/sessions/{question['session_id']}/respond", json=given)

    async def until_it_has(self, tool: str) -> None:
        """Waits until the server has listed a tool: the reference server adds some once it knows the client."""
        with anyio.fail_after(30):
            while tool not in [one["name"] for one in await self.tools()]:
                await anyio.sleep(0.1)

    async def tools(self) -> list[Any]:
        return list((await self.client.get("/api/v1/mcp-servers/peer")).json()["tools"])


@asynccontextmanager
async def desk(name: str, folder: Path) -> AsyncIterator[Desk]:
    """An engine that is connected to a peer by this name."""
    peer = PEERS[name]
    if not (EVERYTHING if name in REFERENCE else SDK).exists():
        pytest.skip("not set up: run tests/peers/setup.sh")
    script = folder / "peer_server.py"
    script.write_text(SERVER)
    port = free_port()
    command = peer.command(str(script), port)
    running = Running(command, port) if peer.path else None
    model = ScriptedProvider([])
    settings = {
        "BYTEBREW_MCP_PROBE_TIMEOUT": "10s" if peer.newest else "0",
        "BYTEBREW_MCP_SAMPLING": "on",
        "BYTEBREW_MCP_TURN_WAIT": "60s",
    }
    kind = {"stdio": "stdio", "sse": "sse"}.get(peer.transport, "http")
    where: dict[str, Any] = {"url": f"http://127.0.0.1:{port}{peer.path}"} if running else {}
    body = {"name": "peer", "type": kind, "pin": "off", "sampling": True, "resources": True}
    try:
        async with served_engine(providing(model), settings=settings) as (engine, client):
            await scripted_schema(engine, mcp_servers=("peer",))
            body |= where or {"command": command[0], "args": command[1:]}
            assert (await client.post("/api/v1/mcp-servers", json=body)).status_code == 201
            yield Desk(client, model)
    finally:
        if running:
            running.kill()


async def output(talk: Talk) -> str:
    """What the tool returned."""
    [result] = await talk.until("tool_result")
    assert not result["has_error"], result
    return str(result["output"])


@pytest.mark.parametrize("name", REFERENCE)
async def test_the_reference_server_asks_samples_and_has_resources(name: str, tmp_path: Path) -> None:
    async with desk(name, tmp_path) as at:
        await at.until_it_has("trigger-elicitation-request")
        talk = at.call("trigger-elicitation-request")
        [question] = await talk.until("confirmation")
        fields = question["input_schema"]["properties"]
        assert len(fields) == 13
        assert fields["legacyTitledEnum"]["oneOf"][0] == {"const": "pet-1", "title": "Cats"}
        assert fields["titledMultipleSelectEnum"]["items"]["anyOf"][0] == {"const": "fish-1", "title": "Tuna"}
        assert (await at.respond(question, "approve")).status_code == 422  # without a name
        content = {"name": "Zoë", "birthdate": "2000-02-29", "email": "zoe@example.com", "integer": 7}
        assert (await at.respond(question, "approve", input=content)).status_code == 200
        assert "- Name: Zoë" in await output(talk)
        await talk.end()
        declined = at.call("trigger-elicitation-request")
        [question] = await declined.until("confirmation")
        assert (await at.respond(question, "reject")).status_code == 200
        assert "declined" in await output(declined)
        await declined.end()
        await at.until_it_has("trigger-sampling-request")
        sampled = at.call("trigger-sampling-request", "An old silent pond", prompt="a haiku")
        assert "An old silent pond" in await output(sampled)
        await sampled.end()
        assert at.model.requests[1].system == "You are a helpful test server."
        assert "trigger-elicitation-request-async" not in [one["name"] for one in await at.tools()]
        await at.until_it_has("trigger-url-elicitation")
        visit = at.call("trigger-url-elicitation", url="https://example.com/consent", message="Consent there")
        [question] = await visit.until("confirmation")
        assert (question["input"]["host"], question["input"]["url"]) == ("example.com", "https://example.com/consent")
        assert (await at.respond(question, "approve")).status_code == 200
        assert "accept" in (await output(visit)).lower()
        await visit.end()
        listed = (await at.client.get("/api/v1/mcp-servers/peer/resources")).json()["data"]
        assert len(listed) > 3
        prompts = (await at.client.get("/api/v1/mcp-servers/peer/prompts")).json()["data"]
        assert "simple-prompt" in [one["name"] for one in prompts]
        text = next(one for one in listed if one["mime_type"].startswith("text/"))
        read = at.call("peer__read_resource", uri=text["uri"])
        assert (await output(read)).startswith(f"[resource {text['uri']}]\n")


@pytest.mark.parametrize("name", OFFICIAL)
async def test_the_official_sdk_asks_samples_and_has_resources(name: str, tmp_path: Path) -> None:
    async with desk(name, tmp_path) as at:
        await at.until_it_has("book")
        talk = at.call("book")
        [question] = await talk.until("confirmation")
        assert question["input"]["message"] == "Who stays, and for how long?"
        assert question["input_schema"]["properties"]["nights"] == {
            "type": "integer",
            "title": "Nights",
            "minimum": 1,
            "maximum": 30,
        }
        refused = await at.respond(question, "approve", input={"name": "Zoë", "nights": 31})
        assert [one["path"] for one in refused.json()["details"]] == ["$.input.nights"]
        assert (await at.respond(question, "approve", input={"name": "Zoë", "nights": 2})).status_code == 200
        assert await output(talk) == "Zoë stays 2 nights, breakfast False"
        await talk.end()
        sampled = at.call("write", "An old silent pond", topic="ponds")
        assert (await output(sampled)).endswith(" wrote: An old silent pond")
        await sampled.end()
        assert [one.content for one in at.model.requests[1].messages] == ["A haiku on ponds"]
        assert at.model.requests[1].max_tokens == 30
        listed = (await at.client.get("/api/v1/mcp-servers/peer/resources")).json()["data"]
        assert [one["uri"] for one in listed] == ["list://all"]
        prompts = (await at.client.get("/api/v1/mcp-servers/peer/prompts")).json()["data"]
        assert [(one["name"], one["arguments"][0]["name"]) for one in prompts] == [("greet", "name")]
        read = at.call("peer__read_resource", uri="note://one")
        assert await output(read) == "[resource note://one]\nThe note one"
        await read.end()
        all_of_them = at.call("peer__list_resources")
        assert json.loads(await output(all_of_them))["resources"][0]["uri"] == "list://all"
