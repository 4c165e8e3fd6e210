"""MCP tools in chats: every version over every transport, what a model is told, and what agents get."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from bytebrew_mcp.connection import ServerConnection
from bytebrew_mcp.toolset import Servers

from bytebrew import Call, MessageDelta, ToolCall
from bytebrew.engine import Engine
from bytebrew.testing import ScriptedProvider, chat, providing, scripted_schema, served_engine
from tests.mcp_double import NESTED, Web

DOUBLE = Path(__file__).parents[1] / "mcp_double.py"
PATH = "/api/v1/mcp-servers"


class World(NamedTuple):
    """An engine whose agent `test` has the MCP servers that are set up, and a model that calls what it is told to."""

    engine: Engine
    client: httpx.AsyncClient
    model: ScriptedProvider

    async def add(self, name: str = "double", **body: Any) -> dict[str, Any]:
        """Creates a server; without a URL it is the double as a command, with `how` for it."""
        if "url" not in body:
            body = stdio(**body)
        answer = await self.client.post(PATH, json={"name": name, **body})
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    @property
    def connections(self) -> dict[str, ServerConnection]:
        return next(one for one in self.engine.toolsets if isinstance(one, Servers)).connections

    async def get(self, name: str = "double") -> dict[str, Any]:
        return dict((await self.client.get(f"{PATH}/{name}")).json())

    async def ask(self, tool: str, headers: dict[str, Any] | None = None, **input: Any) -> dict[str, Any]:
        """What comes of one call of a tool in a chat."""
        self.model.answers = [[ToolCall(tool, input)], [MessageDelta(content="Done.")]]
        self.model.requests.clear()
        self.client.headers.update(headers or {})
        events = await chat(self.client, "test", "Go on")
        assert events[-1].event == "done", events
        return dict(next(json.loads(event.data) for event in events if event.event == "tool_result"))

    async def call(self, tool: str, **input: Any) -> str:
        """What comes of one call of a tool beside any chat; raises ToolError."""
        return await self.call_as("me", tool, **input)

    async def call_as(self, subject: str, tool: str, **input: Any) -> str:
        """As `call`, for another user."""
        connection = self.connections["double"]
        call = Call(call_id="c", session_id="s", turn_id="t", schema="test", agent="test", subject=subject)
        return (await connection.run(connection.tools[tool].definition, call, input)).text

    async def offered(self, agent: str = "test") -> list[str]:
        """The tools that the model of an agent is told of."""
        self.model.answers = [[MessageDelta(content="Done.")]]
        self.model.requests.clear()
        await chat(self.client, agent, "Hi")
        return sorted(tool.name for tool in self.model.requests[0].tools)


def stdio(how: dict[str, Any] | None = None, **body: Any) -> dict[str, Any]:
    """A body for the double as a command."""
    env = {"MCP_DOUBLE": json.dumps(how or {}), **body.pop("env", {})}
    return {"type": "stdio", "command": sys.executable, "args": [str(DOUBLE)], "env": env, **body}


@asynccontextmanager
async def world(
    *,
    servers: tuple[str, ...] = ("double",),
    data: Path | None = None,
    again: bool = False,
    confirmation_ttl: str = "0",
    **settings: str,
) -> AsyncIterator[World]:
    """An engine with an agent that names the servers, unless it is there `again`."""
    model = ScriptedProvider([])
    settings = {f"BYTEBREW_MCP_{name.upper()}": value for name, value in {"turn_wait": "2", **settings}.items()}
    settings["BYTEBREW_CONFIRMATION_TTL"] = confirmation_ttl
    async with served_engine(providing(model), data=data, settings=settings) as (engine, client):
        if not again:
            await scripted_schema(engine, mcp_servers=servers)
        yield World(engine, client, model)


VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28")
WAYS: dict[str, dict[str, Any]] = {
    **{f"stdio {version}": {"versions": [version]} for version in VERSIONS},
    "stdio, in both eras": {"versions": ["2026-07-28", "2025-11-25"]},
    "stdio, in pieces, with garbage and batches": {"cut": 5, "garbage": True, "batches": True},
    "stdio, silent to what it does not know": {"silent_on_probe": True},
    "stdio, which ends at what it does not know": {"dies_on_probe": True},
    **{f"http {version}": {"web": True, "versions": [version]} for version in VERSIONS[1:]},
    "stdio, which has an answer to everything": {"answers_anything": True},
    "http, in JSON": {"web": True, "json": True},
    "http, in JSON and batches": {"web": True, "json": True, "batches": True},
    "http, in batches": {"web": True, "batches": True},
    "http, with a stream of its own that fails": {"web": True, "get_status": 500},
    "http, with no page at all for what it does not know": {"web": True, "get_status": 404},
    "http, with a page for people": {"web": True, "get_status": 307},
    "http 2026-07-28 in JSON": {"web": True, "json": True, "versions": ["2026-07-28"]},
    "http, without sessions or a stream of its own": {"web": True, "sessions": False, "no_get": True},
    "http, which has the answer fetched later": {"web": True, "polls": True},
    "http, whose streams stay open": {"web": True, "never_closes": True},
    "sse 2024-11-05": {"web": True, "sse": True, "versions": ["2024-11-05"]},
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_tool_runs_in_a_chat(way: str) -> None:
    how = dict(WAYS[way])
    async with AsyncExitStack() as stack:
        w = await stack.enter_async_context(world(probe_timeout="0.3"))
        if how.pop("web", False):
            web = await stack.enter_async_context(Web(**how))
            server = await w.add(url=web.url, type="sse" if how.get("sse") else "http")
        else:
            server = await w.add(how=how)
        server = await w.get() if server["status"]["status"] == "connecting" else server
        wanted = how.get("versions", ["2025-11-25"])[0]
        assert (server["status"]["status"], server["status"]["protocol_version"]) == ("connected", wanted)
        for n in range(2):
            result = await w.ask("echo", who={"name": f"Zoë {n} 💥\u2028"}, tags=[{"key": "a"}])
            assert not result["has_error"], result
            assert json.loads(result["output"])["given"] == {
                "who": {"name": f"Zoë {n} 💥\u2028"},
                "tags": [{"key": "a"}],
            }


async def test_the_model_is_told_of_every_page_and_schemas_are_as_they_were() -> None:
    async with world() as w:
        server = await w.add()
        assert server["status"]["tools_count"] == 10
        names = await w.offered()
        plain = ["die", "eat", "echo", "env", "fail", "kinds", "odd_name_with_more", "seen", "slow", "structured"]
        assert names == plain
        told = {tool.name: tool for tool in w.model.requests[0].tools}
        assert told["echo"].input_schema == NESTED
        assert told["echo"].description == "Says it again."


async def test_every_kind_of_content_reaches_the_model_or_is_described() -> None:
    async with world() as w:
        await w.add()
        result = await w.ask("kinds")
        assert result["output"] == "\n".join(
            [
                "first",
                "[image, image/png, which is not in base64]",
                "[audio, audio/wav, 3 bytes, which cannot be shown]",
                "[resource file:///notes.txt]\na note",
                "[resource x:z, application/pdf, 3 bytes, which cannot be shown]",
                "[resource b: https://a.test/b, text/html]",
                "[hologram, which cannot be shown]",
                "last",
            ]
        )
        assert json.loads((await w.ask("structured"))["output"]) == {"sum": 3, "parts": [1, 2]}
        assert (await w.ask("fail")).items() >= {"output": "the disk is full", "has_error": True}.items()
        refused = await w.ask("odd_name_with_more")
        assert refused["output"] == "MCP server 'double' refuses the call: no tool odd.name/with more"


async def test_hints_become_what_the_engine_knows_of_a_tool() -> None:
    async with world() as w:
        await w.add()
        tools = {tool.name: tool for toolset in w.engine.toolsets for tool in await toolset.all()}
        assert (tools["env"].risk, tools["env"].idempotent, tools["env"].source) == ("safe", True, "mcp:double")
        assert (tools["kinds"].risk, tools["kinds"].idempotent) == ("caution", True)
        assert (tools["slow"].risk, tools["slow"].idempotent) == ("dangerous", False)


async def test_tools_of_one_name_are_told_apart_whichever_server_is_away() -> None:
    more = {"more_tools": [{"name": "current_time", "inputSchema": {}}, {"name": "x" * 90, "inputSchema": {}}]}
    async with world(servers=("one", "two.b")) as w:
        await w.add("one", how=more)
        await w.add("two.b", how={"more_tools": [{"name": "only", "inputSchema": {}}]})
        both = await w.offered()
        assert {"echo", "two_b__echo", "only", "one__current_time"} <= set(both)
        assert all(len(name) <= 64 for name in both)
        assert len(set(both)) == len(both)
        assert (await w.ask("two_b__echo", who={"name": "me"}))["has_error"] is False
        await w.client.patch(f"{PATH}/one", json={"enabled": False})
        assert set(await w.offered()) == {name for name in both if name.startswith("two_b__") or name == "only"}


async def test_filters_narrow_what_agents_get() -> None:
    async with world() as w:
        await w.add(allow_tools=["echo", "env", "slow"], deny_tools=["slow"])
        assert await w.offered() == ["echo", "env"]
        await w.client.patch(f"{PATH}/double", json={"agent_tools": {"test": ["env"], "other": ["echo"]}})
        assert await w.offered() == ["env"]
        assert (await w.ask("echo"))["output"] == "There is no tool named 'echo'"
        await w.client.patch(f"{PATH}/double", json={"allow_tools": None, "deny_tools": [], "agent_tools": {}})
        assert len(await w.offered()) == 10


async def test_headers_of_the_chat_go_to_the_servers_that_name_them_and_to_no_other() -> None:
    given = {"X-Org-Id": "acme", "X-Other": "secret"}
    async with Web() as web, Web(sse=True) as sse, world(servers=("web", "sse", "io", "none")) as w:
        forward = {"forward_headers": ["X-Org-Id", "x-user-id", "X-API-Key"], "allow_tools": ["echo"]}
        await w.add("web", url=web.url, type="http", auth_type="api_key", auth_key="k1", **forward)
        await w.add("sse", url=sse.url, type="sse", **forward)
        await w.add("io", **forward)
        await w.add("none", allow_tools=["echo"])
        seen = {}
        for name in ("web", "sse", "io", "none"):
            output = (await w.ask(f"{name}__echo", {**given, "X-API-Key": "forged"}, who={"name": "a"}))["output"]
            seen[name] = json.loads(output)
        assert seen["web"]["headers"]["x-org-id"] == seen["sse"]["headers"]["x-org-id"] == "acme"
        assert seen["web"]["headers"]["x-api-key"] == "k1"
        assert seen["io"]["about"]["ai.bytebrew/headers"] == {"x-org-id": "acme", "x-api-key": "forged"}
        assert "ai.bytebrew/headers" not in seen["none"]["about"]
        assert all("secret" not in json.dumps(one) for one in seen.values())
        assert all("x-org-id" not in headers for _, headers in web.requests if "mcp-protocol-version" not in headers)


async def test_a_credential_that_a_server_repeats_is_told_to_no_model() -> None:
    async with Web() as web, world() as w:
        headers = {"X-Key": "Key hunter22", "X-Org": "acme"}
        await w.add(url=web.url, auth_type="bearer", auth_key="the disk is full", headers=headers)
        sent = json.loads((await w.ask("echo"))["output"])["headers"]
        assert (sent["authorization"], sent["x-key"], sent["x-org"]) == ("Bearer ***", "Key ***", "acme")
        assert (await w.ask("fail"))["output"] == "***"


async def test_every_request_of_the_stateless_version_says_what_it_is() -> None:
    async with Web(versions=["2026-07-28"]) as web, world() as w:
        await w.add(url=web.url, type="http")
        await w.ask("echo", who={"name": "Zoë"})
        for method, headers in web.requests:
            assert (method, headers["mcp-protocol-version"]) == ("POST", "2026-07-28")
            assert "mcp-session-id" not in headers
        call = next(headers for _, headers in web.requests if headers["mcp-method"] == "tools/call")
        assert (call["mcp-name"], call["mcp-param-who"]) == ("echo", "=?base64?Wm/Dqw==?=")


@pytest.mark.parametrize("where", ["stdio", "http", "sse"])
async def test_pings_are_answered_and_what_we_do_not_offer_is_refused(where: str) -> None:
    async with Web(sse=where == "sse") as web, world() as w:
        await w.add(**({} if where == "stdio" else {"url": web.url, "type": where}))
        seen = [one["message"] for one in json.loads((await w.ask("seen"))["output"])]
        assert {"jsonrpc": "2.0", "id": "s1", "result": {}} in seen
        refused = {one["id"]: one["error"] for one in seen if "error" in one}
        codes = {number: error["code"] for number, error in refused.items()}
        assert codes == {**dict.fromkeys(("s2", "s3", "s5"), -32601), "s4": -32602}  # of a message and a form
        assert refused["s3"]["message"] == "This client does not offer roots/list"
        assert len(refused["s5"]["message"]) < 200
        begin = next(one for one in seen if one.get("method") == "initialize")
        assert begin["params"]["protocolVersion"] == "2025-11-25"
        assert {"jsonrpc": "2.0", "method": "notifications/initialized"} in seen
