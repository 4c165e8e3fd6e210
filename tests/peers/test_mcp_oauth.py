"""MCP servers with OAuth by the official SDK and FastMCP: two users, a kill of the engine, and refreshes."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from bytebrew.testing import ADMIN
from tests.peers.test_mcp_peers import CACHE, SDK, Running
from tests.processes import Process

pytestmark = pytest.mark.peers

SCRIPT = Path(__file__).with_name("mcp_oauth_server.py")
INTERPRETERS = {"sdk": SDK, "fastmcp": CACHE / "fastmcp/bin/python"}
SECONDS = 9
"""How long an access token is valid: less than the 10 seconds before its end in which each call refreshes it."""
CALLER = '''
"""A model that calls the tool that the message names, and repeats what comes of it."""
from bytebrew import MessageDelta, Provider, Stop, ToolCall, Usage, hookimpl

class Caller(Provider):
    type = "caller"

    async def stream(self, request, http):
        last = request.messages[-1]
        if last.role == "user" and any(tool.name == last.content for tool in request.tools):
            yield ToolCall(last.content, {})
        else:
            yield MessageDelta(content=last.content)
        yield Usage(1, 1)
        yield Stop()

@hookimpl
def register_providers(register):
    register(Caller())
'''


class Engine(NamedTuple):
    """An engine in a process of its own, with the folder of its data and that of its plugins."""

    process: Process
    data: Path
    settings: dict[str, str]

    @classmethod
    def begin(cls, folder: Path) -> "Engine":
        plugins = folder / "plugins"
        info = plugins / "caller-1.0.dist-info"
        info.mkdir(parents=True)
        (plugins / "caller_provider.py").write_text(CALLER)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: caller\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[bytebrew]\ncaller = caller_provider\n")
        settings = {"BYTEBREW_PLUGINS_DIR": str(plugins)}
        return cls(Process(folder / "data", settings), folder / "data", settings)

    def again(self) -> "Engine":
        """Killed, and started anew on its data."""
        self.process.kill()
        return self._replace(process=Process(self.data, self.settings))

    def client(self, token: str = ADMIN) -> httpx.Client:
        return httpx.Client(base_url=self.process.url, headers={"Authorization": f"Bearer {token}"}, timeout=60)

    def configure(self, url: str) -> list[str]:
        """An agent with the server; returns the tokens of two users."""
        with self.client() as http:
            for path, body in (
                ("mcp-servers", {"name": "peer", "url": url, "auth_type": "oauth2"}),
                ("models", {"name": "caller", "type": "caller", "model_name": "caller"}),
                ("agents", {"name": "caller", "model": "caller", "mcp_servers": ["peer"]}),
                ("schemas", {"name": "caller", "entry_agent": "caller", "chat_enabled": True}),
            ):
                answer = http.post(f"/api/v1/{path}", json=body)
                assert answer.status_code == 201, answer.text
            users = [http.post("/api/v1/auth/tokens", json={"name": name, "scopes": ["chat"]}) for name in ("a", "b")]
            return [answer.json()["token"] for answer in users]

    def ask(self, token: str, tool: str) -> str:
        """What a user's chat says of a tool."""
        with self.client(token) as http:
            answer = http.post("/api/v1/schemas/caller/chat", json={"message": tool, "stream": False})
            assert answer.status_code == 200, answer.text
            return str(answer.json()["message"])

    def connection(self, token: str) -> dict[str, Any]:
        with self.client(token) as http:
            [mine] = http.get("/api/v1/connections").json()
            return dict(mine)

    def connect(self, token: str, name: str) -> httpx.Response:
        """Does what a person does in a browser: opens the address, signs in, and is led back."""
        with self.client(token) as http, httpx.Client(timeout=60, cookies=http.cookies) as browser:
            begun = http.post("/api/v1/connections/peer")
            assert begun.status_code == 200, begun.text
            browser.cookies = http.cookies
            page = browser.get(begun.json()["authorize_url"], follow_redirects=True)
            assert "<form" in page.text, page.text
            return browser.post(page.url, data={"name": name}, follow_redirects=True)


@pytest.fixture(params=INTERPRETERS)
def peer(request: pytest.FixtureRequest) -> Iterator[Running]:
    interpreter = INTERPRETERS[request.param]
    if not interpreter.exists():
        pytest.skip("not set up: run tests/peers/setup.sh")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    running = Running([str(interpreter), str(SCRIPT), request.param, str(port), str(SECONDS)], port)
    yield running
    running.kill()


def test_two_users_with_own_credentials_over_a_kill_and_refreshes(peer: Running, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{peer.port}/mcp"
    engine = Engine.begin(tmp_path)
    try:
        ann, bob = engine.configure(url)
        assert engine.connect(ann, "Ann").text.count("Connected") == 2
        assert engine.ask(ann, "whoami") == f"Ann {url}"
        assert "POST /api/v1/connections/peer" in engine.ask(bob, "whoami")
        assert engine.connect(bob, "Bob").status_code == 200
        assert [engine.ask(user, "whoami") for user in (ann, bob, ann)] == [
            f"{name} {url}" for name in ("Ann", "Bob", "Ann")
        ]
        until = [engine.connection(user)["expires_at"] for user in (ann, bob)]

        engine = engine.again()
        assert [engine.ask(user, "whoami") for user in (bob, ann)] == [f"Bob {url}", f"Ann {url}"]
        shown = [engine.connection(user) for user in (ann, bob)]
        assert [one["state"] for one in shown] == ["connected", "connected"]
        assert all(one["expires_at"] > before for one, before in zip(shown, until, strict=True)), "both were refreshed"
        assert [one["scopes"] for one in shown] == [["use"], ["use"]]

        with engine.client(ann) as http:
            assert http.delete("/api/v1/connections/peer").status_code == 204
        assert "POST /api/v1/connections/peer" in engine.ask(ann, "whoami")
        access, refresh = map(int, engine.ask(bob, "live").split())
        assert (access >= 1, refresh) == (True, 1), "only Bob's refresh token is left"
    finally:
        engine.process.kill()
