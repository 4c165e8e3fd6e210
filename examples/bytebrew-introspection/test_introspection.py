"""The mode in a real engine, against an authorization server on a socket."""

import asyncio
import json
import time
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

import bytebrew_introspection
import pytest

from bytebrew import SettingsError
from bytebrew.testing import ADMIN, client, engine

PLUGIN = ("introspection", bytebrew_introspection)
SESSIONS, AGENTS = "/api/v1/sessions", "/api/v1/agents"
ADA = {"active": True, "sub": "ada", "scope": "chat profile", "aud": ["engine", "other"], "token_type": "bearer"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Server:
    """Answers as `states` says for each token; `body` replaces every answer, and `silent` answers nothing."""

    def __init__(self) -> None:
        self.states: dict[str, dict[str, Any]] = {"ada-token": ADA}
        self.status, self.body, self.silent = 200, b"", False
        self.requests: list[tuple[str, str]] = []

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            headers = dict(line.lower().split(": ", 1) for line in head.strip().splitlines()[1:])
            credential = next(line for line in head.splitlines() if line.lower().startswith("authorization: "))
            form = parse_qs((await reader.readexactly(int(headers["content-length"]))).decode())
            self.requests.append((form["token"][0], b64decode(credential.split()[-1]).decode()))
            if self.silent:
                await reader.read()
            body = self.body or json.dumps(self.states.get(form["token"][0], {"active": False})).encode()
            line = f"HTTP/1.1 {self.status} Answer\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            writer.write(line.encode() + body)
            await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def authorization_server() -> AsyncIterator[tuple[Server, dict[str, str]]]:
    """A server, and the settings of an engine that asks it."""
    double = Server()
    server = await asyncio.start_server(double.connected, "127.0.0.1", 0)
    settings = {
        "BYTEBREW_AUTH_MODE": "introspection",
        "BYTEBREW_INTROSPECTION_URL": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/introspect",
        "BYTEBREW_INTROSPECTION_CLIENT_ID": "the engine",
        "BYTEBREW_INTROSPECTION_CLIENT_SECRET": "secret:&",
        "BYTEBREW_INTROSPECTION_AUDIENCE": "engine",
        "BYTEBREW_INTROSPECTION_TIMEOUT": "0.5s",
    }
    try:
        yield double, settings
    finally:
        server.close()


async def test_an_active_token_has_the_scopes_that_the_engine_knows_and_a_single_request() -> None:
    async with authorization_server() as (server, settings), engine(PLUGIN, settings=settings) as running:
        async with client(running, token="ada-token") as ada:
            answers = await asyncio.gather(*(ada.get(SESSIONS) for _ in range(5)))
            assert [answer.status_code for answer in answers] == [200] * 5
            assert (await ada.get(AGENTS)).status_code == 403
        async with client(running, token=ADMIN) as admin:
            assert (await admin.get(AGENTS)).status_code == 200
    assert server.requests == [("ada-token", "the+engine:secret%3A%26")]


@pytest.mark.parametrize(
    "change",
    [
        {"active": False},
        {"sub": ""},
        {"sub": "a\nb"},
        {"aud": "other"},
        {"exp": time.time() - 1},
        {"nbf": time.time() + 60},
        {"token_type": "DPoP"},
        {"cnf": {"jkt": "x"}},
    ],
    ids=str,
)
async def test_a_token_that_is_not_fully_good_is_refused(change: dict[str, Any]) -> None:
    async with authorization_server() as (server, settings), engine(PLUGIN, settings=settings) as running:
        server.states["ada-token"] = {**ADA, **change}
        async with client(running, token="ada-token") as ada:
            assert [(await ada.get(SESSIONS)).status_code for _ in range(2)] == [401, 401]
    assert len(server.requests) == 1


async def test_an_answer_counts_until_the_token_expires_and_no_longer_than_the_setting() -> None:
    async with authorization_server() as (server, settings), engine(PLUGIN, settings=settings) as running:
        mode = running.state[bytebrew_introspection.MODE]
        server.states["ada-token"] = {**ADA, "exp": time.time() + 10}
        async with client(running, token="ada-token") as ada:
            assert (await ada.get(SESSIONS)).status_code == 200
            [(key, kept)] = mode._kept.items()
            assert 8 < kept.until - time.monotonic() <= 10
            assert kept.actor is not None
            assert kept.actor.expires_at.endswith("Z")
            mode._kept[key] = bytebrew_introspection.Kept(kept.actor, time.monotonic())
            server.states["ada-token"] = {"active": False}
            assert (await ada.get(SESSIONS)).status_code == 401


async def test_a_server_that_is_away_or_wrong_lets_nobody_in() -> None:
    async with authorization_server() as (server, settings), engine(PLUGIN, settings=settings) as running:
        async with client(running, token="ada-token") as ada:
            for status, body in (
                (500, b"{}"),
                (401, b"{}"),
                (200, b"<html>"),
                (200, b'{"active": "yes"}'),
                (200, b"[]"),
            ):
                server.status, server.body = status, body
                refused = await ada.get(SESSIONS)
                assert (refused.status_code, refused.json()["error"]) == (503, "auth_unavailable"), body
            server.silent = True
            assert (await ada.get(SESSIONS)).status_code == 503
            server.status, server.body, server.silent = 200, b"", False
            assert (await ada.get(SESSIONS)).status_code == 200
        async with client(running, token="not a token") as nobody:
            assert (await nobody.get(SESSIONS)).status_code == 401
    assert {token for token, _ in server.requests} == {"ada-token"}
    settings["BYTEBREW_INTROSPECTION_URL"] = "http://127.0.0.1:9/introspect"
    async with engine(PLUGIN, settings=settings) as running, client(running, token="ada-token") as ada:
        assert (await ada.get(SESSIONS)).status_code == 503


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("URL", ""),
        ("URL", "http://login.example/introspect"),
        ("URL", "ftp://127.0.0.1/"),
        ("CLIENT_ID", ""),
        ("CLIENT_SECRET", ""),
        ("AUDIENCE", ""),
    ],
)
async def test_settings_that_could_not_be_safe_stop_the_boot(name: str, value: str) -> None:
    async with authorization_server() as (_, settings):
        with pytest.raises(SettingsError, match=f"BYTEBREW_INTROSPECTION_{name}"):
            async with engine(PLUGIN, settings={**settings, f"BYTEBREW_INTROSPECTION_{name}": value}):
                pass
