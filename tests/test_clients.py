"""The JavaScript client in examples/ against real engines: answers, questions, forms, errors, lost connections."""

import asyncio
import contextlib
import os
import shutil
import socket
import socketserver
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import httpx
import pytest

from bytebrew import Guard, Http, MessageDelta, ModelRequest, ProviderError, Request, Route, ToolCall, tool
from bytebrew.base.errors import Overloaded
from bytebrew.engine import Engine
from bytebrew.testing import ADMIN, ScriptedProvider, plugin, providing, scripted_schema, served_engine
from bytebrew.web.http_state import http_state
from tests.processes import plugins_folder, serving

CLIENTS = Path(__file__).parent.parent / "examples" / "clients"
NODE = pytest.mark.skipif(shutil.which("node") is None, reason="node is not on this machine")


class Said(NamedTuple):
    """What a client printed, and what of it went to the standard error."""

    code: int
    output: str
    errors: str


async def run(url: str, message: str, *typed: str, schema: str = "test", token: str = ADMIN) -> Said:
    """A conversation: a message, and answers."""
    command, pipe = ["node", str(CLIENTS / "chat.mjs"), schema, message], asyncio.subprocess.PIPE
    environment = {**os.environ, "BYTEBREW_URL": url, "BYTEBREW_TOKEN": token}
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment)
    output, errors = await asyncio.wait_for(process.communicate("".join(f"{one}\n" for one in typed).encode()), 40)
    return Said(process.returncode or 0, output.decode(), errors.decode())


async def wiping(*answers: str, busy: int = 0) -> tuple[Said, list[str], ScriptedProvider]:
    """A conversation about a call that a person must allow, and the disks that were wiped.

    The engine is too `busy` for so many answers.
    """
    wiped: list[str] = []

    @tool(confirm=True)
    async def wipe(disk: str) -> str:
        """Erases a disk."""
        wiped.append(disk)
        return f"{disk} is empty"

    model = ScriptedProvider([ToolCall("wipe", {"disk": "sda"})], [MessageDelta(content="As you say.")])
    refusals = [Overloaded("The engine has too much to do")] * busy

    async def guard(request: Request[Any], route: Route) -> None:
        if refusals and route.path.endswith("/respond"):
            raise refusals.pop()

    guards = plugin("strict", register_guards=lambda register: register(Guard(guard)))
    tools = plugin(register_tools=lambda register: register(wipe))
    async with served_engine(tools, guards, providing(model)) as (running, http):
        await scripted_schema(running, tools=("wipe",))
        said = await run(str(http.base_url), "Wipe!", *answers)
    return said, wiped, model


@NODE
@pytest.mark.parametrize(
    ("answer", "disks"), [("yes", ["sda"]), ("no", []), ("perhaps", []), ("{no JSON", []), ('{"disk": "sdb"}', ["sdb"])]
)
async def test_a_person_is_asked_before_a_call_and_the_answer_counts(answer: str, disks: list[str]) -> None:
    said, wiped, _ = await wiping(answer)
    assert (said.code, wiped) == (0, disks), said
    assert "May it run?" in said.output
    assert said.output.rstrip().endswith("As you say.")


@NODE
async def test_an_answer_for_which_the_engine_is_too_busy_is_sent_again() -> None:
    said, wiped, _ = await wiping("yes", busy=2)
    assert (said.code, wiped) == (0, ["sda"]), said


FORM = {
    "output_type": "form",
    "title": "Your order",
    "questions": [
        {"id": "size", "label": "Which size", "type": "select", "options": [{"label": "S"}, {"label": "L"}]},
        {
            "id": "extras",
            "label": "What with it",
            "type": "multiselect",
            "options": [{"label": "milk"}, {"label": "sugar"}],
        },
        {"id": "name", "label": "Your name"},
    ],
}
TABLE = {"output_type": "table", "title": "So far", "rows": [{"label": "Coffee", "value": 2}]}


@NODE
async def test_a_form_is_filled_in_and_answers_as_the_next_message() -> None:
    model = ScriptedProvider(
        [ToolCall("show_structured_output", TABLE)],
        [MessageDelta(content="One thing more."), ToolCall("show_structured_output", FORM)],
        [MessageDelta(content="Thank you.")],
    )
    async with served_engine(providing(model)) as (running, http):
        await scripted_schema(running, tools=("show_structured_output",))
        said = await run(str(http.base_url), "Coffee!", "L", "milk, sugar", "Anna")
    assert said.code == 0, said
    assert "So far" in said.output
    assert "Coffee: 2" in said.output
    assert "Which size (S, L)" in said.output
    assert said.output.rstrip().endswith("Thank you.")
    answered = model.requests[-1].messages[-1]
    assert answered.role == "user"
    for word in ("L", "milk", "sugar", "Anna"):
        assert word in answered.content


@NODE
async def test_a_turn_that_fails_says_why() -> None:
    model = ScriptedProvider(
        [MessageDelta(content="Well"), ProviderError("the vendor is out", code="model_bad_request")]
    )
    async with served_engine(providing(model)) as (running, http):
        await scripted_schema(running)
        said = await run(str(http.base_url), "Hi")
    assert "model_bad_request: the vendor is out" in said.output + said.errors
    assert said.code == 1


@NODE
@pytest.mark.parametrize(
    ("schema", "token", "words"),
    [("nobodys", ADMIN, "not_found: "), ("demo", "bb_" + "0" * 64, "unauthorized: Invalid or expired API token")],
)
async def test_what_is_refused_is_said_and_ends_the_client(schema: str, token: str, words: str) -> None:
    async with served_engine() as (_, http):
        said = await run(str(http.base_url), "Hi", schema=schema, token=token)
    assert said.code == 1
    assert words in said.errors
    assert "Traceback" not in said.errors


class Waiting(ScriptedProvider):
    """Keeps the one place for a turn taken until a client has been refused."""

    def __init__(self) -> None:
        super().__init__([MessageDelta(content="Here now.")])
        self.busy, self.free = asyncio.Event(), asyncio.Event()

    async def stream(self, request: ModelRequest, http: Http) -> Any:
        if request.messages[-1].content == "block":
            self.busy.set()
            await self.free.wait()
        async for event in super().stream(request, http):
            yield event


@NODE
async def test_a_client_that_is_too_many_waits_and_sends_its_message_again() -> None:
    model = Waiting()
    async with served_engine(providing(model), settings={"BYTEBREW_MAX_TURNS": "1"}) as (running, http):
        await scripted_schema(running)
        first = asyncio.create_task(http.post("/api/v1/schemas/test/chat", json={"message": "block"}))
        await model.busy.wait()
        second = asyncio.create_task(run(str(http.base_url), "Hi"))
        while not http_state(running).admission.refused:
            await asyncio.sleep(0.05)
        model.free.set()
        await first
        said = await second
    assert said.code == 0, said
    assert said.output.strip().endswith("Here now.")


class Slow(ScriptedProvider):
    """Answers a message that says so only once it may."""

    def __init__(self) -> None:
        super().__init__([MessageDelta(content="Here now.")])
        self.free = asyncio.Event()

    async def stream(self, request: ModelRequest, http: Http) -> Any:
        if request.messages[-1].content == "slow":
            await self.free.wait()
        async for event in super().stream(request, http):
            yield event


async def turns(running: Engine, count: int) -> None:
    """Waits until so many turns run or wait."""
    async with asyncio.timeout(40):
        while len(running.runner.turns) < count:
            await asyncio.sleep(0.02)


SECOND = """
import { Conversation } from "%s";
const conversation = new Conversation(...process.argv.slice(1, 4));
conversation.sessionId = process.argv[4];
for await (const { event } of conversation.say("mine")) console.log(event);
"""


@NODE
async def test_a_message_behind_others_says_that_it_waits_and_ends_with_its_own_turn() -> None:
    model = Slow()
    async with served_engine(providing(model)) as (running, http):
        await scripted_schema(running)
        first = await http.post("/api/v1/schemas/test/chat", json={"message": "hello", "stream": False})
        body = {"message": "slow", "session_id": (session := first.json()["session_id"])}
        slow = asyncio.create_task(http.post("/api/v1/schemas/test/chat", json=body))
        await turns(running, 1)
        script = SECOND % (CLIENTS / "bytebrew.mjs").as_uri()
        command = ["node", "--input-type=module", "-e", script, "--", str(http.base_url), ADMIN, "test", session]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        await turns(running, 2)
        model.free.set()
        output, _ = await asyncio.wait_for(process.communicate(), 40)
        await slow
    events = [event for event in output.decode().split() if event != "queued"]
    assert (process.returncode, events) == (0, ["message_delta", "message", "done"])
    assert output.startswith(b"queued\n")


class Cutting(socketserver.StreamRequestHandler):
    """Hands on what an engine says, and cuts the first answers short: one before its head, one in its middle."""

    rbufsize = 0
    upstream = ("", 0)
    lengths: ClassVar[list[int]] = []

    def handle(self) -> None:
        with socket.create_connection(self.upstream) as engine, contextlib.suppress(OSError):
            threading.Thread(target=self.ask, args=[engine], daemon=True).start()
            length = self.lengths.pop(0) if self.lengths else 1 << 20
            while length and (data := engine.recv(min(length, 4096))):
                self.wfile.write(data)
                length -= len(data)
            self.connection.shutdown(socket.SHUT_RDWR)

    def ask(self, engine: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := self.connection.recv(4096):
                engine.sendall(data)
        with contextlib.suppress(OSError):  # a client may leave with a reset
            engine.shutdown(socket.SHUT_RDWR)


def through_a_proxy_that_cuts(url: str, lengths: Sequence[int]) -> socketserver.ThreadingTCPServer:
    host, port = url.removeprefix("http://").split(":")
    Cutting.upstream, Cutting.lengths = (host, int(port)), [*lengths]
    proxy = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Cutting)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    return proxy


@NODE
async def test_a_client_resumes_what_was_cut_and_sends_no_message_twice(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as engine:
        with through_a_proxy_that_cuts(engine.url, [10, 900]) as proxy:
            said = await run(f"http://127.0.0.1:{proxy.server_address[1]}", "beta", schema="demo")
            proxy.shutdown()
        headers = {"Authorization": f"Bearer {ADMIN}"}
        [session] = httpx.get(f"{engine.url}/api/v1/sessions", headers=headers).json()["sessions"]
    assert said.code == 0, said
    assert not Cutting.lengths
    assert session["message_count"] == 2
    assert said.output.startswith("You said: beta ")


@NODE
async def test_a_turn_goes_on_for_a_client_where_the_engine_is_stopped_and_started_anew(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {
        "BYTEBREW_PLUGINS_DIR": str(plugins_folder(tmp_path / "plugins")),
        "BYTEBREW_PORT": str(port),
        "BYTEBREW_DRAIN_SECONDS": "0",
    }
    with serving(tmp_path / "data", settings) as engine:
        async with httpx.AsyncClient(
            base_url=engine.url, headers={"Authorization": f"Bearer {ADMIN}"}, timeout=30
        ) as http:
            for path, body in (
                ("models", {"name": "slow", "type": "slow", "model_name": "slow"}),
                ("agents", {"name": "slow", "model": "slow"}),
                ("schemas", {"name": "slow", "entry_agent": "slow", "chat_enabled": True}),
            ):
                assert (await http.post(f"/api/v1/{path}", json=body)).status_code == 201
            talking = asyncio.create_task(run(engine.url, "1500", schema="slow"))
            async with asyncio.timeout(20):
                while not (await http.get("/api/v1/sessions?status=active")).json()["total"]:
                    await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(engine.stop)
    with serving(tmp_path / "data", settings):
        said = await talking
    assert said.code == 0, said
    assert said.output.strip() == "".join(f"delta {n} \u00fc\u2028 " for n in range(1500)).strip()


def test_the_library_is_one_file_that_names_no_package() -> None:
    for name in ("bytebrew.mjs", "chat.mjs"):
        text = (CLIENTS / name).read_text()
        imported = [
            line.partition(" from ")[2].strip(' ";') for line in text.splitlines() if line.startswith("import ")
        ]
        assert set(imported) <= {"./bytebrew.mjs", "node:readline"}
    assert "node:" not in (CLIENTS / "bytebrew.mjs").read_text()
