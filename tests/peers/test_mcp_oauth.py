"""MCP servers with OAuth by the official SDK and FastMCP: two users, a kill of the engine, and refreshes."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mcp_users import Engine
from tests.peers.test_mcp_peers import CACHE, SDK, Running

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]

SCRIPT = Path(__file__).with_name("mcp_oauth_server.py")
INTERPRETERS = {"sdk": SDK, "fastmcp": CACHE / "fastmcp/bin/python"}
SECONDS = 9
"""How long an access token is valid: less than the 10 seconds before its end in which each call refreshes it."""


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
