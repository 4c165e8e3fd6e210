"""MCP servers of several nodes: what people decided and what users authorized is shared, connections are per node."""

import asyncio
from pathlib import Path
from typing import Any

import anyio
import pytest
from bytebrew_mcp.connection import ServerConnection
from bytebrew_mcp.oauth.credentials import AUTHORIZATIONS
from bytebrew_mcp.toolset import SERVERS

from tests.mcp_double import Web
from tests.nodes.engines import Node, nodes
from tests.oauth_double import Authority
from tests.plugins.test_mcp_oauth import BROWSER, CONNECTIONS, begin, grants

pytestmark = pytest.mark.postgresql
PATH = "/api/v1/mcp-servers"


async def echo(node: Node) -> dict[str, Any]:
    tools = (await node.http.get(f"{PATH}/double")).json().get("tools", [])
    return next((tool for tool in tools if tool["name"] == "echo"), {"state": None, "description": None})


async def shows(node: Node, **wanted: str) -> dict[str, Any]:
    with anyio.fail_after(20):
        while {name: (tool := await echo(node))[name] for name in wanted} != wanted:
            await asyncio.sleep(0.02)
    return tool


async def test_a_changed_tool_is_withheld_on_every_node_and_one_decision_counts_on_all(tmp_path: Path) -> None:
    file = tmp_path / "description"
    file.write_text("First")
    async with Web(description_file=str(file)) as web, nodes((), ()) as [first, second]:
        body = {"name": "double", "type": "http", "url": web.url}
        assert (await first.http.post(PATH, json=body)).status_code == 201
        for node in (first, second):
            await shows(node, state="available", description="First")
        file.write_text("Second")
        changed = await shows(second, state="withheld", description="Second")
        await shows(first, state="withheld", description="Second")
        answer = await first.http.post(f"{PATH}/double/tools/echo/approve", json={"digest": changed["digest"]})
        assert answer.status_code == 200, answer.text
        await shows(second, state="available", description="Second")


async def test_what_was_read_of_a_server_before_its_tools_were_listed_does_not_count_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begins, has_read = asyncio.Event(), asyncio.Event()
    listing = ServerConnection._list

    async def later(connection: ServerConnection, session: Any) -> None:
        await begins.wait()
        await listing(connection, session)

    monkeypatch.setattr(ServerConnection, "_list", later)
    async with Web() as web, nodes(()) as [node]:
        servers = node.engine.state[SERVERS]
        body = {"name": "double", "type": "http", "url": web.url, "pin": "block"}
        assert (await node.http.post(PATH, json=body)).status_code == 201
        connection, decided = servers.connections["double"], servers._decided

        async def slowly(row: Any) -> Any:
            read = await decided(row)
            has_read.set()
            while not connection.tools:
                await asyncio.sleep(0.01)
            return read

        monkeypatch.setattr(servers, "_decided", slowly)
        reloading = asyncio.create_task(servers.reload())
        with anyio.fail_after(20):
            await has_read.wait()
            begins.set()
            await reloading
        assert connection.state_of(connection.tools["echo"]) == "available"


async def test_an_authorization_ends_on_another_node_and_a_token_is_refreshed_once_for_all() -> None:
    async with Authority() as web, nodes((), ()) as [first, second]:
        body = {"name": "double", "type": "http", "url": web.url, "auth_type": "oauth2"}
        assert (await first.http.post(PATH, json=body)).status_code == 201
        with anyio.fail_after(10):
            while "double" not in second.engine.state[SERVERS].connections:
                await asyncio.sleep(0.02)
        address = await begin(first.http)
        second.http.cookies = first.http.cookies
        answer = await second.http.get(web.authorize(address, "Ann"), headers=BROWSER)
        assert answer.status_code == 200, answer.text
        assert (await first.http.get(CONNECTIONS)).json()[0]["state"] == "connected"
        server = second.engine.state[SERVERS].connections["double"].server
        subject = await second.engine.db.read(
            lambda conn: conn.execute("select subject from mcp_connections").fetchone()[0]
        )
        before = await first.engine.state[AUTHORIZATIONS].token(server, subject)
        done = len(grants(web, "refresh_token"))
        tokens = await asyncio.gather(
            *(node.engine.state[AUTHORIZATIONS].token(server, subject, before) for node in (first, second))
        )
        assert len(set(tokens)) == 1
        assert tokens[0] != before
        assert len(grants(web, "refresh_token")) == done + 1
