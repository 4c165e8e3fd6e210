"""Whoever has a credential learns what it allows, and nobody else learns anything."""

from collections.abc import AsyncIterator

import httpx
import pytest
from bytebrew_auth_external.mode import _time

from bytebrew.engine import Engine
from bytebrew.testing import served_engine
from tests.local import local_session
from tests.tables import check_refusal, token_with

WHOAMI = "/api/v1/auth/whoami"


@pytest.fixture
async def served() -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    """An engine and a client without a credential."""
    async with served_engine() as (engine, client):
        del client.headers["authorization"]
        yield engine, client


async def known(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.get(WHOAMI, headers={"authorization": f"Bearer {token}"})


async def test_a_token_is_told_its_scopes_its_schemas_and_its_end(served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, client = served
    until = "2099-01-01T00:00:00Z"
    made = await token_with(engine, "chat", "tasks", name="ci", schemas=("demo",), expires_at=until)
    told = await known(client, made.token)
    assert told.headers["cache-control"] == "no-store"
    assert told.json() == {
        "subject": f"token:{made.id}",
        "name": "ci",
        "kind": "token",
        "scopes": ["chat", "tasks"],
        "schemas": ["demo"],
        "view": "full",
        "expires_at": "2099-01-01T00:00:00.000000Z",
    }
    endless = (await known(client, (await token_with(engine, "approvals", name="inbox")).token)).json()
    assert (endless["scopes"], endless["schemas"], endless["expires_at"]) == (["approvals"], None, None)


async def test_a_local_session_and_a_visitor_are_told_too(served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, client = served
    admin = (await known(client, await local_session(engine, client))).json()
    assert (admin["subject"], admin["kind"], admin["scopes"]) == ("user:local-admin", "user", ["admin"])
    assert admin["expires_at"]
    page = await token_with(engine, "public", name="page", schemas=("demo",))
    bearer = {"authorization": f"Bearer {page.token}"}
    visitor = (await client.post("/api/v1/auth/visitors", headers=bearer, json={})).json()
    told = (await known(client, visitor["access_token"])).json()
    assert (told["name"], told["scopes"]) == (f"visitor:{visitor['visitor']}", ["chat"])
    assert told["view"] == "public"
    assert told["expires_at"] == visitor["expires_at"]


@pytest.mark.parametrize("token", ["nonsense", "bb_" + "0" * 64])
async def test_nobody_unknown_is_told_anything(served: tuple[Engine, httpx.AsyncClient], token: str) -> None:
    _, client = served
    refused = await known(client, token)
    assert refused.status_code == 401
    assert check_refusal(refused)["error"] == "unauthorized"


async def test_a_time_that_no_calendar_has_is_no_end_of_a_token() -> None:
    assert [_time(1e300), _time(float("inf")), _time(float("nan"))] == ["", "", ""]
    assert _time(0) == "1970-01-01T00:00:00.000000Z"
