"""Auth modes of plugins: those of bearer tokens, and those that see the whole request; nobody gets in by default."""

from pathlib import Path
from typing import Any

import pytest

from bytebrew import Actor, AuthMode, Request
from bytebrew.base.errors import BootError
from bytebrew.engine import Engine
from bytebrew.testing import client, engine, plugin

ANNA = Actor(subject="user:anna", name="anna", kind="user", scopes=frozenset({"chat"}))


class Tokens(AuthMode):
    """As modes were before they could look at a request."""

    name = "tokens"

    async def authenticate(self, token: str) -> Actor | None:
        return ANNA if token == "anna" else None


class Signs(AuthMode):
    """Looks at all that it is shown."""

    name = "signs"

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    async def identify(self, request: Request[Any]) -> Actor | None:
        self.seen.append((request.method, request.url_path, request.path, request.query, request.client, request.body))
        if request.headers.get("x-broken"):
            raise ZeroDivisionError
        return ANNA if request.headers.get("x-sign") == "a rose" else None


class Neither(AuthMode):
    """Knows nobody in no way."""

    name = "neither"


class Hasty(AuthMode):
    """Answers where it is awaited."""

    name = "hasty"

    def identify(self, request: Request[Any]) -> Any:
        return ANNA


def registering(mode: AuthMode) -> tuple[str, object]:
    return plugin("modes", register_auth_modes=lambda register: register(mode))


async def test_a_mode_of_bearer_tokens_works_as_it_did() -> None:
    settings = {"BYTEBREW_AUTH_MODE": "tokens"}
    async with engine(registering(Tokens()), settings=settings) as running:
        for token, status in (("anna", 200), ("berta", 401), ("", 401), ("bb_anna", 401)):
            async with client(running, token) as http:
                assert (await http.get("/api/v1/sessions")).status_code == status
        async with client(running, "") as http:
            assert (await http.get("/api/v1/sessions", headers={"Authorization": "Basic YW5uYTo="})).status_code == 401


async def test_a_mode_sees_the_whole_request_and_lets_in_nobody_that_it_does_not_know() -> None:
    mode = Signs()
    async with engine(registering(mode), settings={"BYTEBREW_AUTH_MODE": "signs"}) as running:
        async with client(running, "") as http:
            refused = await http.delete("/api/v1/sessions/s%201?why=so")
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == 'Bearer realm="bytebrew"'
            assert mode.seen == [("DELETE", "/api/v1/sessions/s 1", {"id": "s 1"}, {"why": "so"}, "127.0.0.1", None)]
            assert (await http.get("/api/v1/sessions", headers={"X-Sign": "a rose"})).status_code == 200
            assert (await http.get("/api/v1/agents", headers={"X-Sign": "a rose"})).status_code == 403
            broken = await http.get("/api/v1/sessions", headers={"X-Sign": "a rose", "X-Broken": "yes"})
            assert broken.status_code == 500
            seen = len(mode.seen)
            assert (await http.get("/api/v1/health")).status_code == 200
        async with client(running) as admin:
            assert (await admin.get("/api/v1/agents")).status_code == 200
        assert len(mode.seen) == seen  # public routes and API tokens are none of its business


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (Neither(), "Neither has no 'authenticate' and no 'identify'"),
        (Hasty(), "Hasty.identify must be an async function"),
    ],
)
def test_a_mode_that_could_let_nobody_in_stops_the_boot(mode: AuthMode, words: str, tmp_path: Path) -> None:
    with pytest.raises(BootError, match=words):
        Engine({"BYTEBREW_DATA_DIR": str(tmp_path)}, [registering(mode)])
