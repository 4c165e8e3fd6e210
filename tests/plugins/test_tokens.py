"""API tokens: shown once, stored as a hash, good for their scopes until their end."""

import asyncio
import hashlib
import re
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from bytebrew import testing
from bytebrew.engine import Engine
from bytebrew.testing import ADMIN, engine, served_engine
from tests.commands import run
from tests.stored import everything
from tests.tables import BINDABLE, SCOPES, all_but, check_refusal, token_with

TOKENS = "/api/v1/auth/tokens"
LATER = "2099-01-01T00:00:00Z"


@pytest.fixture
async def served() -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    """An engine, and a client with the admin token."""
    async with served_engine() as (running, client):
        yield running, client


@pytest.fixture
def client(served: tuple[Engine, httpx.AsyncClient]) -> httpx.AsyncClient:
    """The admin's client alone."""
    return served[1]


async def create(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    """A new token; a chat token named ci unless the body says otherwise."""
    response = await client.post(TOKENS, json={"name": "ci", "scopes": ["chat"], **body})
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


async def refused(client: httpx.AsyncClient, status: int, **body: Any) -> dict[str, Any]:
    response = await client.post(TOKENS, json={"name": "ci", "scopes": ["chat"], **body})
    assert response.status_code == status, response.text
    return check_refusal(response)


async def listed(client: httpx.AsyncClient, name: str = "ci") -> dict[str, Any]:
    [found] = [token for token in (await client.get(TOKENS)).json() if token["name"] == name]
    return dict(found)


async def status(client: httpx.AsyncClient, token: str, path: str = "/api/v1/sessions") -> int:
    return (await client.get(path, headers={"authorization": f"Bearer {token}"})).status_code


async def test_a_token_is_shown_once(client: httpx.AsyncClient) -> None:
    created = await create(client, expires_at=LATER)
    assert re.fullmatch(r"bb_[0-9a-f]{64}", created["token"])
    assert uuid.UUID(created["id"])
    assert created == {
        "id": created["id"],
        "name": "ci",
        "scopes": ["chat"],
        "scopes_mask": 1,
        "schemas": None,
        "view": "full",
        "created_at": created["created_at"],
        "expires_at": "2099-01-01T00:00:00.000000Z",
        "last_used_at": None,
        "token": created["token"],
    }
    text = (await client.get(TOKENS)).text
    assert created["token"] not in text
    assert created["token"][3:] not in text
    assert await listed(client) == {name: value for name, value in created.items() if name != "token"}


async def test_two_tokens_differ(client: httpx.AsyncClient) -> None:
    assert len({(await create(client, name=f"n{n}"))["token"] for n in range(20)}) == 20


def content(folder: Path) -> bytes:
    """Every byte of every file, and of the database."""
    return everything(folder) + b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_only_a_hash_is_in_the_files(tmp_path: Path) -> None:
    async with served_engine(data=tmp_path) as (_, client):
        created = await create(client)
        repeatable = await client.post(
            TOKENS, json={"name": "again", "scopes": ["chat"]}, headers={"idempotency-key": "once"}
        )
        assert await status(client, created["token"]) == 200
        secrets = [created["token"], repeatable.json()["token"], ADMIN]
        written = content(tmp_path)
    written += content(tmp_path)
    for secret in secrets:
        assert hashlib.sha256(secret.encode()).hexdigest().encode() in written
        for form in (secret.encode(), secret[3:].encode(), bytes.fromhex(secret[3:])):
            assert form not in written


async def test_the_list_is_newest_first_and_hides_the_revoked(client: httpx.AsyncClient) -> None:
    for name in ("one", "two", "three"):
        await create(client, name=name)
    await client.delete(f"{TOKENS}/two")
    assert [token["name"] for token in (await client.get(TOKENS)).json()] == ["three", "one", "bootstrap-admin"]


async def test_a_name_is_taken_while_its_token_lives(client: httpx.AsyncClient) -> None:
    first = await create(client)
    assert (await refused(client, 409))["error"] == "conflict"
    assert (await client.delete(f"{TOKENS}/{first['id']}")).status_code == 204
    second = await create(client)
    assert [await status(client, token["token"]) for token in (first, second)] == [401, 200]


async def test_two_who_want_a_name_at_once_do_not_both_get_it(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(client.post(TOKENS, json={"name": "ci", "scopes": ["chat"]}) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7


@pytest.mark.parametrize("by", ["id", "name"])
async def test_a_revoked_token_is_refused_at_once(client: httpx.AsyncClient, by: str) -> None:
    created = await create(client)
    assert await status(client, created["token"]) == 200
    assert (await client.delete(f"{TOKENS}/{created[by]}")).status_code == 204
    assert await status(client, created["token"]) == 401
    gone = await client.delete(f"{TOKENS}/{created[by]}")
    assert gone.status_code == 404
    check_refusal(gone)


async def test_a_name_with_anything_in_it_can_be_revoked(client: httpx.AsyncClient) -> None:
    created = await create(client, name="Ada's laptop \u2028 50 % off?#")
    assert (await client.delete(f"{TOKENS}/{created['id']}")).status_code == 204


async def test_a_token_ends_at_its_time(client: httpx.AsyncClient) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    created = await create(client, expires_at=soon.isoformat())
    assert await status(client, created["token"]) == 200
    while await status(client, created["token"]) == 200:
        assert datetime.now(UTC) < soon + timedelta(seconds=1)
        await asyncio.sleep(0.02)
    assert datetime.now(UTC) >= soon
    assert await listed(client)


@pytest.mark.parametrize(
    ("text", "kept", "good"),
    [
        ("2099-06-01T02:00:00+02:00", "2099-06-01T00:00:00.000000Z", True),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000000Z", True),
        ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00.000000Z", False),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z", False),
    ],
)
async def test_an_expiry_is_kept_in_utc(client: httpx.AsyncClient, text: str, kept: str, good: bool) -> None:
    created = await create(client, expires_at=text)
    assert created["expires_at"] == kept
    assert await status(client, created["token"]) == (200 if good else 401)


@pytest.mark.parametrize(
    "text",
    ["", "tomorrow", "2099", "2099-01-01", "2099-01-01T00:00:00", "2099-02-30T00:00:00Z", "9999-12-31T23:59:59-14:00"],
)
async def test_an_expiry_that_is_no_moment_is_refused(client: httpx.AsyncClient, text: str) -> None:
    assert [detail["path"] for detail in (await refused(client, 400, expires_at=text))["details"]] == ["$.expires_at"]


async def test_last_used_at_moves_with_use(served: tuple[Engine, httpx.AsyncClient]) -> None:
    running, client = served
    token = (await create(client))["token"]
    assert (await listed(client))["last_used_at"] is None
    await status(client, token)
    first = (await listed(client))["last_used_at"]
    assert first.startswith(datetime.now(UTC).strftime("%Y-%m-"))
    await running.db.write(lambda conn: conn.execute("update tokens set last_used_at = '2020-01-01T00:00:00.000000Z'"))
    await status(client, token)
    assert (await listed(client))["last_used_at"] >= first
    await running.db.write(lambda conn: conn.execute("update tokens set last_used_at = '2999-01-01T00:00:00.000000Z'"))
    await status(client, token)
    assert (await listed(client))["last_used_at"] < "2999", "the clock was ahead"


async def test_a_refused_token_is_not_used(client: httpx.AsyncClient) -> None:
    token = (await create(client, expires_at="2020-01-01T00:00:00Z"))["token"]
    await status(client, token)
    assert (await listed(client))["last_used_at"] is None


@pytest.mark.parametrize(
    ("body", "scopes"),
    [
        ({"scopes": ["tasks", "chat", "chat"]}, {"chat", "tasks"}),
        ({"scopes": [], "scopes_mask": 3}, {"chat", "tasks"}),
        ({"scopes": ["config"], "scopes_mask": 4}, {"config", "agents:read"}),
        ({"scopes": ["agents"]}, {"agents:read"}),
        ({"scopes": ["models", "mcp", "schemas"]}, {"models:read", "mcp:read", "schemas:read"}),
        ({"scopes": ["api"]}, {"chat", "tasks", "agents:read", "models:read", "mcp:read", "schemas:read"}),
        ({"scopes": ["agents:write"]}, {"agents:write"}),
        ({"scopes": ["admin"]}, {"admin"}),
        ({"scopes": [], "scopes_mask": sum(SCOPES.values()) - SCOPES["public"]}, {*SCOPES} - {"public"}),
        ({"scopes": ["public"]}, {"public"}),
    ],
)
async def test_scopes_add_up(client: httpx.AsyncClient, body: dict[str, Any], scopes: set[str]) -> None:
    created = await create(client, **body)
    assert set(created["scopes"]) == scopes
    assert created["scopes_mask"] == sum(SCOPES[scope] for scope in scopes)


@pytest.mark.parametrize(
    "body",
    [
        {"scopes": ["root"]},
        {"scopes": ["chat", "Chat"]},
        {"scopes": [""]},
        {"scopes": ["chat "]},
        {"scopes": ["*"]},
        {"scopes": []},
        {"scopes": [], "scopes_mask": 0},
        {"scopes": [], "scopes_mask": 1024},
        {"scopes": ["chat"], "scopes_mask": 2**30},
    ],
)
async def test_scopes_that_are_none_are_refused(shared_client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    assert [detail["path"] for detail in (await refused(shared_client, 400, **body))["details"]] == ["$.scopes"]
    assert len((await shared_client.get(TOKENS)).json()) == 1


async def test_an_unknown_scope_is_named(client: httpx.AsyncClient) -> None:
    assert "'root'" in (await refused(client, 400, scopes=["root"]))["message"]


@pytest.mark.parametrize(
    "body",
    [{"name": ""}, {"name": "a" * 256}, {"name": None}, {"scopes_mask": -1}, {"scopes_mask": 2**31}, {"token": ADMIN}],
)
async def test_a_body_that_does_not_fit_is_refused(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    assert (await refused(client, 400, **body))["details"][0]["path"].startswith("$.")


async def test_a_token_may_be_bound_to_schemas(client: httpx.AsyncClient) -> None:
    assert (await create(client, schemas=["shop", "support"]))["schemas"] == ["shop", "support"]
    assert (await listed(client))["schemas"] == ["shop", "support"]
    assert (await create(client, name="none", schemas=[]))["schemas"] == []


@pytest.mark.parametrize("schemas", [["shop"], []])
@pytest.mark.parametrize("scope", ["admin", "config", "agents:read", "schemas:read", "models:write", "api"])
async def test_a_token_cannot_be_bound_whose_scope_is_about_every_schema(
    client: httpx.AsyncClient, schemas: list[str], scope: str
) -> None:
    """An admin's could even make itself one that is not."""
    body = await refused(client, 400, scopes=[scope, "chat"], schemas=schemas)
    assert [detail["path"] for detail in body["details"]] == ["$.schemas"]
    assert (await create(client, scopes=["chat", "tasks", "approvals"], schemas=schemas))["schemas"] == schemas


@pytest.mark.parametrize(
    ("body", "view"),
    [
        ({"scopes": ["chat"]}, "full"),
        ({"scopes": ["chat", "tasks"], "view": "public"}, "public"),
        ({"scopes": ["public"]}, "public"),
        ({"scopes": ["public"], "view": "full"}, "full"),
    ],
)
async def test_a_token_has_the_full_view_unless_it_says_otherwise_or_is_of_a_public_page(
    client: httpx.AsyncClient, body: dict[str, Any], view: str
) -> None:
    assert (await create(client, **body))["view"] == view
    assert (await listed(client))["view"] == view


@pytest.mark.parametrize("scope", ["admin", "agents:read", "approvals", "schemas:read", "config"])
async def test_a_public_view_has_no_scope_that_shows_what_it_hides(client: httpx.AsyncClient, scope: str) -> None:
    answer = await refused(client, 400, scopes=["chat", scope], view="public")
    assert answer["details"][0]["path"] == "$.view"
    assert answer["message"].startswith(f"{scope} shows")


async def test_an_admin_token_manages_tokens_and_no_other_does(client: httpx.AsyncClient) -> None:
    admin = (await create(client, name="second", scopes=["admin"]))["token"]
    others = (await create(client, name="others", scopes=[*{*SCOPES} - {"admin", "public"}]))["token"]
    for token, expected in ((admin, 201), (others, 403)):
        response = await client.post(
            TOKENS,
            json={"name": f"by {expected}", "scopes": ["chat"]},
            headers={"authorization": f"Bearer {token}"},
        )
        assert response.status_code == expected
        assert await status(client, token, TOKENS) == (200 if expected == 201 else 403)
    assert await status(client, others, "/api/v1/agents") == 200


# The first token of all.


async def test_the_bootstrap_token_is_an_admins_once(tmp_path: Path) -> None:
    other = "bb_" + "b" * 64
    async with served_engine(data=tmp_path) as (_, client):
        assert await status(client, ADMIN, TOKENS) == 200
        assert (await listed(client, "bootstrap-admin"))["scopes"] == ["admin"]
    async with served_engine(data=tmp_path, settings={"BYTEBREW_BOOTSTRAP_ADMIN_TOKEN": other}) as (_, client):
        assert await status(client, ADMIN, TOKENS) == 200
        assert await status(client, other, TOKENS) == 401
        assert len((await client.get(TOKENS)).json()) == 1


async def test_bootstrap_admin_token_is_an_admins() -> None:
    token = "bb_" + "7" * 64
    async with served_engine(settings={"BYTEBREW_BOOTSTRAP_ADMIN_TOKEN": token}) as (_, client):
        for given, status in ((token, 200), (ADMIN, 401)):
            answer = await client.get("/api/v1/auth/tokens", headers={"authorization": f"Bearer {given}"})
            assert answer.status_code == status


async def test_a_revoked_bootstrap_token_stays_revoked(tmp_path: Path) -> None:
    async with served_engine(data=tmp_path) as (_, client):
        assert (await client.delete(f"{TOKENS}/bootstrap-admin")).status_code == 204
    async with served_engine(data=tmp_path) as (_, client):
        assert await status(client, ADMIN, TOKENS) == 401


async def test_the_engine_serves_without_api_tokens(tmp_path: Path) -> None:
    async with served_engine(data=tmp_path) as (running, client):
        known = await testing.token(running, "agents:read")
        assert await status(client, known, "/api/v1/agents") == 200
    settings = {"BYTEBREW_DISABLED_PLUGINS": "tokens", "BYTEBREW_LOCAL_SESSION_SECRET": "s" * 32}
    async with served_engine(data=tmp_path, settings=settings) as (_, client):
        headers = {"authorization": f"Bearer {'s' * 32}"}
        session = (await client.post("/api/v1/auth/local-session", headers=headers)).json()["access_token"]
        assert await status(client, session, "/api/v1/agents") == 200
        assert await status(client, session, TOKENS) == 404
        assert await status(client, known, "/api/v1/agents") == 401
    async with served_engine(data=tmp_path) as (_, client):
        assert await status(client, known, "/api/v1/agents") == 200


async def test_without_a_bootstrap_token_there_is_none(tmp_path: Path) -> None:
    async with engine(data=tmp_path, settings={"BYTEBREW_BOOTSTRAP_ADMIN_TOKEN": ""}) as running:
        [count] = await running.db.read(lambda conn: conn.execute("select count(*) from tokens").fetchone())
    assert count == 0


@pytest.mark.parametrize(
    "token", ["secret-admin", "bb_", "bb_" + "A" * 64, "bb_" + "a" * 63, "bb_" + "a" * 65, ADMIN[3:], f"{ADMIN}\n"]
)
def test_a_bootstrap_token_of_another_form_stops_the_boot(tmp_path: Path, token: str) -> None:
    settings = {"BYTEBREW_BOOTSTRAP_ADMIN_TOKEN": token}
    stopped = run("serve", "--port", "0", "--data", str(tmp_path / "data"), settings=settings)
    assert stopped.returncode == 2
    words = "BYTEBREW_BOOTSTRAP_ADMIN_TOKEN: give an admin token made at boot: bb_ and 64 hex digits"
    assert words in stopped.stderr
    assert len(token) == 3 or token.strip() not in stopped.stderr
    assert not (tmp_path / "data").exists()


def test_the_command_line_makes_lists_and_ends_tokens(tmp_path: Path) -> None:
    settings = {"BYTEBREW_DATA_DIR": str(tmp_path)}
    made = run("token", "create", "ci", "--scope", "chat", "--scope", "agents", settings=settings)
    assert re.fullmatch(r"bb_[0-9a-f]{64}\n", made.stdout)
    text = run("token", "list", settings=settings).stdout
    assert "ci" in text
    assert "agents:read,chat" in text
    assert made.stdout.strip() not in text
    assert run("token", "revoke", "ci", settings=settings).returncode == 0
    assert run("token", "list", settings=settings).stdout == ""
    for arguments in (("revoke", "ci"), ("create", "x", "--scope", "root"), ("create", "", "--scope", "chat")):
        failed = run("token", *arguments, settings=settings)
        assert failed.returncode in (1, 2)
        assert failed.stderr
        assert "Traceback" not in failed.stderr


async def test_every_scope_says_what_it_allows() -> None:
    async with served_engine() as (running, client):
        listed = (await client.get("/api/v1/auth/scopes")).json()
        assert {one["name"]: one["bit"] for one in listed} == SCOPES
        assert {one["name"] for one in listed if one["bindable"]} == BINDABLE
        assert not [one["name"] for one in listed if len(one["description"].split()) < 3]
        other = await token_with(running, *all_but())
        refused = await client.get("/api/v1/auth/scopes", headers={"Authorization": f"Bearer {other.token}"})
        assert refused.status_code == 403
