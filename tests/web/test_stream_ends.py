"""A stream lives as long as the credential that opened it, whatever its kind."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from nacl.signing import SigningKey

from bytebrew import Actor, AuthMode
from bytebrew.base.jwt import sign
from bytebrew.base.sse_reader import ServerSentEvent
from bytebrew.contract.events import MessageDelta
from bytebrew.engine import Engine
from bytebrew.store import journal
from bytebrew.testing import (
    ADMIN,
    ScriptedProvider,
    events_of,
    names,
    plugin,
    providing,
    scripted_schema,
    served_engine,
)
from bytebrew.web import access
from tests.local import key_of

KEY = SigningKey(bytes(range(32)))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks and heartbeats come at once."""
    monkeypatch.setattr(access, "STALE_SECONDS", 0.1)
    monkeypatch.setattr(journal, "HEARTBEAT_SECONDS", 0.05)


@asynccontextmanager
async def issued(folder: Path, **more: str) -> AsyncIterator[tuple[Engine, httpx.AsyncClient, asyncio.Event]]:
    """An engine that trusts KEY, a client without a credential, and what its model waits for after its first word."""
    (folder / "issuer").write_text(bytes(KEY.verify_key).hex())
    settings = {
        "BYTEBREW_AUTH_MODE": "external",
        "BYTEBREW_JWT_PUBLIC_KEY_PATH": str(folder / "issuer"),
        "BYTEBREW_JWT_AUDIENCE": "bytebrew",
        **more,
    }
    goes_on = asyncio.Event()
    model = ScriptedProvider([MessageDelta(content="Hello"), goes_on, MessageDelta(content=" and goodbye")])
    async with served_engine(providing(model), data=folder / "data", settings=settings) as (engine, client):
        await scripted_schema(engine)
        del client.headers["authorization"]
        yield engine, client, goes_on
        goes_on.set()


def bearer(seconds: float) -> dict[str, str]:
    """The header of a user whose JWT has so many seconds left, leeway counted in."""
    claims = {"sub": "ada", "aud": "bytebrew", "exp": time.time() + seconds - 60}
    return {"authorization": f"Bearer {sign(claims, KEY)}"}


async def last_of(response: httpx.Response) -> ServerSentEvent:
    """The stream's last event, which has to come soon."""
    async with asyncio.timeout(10):
        return [event async for event in events_of(response)][-1]


def check_unauthorized(event: ServerSentEvent) -> None:
    """The event says what has become of the credential, in the one shape."""
    told: dict[str, Any] = msgspec.json.decode(event.data)
    assert (event.event, told["code"]) == ("error", "unauthorized")
    assert "expired" in told["message"] or "signature" in told["message"]


async def test_a_silent_stream_ends_with_the_jwt_that_opened_it_and_its_turn_goes_on(tmp_path: Path) -> None:
    async with issued(tmp_path) as (_, client, goes_on):
        body = {"message": "Hi"}
        async with client.stream("POST", "/api/v1/schemas/test/chat", json=body, headers=bearer(2)) as chatting:
            session_id = chatting.headers["x-session-id"]
            check_unauthorized(await last_of(chatting))
        goes_on.set()
        url = f"/api/v1/sessions/{session_id}/events"
        assert (await client.get(url, headers=bearer(0))).status_code == 401
        while True:
            page = (await client.get(f"{url}?follow=false", headers=bearer(90))).json()
            if page["events"][-1]["event"] == "done":
                break
            await asyncio.sleep(0.05)


async def test_one_that_follows_a_session_ends_too_and_another_with_a_later_end_does_not(tmp_path: Path) -> None:
    async with issued(tmp_path) as (_, client, goes_on):
        goes_on.set()
        body = {"message": "Hi", "stream": False}
        first = await client.post("/api/v1/schemas/test/chat", json=body, headers=bearer(90))
        url = f"/api/v1/sessions/{first.json()['session_id']}/events"
        async with (
            client.stream("GET", url, headers=bearer(1.5)) as short,
            client.stream("GET", url, headers=bearer(90)) as long,
        ):
            check_unauthorized(await last_of(short))
            follower = events_of(long)
            assert names([await anext(follower) for _ in range(2)]) == ["message_delta"]


async def test_a_stream_ends_once_its_issuers_key_is_no_longer_trusted(tmp_path: Path) -> None:
    async with issued(tmp_path) as (_, client, _):
        body = {"message": "Hi"}
        async with client.stream("POST", "/api/v1/schemas/test/chat", json=body, headers=bearer(900)) as chatting:
            events = events_of(chatting)
            assert (await anext(events)).event == "message_delta"
            (tmp_path / "issuer").write_text(bytes(SigningKey.generate().verify_key).hex())
            async with asyncio.timeout(10):
                check_unauthorized([event async for event in events][-1])


async def test_a_local_session_takes_its_streams_with_it(tmp_path: Path) -> None:
    waits = asyncio.Event()
    model = ScriptedProvider([MessageDelta(content="Hello"), waits])
    async with served_engine(providing(model), data=tmp_path) as (engine, client):
        await scripted_schema(engine)
        key = key_of(tmp_path)
        now = time.time()
        token = sign({"sub": "local-admin", "tenant_id": "", "iat": int(now), "exp": now + 1.5}, key)
        headers = {"authorization": f"Bearer {token}"}
        async with client.stream(
            "POST", "/api/v1/schemas/test/chat", json={"message": "Hi"}, headers=headers
        ) as chatting:
            check_unauthorized(await last_of(chatting))
        waits.set()


class Rota(AuthMode):
    """Knows one person, with the scopes that are theirs at the time."""

    name = "rota"
    scopes = frozenset({"chat"})

    async def authenticate(self, token: str) -> Actor | None:
        return Actor(subject="user:ada", name="ada", kind="user", scopes=self.scopes)


async def test_a_stream_ends_once_its_caller_may_open_it_no_more() -> None:
    mode, waits = Rota(), asyncio.Event()
    model = ScriptedProvider([MessageDelta(content="Hello"), waits])
    plugins = providing(model), plugin("rota", register_auth_modes=lambda register: register(mode))
    async with served_engine(*plugins, settings={"BYTEBREW_AUTH_MODE": "rota"}) as (engine, client):
        await scripted_schema(engine)
        headers, body = {"authorization": "Bearer ada"}, {"message": "Hi"}
        async with client.stream("POST", "/api/v1/schemas/test/chat", json=body, headers=headers) as chatting:
            events = events_of(chatting)
            assert (await anext(events)).event == "message_delta"
            mode.scopes = frozenset({"tasks"})
            async with asyncio.timeout(10):
                told: dict[str, Any] = msgspec.json.decode([event async for event in events][-1].data)
        assert told["code"] == "forbidden"
        waits.set()


async def test_an_api_token_that_lives_keeps_its_streams(tmp_path: Path) -> None:
    async with issued(tmp_path) as (_, client, goes_on):
        headers = {"authorization": f"Bearer {ADMIN}"}
        async with client.stream(
            "POST", "/api/v1/schemas/test/chat", json={"message": "Hi"}, headers=headers
        ) as chatting:
            await asyncio.sleep(0.5)
            goes_on.set()
            assert (await last_of(chatting)).event == "done"
