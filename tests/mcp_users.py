"""An engine in a process of its own, whose model calls the tool that a message names, with users of an MCP server."""

from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from bytebrew.testing import ADMIN
from tests.processes import Process

CALLER = '''
"""A model that calls the tool that the message names, and repeats what comes of it; it waits where a file says so."""
import asyncio
from pathlib import Path

from bytebrew import MessageDelta, Provider, Stop, ToolCall, Usage, hookimpl

class Caller(Provider):
    type = "caller"

    async def stream(self, request, http):
        while (hold := Path(__file__).with_name("hold")).exists():
            hold.with_name("held").touch()
            await asyncio.sleep(0.01)
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

    def ask_in_vain(self, token: str, tool: str) -> None:
        """As `ask`, of an engine that is killed meanwhile."""
        with suppress(httpx.TransportError):
            self.ask(token, tool)

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
