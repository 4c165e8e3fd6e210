"""MCP servers by others: the reference server over every transport, and one of the official SDK in both eras."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import httpx
import pytest

from bytebrew import MessageDelta, ToolCall
from bytebrew.testing import ScriptedProvider, chat, providing, scripted_schema, served_engine

pytestmark = pytest.mark.peers

CACHE = Path(__file__).parents[2] / ".cache/peers"
EVERYTHING = CACHE / "everything/node_modules/@modelcontextprotocol/server-everything/dist/index.js"
SDK = CACHE / "mcp/bin/python"
SERVER = """
import sys, time
import anyio
from mcp.server import MCPServer
server = MCPServer("peer")

@server.tool()
def add(a: int, b: int) -> int:
    "The sum of two numbers."
    return a + b

@server.tool()
async def rest(seconds: float) -> str:
    "Takes its time."
    await anyio.sleep(seconds)
    return "rested"

if sys.argv[1] == "stdio":
    server.run("stdio")
else:
    server.run(sys.argv[1], host="127.0.0.1", port=int(sys.argv[2]))
"""


class Peer(NamedTuple):
    """How to start a server, what it is then expected to speak, and two of its tools."""

    command: Callable[[str, int], list[str]]
    transport: str
    path: str
    version: str
    newest: bool
    quick: tuple[str, dict[str, Any], str]
    slow: tuple[str, dict[str, Any]]


def everything(transport: str, path: str = "", version: str = "2025-11-25") -> Peer:
    def command(script: str, port: int) -> list[str]:
        return ["node", str(EVERYTHING), transport]

    quick = ("get-sum", {"a": 2, "b": 40}, "The sum of 2 and 40 is 42.")
    return Peer(command, transport, path, version, True, quick, ("trigger-long-running-operation", {"duration": 30}))


def sdk(transport: str, version: str, path: str = "", newest: bool = True) -> Peer:
    def command(script: str, port: int) -> list[str]:
        return [str(SDK), script, transport, str(port)]

    quick = ("add", {"a": 2, "b": 40}, "42")
    return Peer(command, transport, path, version, newest, quick, ("rest", {"seconds": 30}))


PEERS = {
    "reference stdio": everything("stdio"),
    "reference streamable HTTP": everything("streamableHttp", "/mcp"),
    "reference SSE": everything("sse", "/sse"),
    "SDK stdio, modern": sdk("stdio", "2026-07-28"),
    "SDK stdio, legacy": sdk("stdio", "2025-11-25", newest=False),
    "SDK streamable HTTP, modern": sdk("streamable-http", "2026-07-28", "/mcp"),
    "SDK streamable HTTP, legacy": sdk("streamable-http", "2025-11-25", "/mcp", newest=False),
    "SDK SSE": sdk("sse", "2026-07-28", "/sse"),
}


class Running:
    """A server in a process of its own that can be killed and started again on its port."""

    def __init__(self, command: list[str], port: int) -> None:
        self.command = command
        self.port = port
        self.start()

    def start(self) -> None:
        env = {**os.environ, "PORT": str(self.port)}
        self.process = subprocess.Popen(self.command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError(f"{self.command} does not listen")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def kill_child(script: str) -> None:
    """Kills the command that the engine has started."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line, stat = (entry / "cmdline").read_bytes().decode(), (entry / "stat").read_text()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == os.getpid() and script in line and not line.startswith("/bin/sh"):
            os.kill(int(entry.name), signal.SIGKILL)
            return
    raise AssertionError(f"no child runs {script}")


async def call(client: httpx.AsyncClient, model: ScriptedProvider, tool: str, input: dict[str, Any]) -> dict[str, Any]:
    """What comes of one tool call in a chat."""
    model.answers = [[ToolCall(tool, input)], [MessageDelta(content="Done.")]]
    model.requests.clear()
    events = await chat(client, "test", "Go on")
    assert events[-1].event == "done"
    return dict(next(json.loads(event.data) for event in events if event.event == "tool_result"))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", PEERS)
async def test_a_tool_runs_in_a_chat_and_again_after_its_server_was_killed_in_a_call(name: str, tmp_path: Path) -> None:
    peer = PEERS[name]
    if not (EVERYTHING if name.startswith("reference") else SDK).exists():
        pytest.skip("not set up: run tests/peers/setup.sh")
    script = tmp_path / "peer_server.py"
    script.write_text(SERVER)
    port = free_port()
    command = peer.command(str(script), port)
    running = Running(command, port) if peer.path else None
    model = ScriptedProvider([])
    settings = {"BYTEBREW_MCP_CALL_TIMEOUT": "40s", "BYTEBREW_MCP_PROBE_TIMEOUT": "10s" if peer.newest else "0"}
    try:
        async with served_engine(providing(model), settings=settings) as (engine, client):
            await scripted_schema(engine, mcp_servers=("peer",))
            kind = {"stdio": "stdio", "sse": "sse"}.get(peer.transport, "http")
            where: dict[str, Any] = {"url": f"http://127.0.0.1:{port}{peer.path}"} if running else {}
            body = {"name": "peer", "type": kind, **(where or {"command": command[0], "args": command[1:]})}
            assert (await client.post("/api/v1/mcp-servers", json=body)).status_code == 201

            async def status() -> dict[str, Any]:
                return dict((await client.get("/api/v1/mcp-servers/peer")).json()["status"])

            with anyio.fail_after(20):
                while (await status())["status"] != "connected":
                    await anyio.sleep(0.1)
            assert (await status())["protocol_version"] == peer.version
            tool, input, words = peer.quick
            assert (await call(client, model, tool, input)).items() >= {"output": words, "has_error": False}.items()

            async with anyio.create_task_group() as group:

                async def end() -> None:
                    await anyio.sleep(1.5)
                    if running:
                        await anyio.to_thread.run_sync(running.kill)
                    else:
                        kill_child(command[1])

                group.start_soon(end)
                begun = time.monotonic()
                broken = await call(client, model, *peer.slow)
            assert broken["has_error"], broken
            assert re.match("MCP server 'peer' ", broken["output"])
            assert time.monotonic() - begun < 10
            if running:
                await anyio.to_thread.run_sync(running.start)
            with anyio.fail_after(20):
                while (again := await call(client, model, tool, input))["has_error"]:
                    await anyio.sleep(0.3)
            assert again["output"] == words
    finally:
        if running:
            running.kill()


@pytest.mark.timeout(60)
async def test_what_the_reference_server_answers_in_other_kinds_reaches_the_model() -> None:
    if not EVERYTHING.exists():
        pytest.skip("not set up: run tests/peers/setup.sh")
    model = ScriptedProvider([])
    async with served_engine(providing(model)) as (engine, client):
        await scripted_schema(engine, mcp_servers=("peer",))
        body = {"name": "peer", "command": "node", "args": [str(EVERYTHING), "stdio"], "env": {"PLACE": "from-env"}}
        await client.post("/api/v1/mcp-servers", json=body)
        assert (await call(client, model, "echo", {"message": "Zoë 💥"}))["output"] == "Echo: Zoë 💥"
        env = json.loads((await call(client, model, "get-env", {}))["output"])
        assert env["PLACE"] == "from-env"
        assert not [key for key in env if key.startswith("BYTEBREW")]
        weather = await call(client, model, "get-structured-content", {"location": "New York"})
        assert "temperature" in json.loads(weather["output"])
        links = await call(client, model, "get-resource-links", {"count": 2})
        assert links["output"].count("[resource ") == 2
        image = await call(client, model, "get-tiny-image", {})
        assert not image["has_error"]
        bad = await call(client, model, "get-sum", {"a": "x"})
        assert bad["has_error"]
        done = await call(client, model, "trigger-long-running-operation", {"duration": 1, "steps": 4})
        assert "completed" in done["output"].lower()
