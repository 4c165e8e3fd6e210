"""Health: anyone may ask for it, and only an operator may have the database written to for it."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from bytebrew.engine import Engine
from bytebrew.store.configuration import changed_options
from bytebrew.testing import ADMIN, served_engine
from tests.store.sqlite.test_disk import damage
from tests.tables import all_but, check_refusal, token_with

HEALTH = "/api/v1/health"


@pytest.fixture
async def served() -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    """An engine and a client without a credential."""
    async with served_engine() as (engine, client):
        del client.headers["authorization"]
        yield engine, client


def bearing(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def test_anyone_may_ask_whether_the_engine_serves(served: tuple[Engine, httpx.AsyncClient]) -> None:
    _, client = served
    for query in ("", "?deep=false", "?deep="):
        for headers in ({}, bearing("nonsense"), bearing("bb_" + "0" * 64)):
            answer = await client.get(f"{HEALTH}{query}", headers=headers)
            assert answer.status_code == 200
            assert answer.json().keys() == {"status", "version", "agents_count", "uptime", "started_at"}


@pytest.mark.parametrize("deep", ["true", "1", "yes", "TRUE"])
async def test_nobody_unknown_has_the_database_tried(served: tuple[Engine, httpx.AsyncClient], deep: str) -> None:
    _, client = served
    for headers in ({}, bearing("nonsense"), bearing("bb_" + "0" * 64)):
        refused = await client.get(f"{HEALTH}?deep={deep}", headers=headers)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Bearer")
        assert check_refusal(refused)["error"] == "unauthorized"
        assert "disk" not in refused.text


async def test_only_who_may_configure_the_engine_has_it_tried(served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, client = served
    others = await token_with(engine, *all_but("config", "admin"), name="others")
    refused = await client.get(f"{HEALTH}?deep=true", headers=bearing(others.token))
    assert refused.status_code == 403
    assert check_refusal(refused)["message"] == "Token does not have 'config' scope"
    probe = await token_with(engine, "config", name="probe")
    for token in (probe.token, ADMIN):
        told = (await client.get(f"{HEALTH}?deep=true", headers=bearing(token))).json()
        assert (told["status"], told["database"]) == ("ok", "ok")
        assert told["disk_free_bytes"] > 0
    assert await engine.db.read(changed_options.values) == {}


@pytest.mark.sqlite
async def test_where_tokens_cannot_be_read_it_says_what_is_wrong_with_the_database(tmp_path: Path) -> None:
    async with served_engine(data=tmp_path):
        pass
    damage(tmp_path / "bytebrew.db", "tokens")
    async with served_engine(data=tmp_path, settings={"BYTEBREW_BOOTSTRAP_ADMIN_TOKEN": ""}) as (_, client):
        answer = await client.get(f"{HEALTH}?deep=true")
        assert (answer.status_code, answer.json()["status"]) == (503, "degraded")
        assert "bytebrew doctor" in answer.json()["database"]
        assert "disk_free_bytes" not in answer.json()
