"""A local session ends: with its whole time, when somebody ends it, and with the key that signed it."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from bytebrew_auth_local import ended_sessions
from nacl.signing import SigningKey

from bytebrew.base.errors import SettingsError
from bytebrew.base.jwt import sign, verify
from bytebrew.engine import Engine
from bytebrew.store import journal
from bytebrew.testing import ADMIN, engine, events_of, served_engine
from bytebrew.web import access
from tests.commands import run
from tests.local import SESSION, key_of, local_session
from tests.stored import ON_POSTGRESQL
from tests.tables import check_refusal, token_with

ALL = "/api/v1/auth/local-sessions"


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    """An engine and a client without a credential."""
    async with served_engine(data=tmp_path) as (running, client):
        del client.headers["authorization"]
        yield running, client


@pytest.fixture
async def with_key_files(tmp_path: Path) -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    """As `served`, with the key pair in files on either store."""
    async with served_engine(data=tmp_path, settings={"BYTEBREW_JWT_KEYS_DIR": str(tmp_path / "keys")}) as served:
        del served[1].headers["authorization"]
        yield served


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def may(client: httpx.AsyncClient, token: str) -> bool:
    """Whether the session is alive."""
    response = await client.get("/api/v1/auth/tokens", headers=bearer(token))
    assert response.status_code in (200, 401), response.text
    return response.status_code == 200


def claims_of(data: Path, token: str) -> dict[str, Any]:
    return verify(token, {"": key_of(data).verify_key})


async def refreshed(client: httpx.AsyncClient, token: str) -> str:
    response = await client.post(f"{SESSION}/refresh", headers=bearer(token))
    assert response.status_code == 200, response.text
    new: str = response.json()["access_token"]
    return new


# Its whole time.


@pytest.mark.parametrize(
    ("settings", "whole"), [({}, 86400), ({"TTL": "2h", "MAX": "1h"}, 7200), ({"MAX": "3h"}, 10800)]
)
async def test_refreshing_gives_no_more_than_the_whole_time(
    tmp_path: Path, settings: dict[str, str], whole: int
) -> None:
    given = {f"BYTEBREW_LOCAL_SESSION_{name}": value for name, value in settings.items()}
    async with served_engine(data=tmp_path, settings=given) as (_, client):
        now = int(time.time())
        for left, expected in ((whole, None), (100, 100), (30, 30)):
            begun = now + left - whole
            session = {"sub": "local-admin", "tenant_id": "", "iat": begun, "exp": now + 60, "auth_time": begun}
            claims = claims_of(tmp_path, await refreshed(client, sign(session, key_of(tmp_path))))
            assert claims["auth_time"] == begun
            assert claims["exp"] <= begun + whole
            assert expected is None or abs(claims["exp"] - now - expected) <= 2
        spent = sign({"sub": "local-admin", "iat": now, "exp": now + 60, "auth_time": now - whole}, key_of(tmp_path))
        refused = await client.post(f"{SESSION}/refresh", headers=bearer(spent))
        assert refused.status_code == 401
        assert "all its time" in check_refusal(refused)["message"]


async def test_a_session_of_the_original_is_refreshed_from_its_own_beginning_on(
    served: tuple[Engine, httpx.AsyncClient],
) -> None:
    running, client = served
    now = int(time.time())
    for age, status in ((3600, 200), (86400, 401)):
        four = {"sub": "local-admin", "tenant_id": "", "iat": now - age, "exp": now + 60}
        answer = await client.post(f"{SESSION}/refresh", headers=bearer(sign(four, key_of(running.data_dir))))
        assert answer.status_code == status
        if status == 200:
            assert claims_of(running.data_dir, answer.json()["access_token"])["auth_time"] == now - age


@pytest.mark.parametrize("text", ["0", "0.5s", "367d"])
async def test_a_whole_time_that_makes_no_sense_stops_the_boot(text: str) -> None:
    with pytest.raises(SettingsError, match="BYTEBREW_LOCAL_SESSION_MAX"):
        async with engine(settings={"BYTEBREW_LOCAL_SESSION_MAX": text}):
            pass


# Somebody ends it.


async def test_a_session_that_is_ended_is_with_all_that_it_was_refreshed_to_and_stays_so(tmp_path: Path) -> None:
    async with served_engine(data=tmp_path) as (running, client):
        first, other = await local_session(running, client), await local_session(running, client)
        second = await refreshed(client, first)
        third = await refreshed(client, second)
        ended = await client.delete(SESSION, headers=bearer(second))
        assert (ended.status_code, ended.content) == (204, b"")
        for token in (first, second, third):
            assert not await may(client, token)
            assert (await client.post(f"{SESSION}/refresh", headers=bearer(token))).status_code == 401
        assert await may(client, other)
    async with served_engine(data=tmp_path) as (_, client):
        assert [await may(client, token) for token in (first, second, third, other)] == [False, False, False, True]


async def test_all_sessions_are_ended_at_once_and_stay_so_and_new_ones_are_not(tmp_path: Path) -> None:
    async with served_engine(data=tmp_path) as (running, client):
        olds = [await local_session(running, client) for _ in range(3)]
        olds.append(sign({"sub": "local-admin", "tenant_id": "", "iat": 1, "exp": time.time() + 60}, key_of(tmp_path)))
        assert (await client.delete(ALL, headers=bearer(ADMIN))).status_code == 204
        new = await local_session(running, client)
        assert [await may(client, token) for token in (*olds, new)] == [False] * 4 + [True]
    async with served_engine(data=tmp_path) as (_, client):
        assert [await may(client, token) for token in (*olds, new)] == [False] * 4 + [True]


async def test_only_an_admin_ends_sessions_and_what_is_none_is_not_ended_alone(
    served: tuple[Engine, httpx.AsyncClient],
) -> None:
    running, client = served
    session = await local_session(running, client)
    chatting = await token_with(running, "chat")
    for path in (SESSION, ALL):
        assert (await client.delete(path)).status_code == 401
        assert (await client.delete(path, headers=bearer(chatting.token))).status_code == 403
    now = int(time.time())
    four = sign({"sub": "local-admin", "tenant_id": "", "iat": now, "exp": now + 60}, key_of(running.data_dir))
    for token in (ADMIN, four):
        refused = await client.delete(SESSION, headers=bearer(token))
        assert refused.status_code == 400
        assert "DELETE /auth/local-sessions" in check_refusal(refused)["message"]
    assert await may(client, session)


async def test_a_stream_ends_with_its_session(
    served: tuple[Engine, httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "STALE_SECONDS", 0.1)
    monkeypatch.setattr(journal, "HEARTBEAT_SECONDS", 0.05)
    running, client = served
    session = await local_session(running, client)
    body = {"message": "Hi", "stream": False}
    chat = await client.post("/api/v1/schemas/demo/chat", json=body, headers=bearer(session))
    url = f"/api/v1/sessions/{chat.json()['session_id']}/events"
    async with client.stream("GET", url, headers=bearer(session)) as following:
        assert (await client.delete(SESSION, headers=bearer(session))).status_code == 204
        *_, last = [event async for event in events_of(following)]
    assert last.event == "error"
    assert "it was ended" in last.data


def test_the_command_line_makes_no_database(tmp_path: Path) -> None:
    settings = {"BYTEBREW_DATA_DIR": str(tmp_path)}
    missing = run("session", "create", settings=settings)
    assert missing.returncode == 1
    assert f"there is no {'key' if ON_POSTGRESQL else 'database'} at" in missing.stderr
    assert not list(tmp_path.iterdir())


async def test_what_the_command_line_opens_is_good_until_it_ends_it(tmp_path: Path) -> None:
    settings = {"BYTEBREW_DATA_DIR": str(tmp_path)}
    async with served_engine(data=tmp_path) as (running, client):
        here = await local_session(running, client)
        printed = run("session", "create", settings=settings)
        assert (printed.returncode, printed.stderr) == (0, "")
        there = printed.stdout.strip()
        assert await may(client, there)
        assert run("session", "revoke", settings=settings).returncode == 0
        assert [await may(client, token) for token in (here, there)] == [False, False]
    later = run("session", "create", settings=settings).stdout.strip()
    async with served_engine(data=tmp_path) as (_, client):
        assert [await may(client, token) for token in (here, there, later)] == [False, False, True]


def test_the_command_line_says_where_there_are_no_sessions(tmp_path: Path) -> None:
    run("token", "create", "x", "--scope", "chat", settings={"BYTEBREW_DATA_DIR": str(tmp_path)})
    settings = {
        "BYTEBREW_DATA_DIR": str(tmp_path),
        "BYTEBREW_AUTH_MODE": "external",
        "BYTEBREW_JWT_PUBLIC_KEY_PATH": "key",
        "BYTEBREW_JWT_AUDIENCE": "us",
    }
    refused = run("session", "create", settings=settings)
    assert refused.returncode == 2
    assert "bytebrew token create" in refused.stderr


async def test_what_was_ended_long_ago_is_forgotten(served: tuple[Engine, httpx.AsyncClient]) -> None:
    running, _ = served
    now = time.time()
    for n in range(10):
        await running.db.write(ended_sessions.end, f"old {n}", now - ended_sessions.KEPT_SECONDS - 1, now)
    await running.db.write(ended_sessions.end, "new", now + 1, now)
    left = await running.db.read(lambda conn: conn.execute("select sid from auth_local_ended").fetchall())
    assert [row[0] for row in left] == ["new"]


# Its key.


async def test_a_key_pair_that_is_removed_takes_its_sessions_with_it_and_another_takes_its_place(
    with_key_files: tuple[Engine, httpx.AsyncClient],
) -> None:
    running, client = with_key_files
    old = await local_session(running, client)
    for path in (running.data_dir / "keys").glob("jwt_*"):
        path.unlink()
    assert not await may(client, old)
    assert await may(client, await local_session(running, client))
    assert (running.data_dir / "keys" / "jwt_ed25519.pub").exists()
    assert not await may(client, old)


async def test_a_key_pair_that_is_replaced_is_followed(with_key_files: tuple[Engine, httpx.AsyncClient]) -> None:
    running, client = with_key_files
    old, other = await local_session(running, client), SigningKey.generate()
    private = running.data_dir / "keys" / "jwt_ed25519.priv"
    kept = private.read_bytes()
    private.write_text((bytes(other) + bytes(other.verify_key)).hex())
    now = int(time.time())
    theirs = sign({"sub": "local-admin", "tenant_id": "", "iat": now, "exp": now + 60}, other)
    assert [await may(client, token) for token in (old, theirs)] == [False, True]
    private.write_bytes(kept)
    assert [await may(client, token) for token in (old, theirs)] == [True, False]


async def test_a_key_pair_that_breaks_shuts_out_everybody_in_words(
    with_key_files: tuple[Engine, httpx.AsyncClient], caplog: pytest.LogCaptureFixture
) -> None:
    running, client = with_key_files
    old = await local_session(running, client)
    private = running.data_dir / "keys" / "jwt_ed25519.priv"
    kept = private.read_bytes()
    private.write_text("half a key")
    assert [await may(client, old) for _ in range(3)] == [False] * 3
    proof = (running.data_dir / "local-session.token").read_text().strip()
    refused = await client.post(SESSION, headers=bearer(proof))
    assert (refused.status_code, check_refusal(refused)["error"]) == (409, "no_key")
    assert [record.levelname for record in caplog.records if "key pair" in record.message] == ["ERROR"]
    private.write_bytes(kept)
    assert await may(client, old)
    assert (await client.post(SESSION, headers=bearer(proof))).status_code == 200
