"""The external auth mode: another issuer's JWTs, its keys, and what its users may do."""

import logging
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from bytebrew_auth_external import key_file
from nacl.signing import SigningKey, VerifyKey

from bytebrew.base.errors import SettingsError
from bytebrew.base.jwt import sign
from bytebrew.engine import Engine
from bytebrew.testing import ADMIN, engine, served_engine
from tests.commands import run
from tests.forged import forgeries, fresh, jwk, pem
from tests.tables import all_but, check_refusal, token_with

KEY = SigningKey(bytes(range(32)))
OTHER = SigningKey(bytes(range(32, 64)))
MODE = "BYTEBREW_AUTH_MODE"
PATH = "BYTEBREW_JWT_PUBLIC_KEY_PATH"
AUDIENCE = "BYTEBREW_JWT_AUDIENCE"


def hex_of(key: VerifyKey) -> str:
    return bytes(key).hex()


@asynccontextmanager
async def issued_by(
    path: Path, text: str = hex_of(KEY.verify_key), **more: str
) -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    """An engine that trusts the keys in a file of this text, and a client without a credential."""
    path.write_text(text)
    settings = {
        MODE: "external",
        PATH: str(path),
        AUDIENCE: "*",
        **{f"BYTEBREW_{name.upper()}": value for name, value in more.items()},
    }
    async with served_engine(settings=settings) as (running, client):
        del client.headers["authorization"]
        yield running, client


@pytest.fixture(scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an engine with the one key."""
    async with issued_by(tmp_path_factory.mktemp("external") / "issuer") as (_, client):
        yield client


async def get(client: httpx.AsyncClient, path: str, token: str) -> httpx.Response:
    return await client.get(f"/api/v1/{path}", headers={"authorization": f"Bearer {token}"})


async def status(client: httpx.AsyncClient, token: str, path: str = "sessions") -> int:
    return (await get(client, path, token)).status_code


def user(key: SigningKey = KEY, kid: str | None = None, **claims: Any) -> str:
    return sign(fresh({"sub": "ada", **claims}), key, kid)


async def test_the_engine_issues_nothing(client: httpx.AsyncClient) -> None:
    for path in ("local-session", "local-session/refresh"):
        for token in (user(), user(scope="admin"), ADMIN):
            response = await client.post(f"/api/v1/auth/{path}", headers={"authorization": f"Bearer {token}"})
            assert response.status_code == 404
            check_refusal(response)


async def test_a_user_may_chat_and_is_no_admin(client: httpx.AsyncClient) -> None:
    assert await status(client, user()) == 200
    for path in ("agents", "models", "schemas", "auth/tokens"):
        refused = await get(client, path, user())
        assert refused.status_code == 403
        assert check_refusal(refused)["error"] == "forbidden"


async def test_a_claim_other_than_the_scopes_makes_nobody_an_admin(client: httpx.AsyncClient) -> None:
    for name in ("role", "roles", "admin", "is_admin", "groups", "Permissions", "scps", "Scope"):
        for value in ("admin", ["admin"], True):
            assert await status(client, sign(fresh({"sub": "ada", name: value}), KEY), "auth/tokens") == 403
    assert await status(client, sign(fresh({"sub": "local-admin", "tenant_id": ""}), KEY), "auth/tokens") == 403


@pytest.mark.parametrize(
    ("claims", "statuses"),
    [
        ({"scope": "admin"}, (200, 200, 200)),
        ({"scopes": ["admin"]}, (200, 200, 200)),
        ({"scope": ["admin"]}, (200, 200, 200)),
        ({"scope": "chat agents:read"}, (200, 200, 403)),
        ({"scopes": ["chat", "agents:read"]}, (200, 200, 403)),
        ({"scope": "openid profile agents:read"}, (403, 200, 403)),
        ({"scope": "chat", "scopes": ["admin"]}, (200, 403, 403)),
        ({"scope": ""}, (403, 403, 403)),
        ({"scopes": []}, (403, 403, 403)),
        ({"scope": "Admin ADMIN administrator admin:all *"}, (403, 403, 403)),
        ({"scope": "admin,chat"}, (403, 403, 403)),
        ({"scopes": ["openid", 7, None, ["admin"], {"admin": 1}]}, (403, 403, 403)),
        ({"scope": None}, (200, 403, 403)),
        ({"scope": None, "scopes": []}, (403, 403, 403)),
        ({"scope": None, "scopes": ["agents:read"]}, (403, 200, 403)),
        ({"scp": "chat agents:read"}, (200, 200, 403)),
        ({"scp": ["admin"]}, (200, 200, 200)),
        ({"permissions": ["chat"]}, (200, 403, 403)),
        ({"permissions": "chat admin"}, (200, 200, 200)),
        ({"permissions": []}, (403, 403, 403)),
        ({"scp": "User.Read"}, (403, 403, 403)),
        ({"scope": "openid profile", "permissions": ["agents:read", "crm:read"]}, (403, 200, 403)),
        ({"scope": "chat", "permissions": ["admin"]}, (200, 403, 403)),
        ({"scp": "chat", "permissions": ["admin"]}, (200, 403, 403)),
        ({"scope": "openid", "permissions": {"admin": True}}, (401, 401, 401)),
        ({"permissions": 16}, (401, 401, 401)),
        ({"scope": {"admin": True}}, (401, 401, 401)),
        ({"scope": 16}, (401, 401, 401)),
        ({"scope": True}, (401, 401, 401)),
    ],
)
async def test_scopes_come_from_the_claim(
    client: httpx.AsyncClient, claims: dict[str, Any], statuses: tuple[int, int, int]
) -> None:
    token = user(**claims)
    assert (
        await status(client, token, "sessions"),
        await status(client, token, "agents"),
        await status(client, token, "auth/tokens"),
    ) == statuses


async def test_the_default_scopes_are_a_setting(tmp_path: Path) -> None:
    async with issued_by(tmp_path / "issuer", external_default_scopes="agents:read, models:read") as (_, client):
        assert [await status(client, user(), path) for path in ("sessions", "agents", "models")] == [403, 200, 200]
        assert await status(client, user(scope="chat"), "agents") == 403


@pytest.mark.parametrize("sub", [None, "", 7, True, ["ada"], {"id": 1}, "a" * 256])
async def test_a_token_needs_a_subject(client: httpx.AsyncClient, sub: Any) -> None:
    refused = await get(client, "sessions", user(sub=sub))
    assert refused.status_code == 401
    assert "sub" in check_refusal(refused)["message"]
    assert await status(client, sign(fresh({"scope": "admin"}), KEY), "auth/tokens") == 401


@pytest.mark.parametrize("sub", ["a", "a" * 255, "auth0|5f7c", "Zoë \u2028\x01", "admin", "local-admin", "anyone"])
async def test_a_subject_may_be_any_text(client: httpx.AsyncClient, sub: str) -> None:
    assert await status(client, user(sub=sub)) == 200


async def test_a_forgery_is_refused(client: httpx.AsyncClient) -> None:
    for fault, token in forgeries({"sub": "ada", "scope": "admin"}, KEY).items():
        assert await status(client, token) == 401, fault


async def test_clocks_may_differ_by_a_minute(client: httpx.AsyncClient) -> None:
    now = time.time()
    assert await status(client, sign({"sub": "ada", "exp": now - 30}, KEY)) == 200
    assert await status(client, sign({"sub": "ada", "exp": now - 61}, KEY)) == 401
    assert await status(client, user(nbf=now + 30)) == 200
    assert await status(client, user(nbf=now + 90)) == 401


async def test_issuer_and_audience_are_checked(tmp_path: Path) -> None:
    async with issued_by(tmp_path / "issuer", jwt_issuer="https://idp", jwt_audience="bytebrew") as (_, client):
        ours = {"sub": "ada", "iss": "https://idp", "aud": ["bytebrew", "crm"]}
        assert await status(client, sign(fresh(ours), KEY)) == 200
        for name, wrong in (("iss", "https://evil"), ("iss", None), ("aud", "crm"), ("aud", None), ("aud", [])):
            assert await status(client, sign(fresh({**ours, name: wrong}), KEY)) == 401
        assert await status(client, user()) == 401


async def test_a_jwt_for_another_service_is_good_only_where_the_operator_says_so(tmp_path: Path) -> None:
    for audience, expected in (("bytebrew", 401), ("*", 200)):
        async with issued_by(tmp_path / "issuer", jwt_audience=audience) as (_, client):
            assert await status(client, user(aud="crm")) == expected
            assert await status(client, user()) == expected
            assert await status(client, user(aud="bytebrew")) == 200


async def test_an_api_token_is_good_beside_the_issuers(tmp_path: Path) -> None:
    async with issued_by(tmp_path / "issuer") as (running, client):
        token = await token_with(running, "agents:read")
        assert [await status(client, ADMIN, path) for path in ("agents", "auth/tokens")] == [200, 200]
        assert [await status(client, token.token, path) for path in ("agents", "auth/tokens")] == [200, 403]


async def test_a_session_is_its_subjects_with_whatever_token(tmp_path: Path) -> None:
    async with issued_by(tmp_path / "issuer") as (running, client):
        machine = await token_with(running, *all_but(), name="machine")

        async def as_(token: str, method: str, path: str, body: Any = None) -> httpx.Response:
            headers = {"authorization": f"Bearer {token}"}
            return await client.request(method, f"/api/v1/{path}", headers=headers, json=body)

        answer = await as_(user(), "POST", "schemas/demo/chat", {"message": "Hi", "stream": False})
        session_id = answer.json()["session_id"]
        assert (await as_(user(jti="another"), "GET", f"sessions/{session_id}")).status_code == 200
        strangers = [
            user(sub="bob"),
            user(sub="Ada"),
            user(sub="user:ada"),
            machine.token,
            user(sub="bob", user_sub="ada", scope=" ".join(all_but())),
        ]
        for stranger in strangers:
            assert (await as_(stranger, "GET", f"sessions/{session_id}")).status_code == 404
            assert (await as_(stranger, "GET", "sessions")).json()["total"] == 0
        assert (await as_(user(sub="root", scope="admin"), "GET", f"sessions/{session_id}")).status_code == 200

        answer = await as_(machine.token, "POST", "schemas/demo/chat", {"message": "Hi", "stream": False})
        for sub in (machine.id, f"token:{machine.id}"):
            assert (await as_(user(sub=sub), "GET", f"sessions/{answer.json()['session_id']}")).status_code == 404


# The issuer's keys.


def set_of(keys: Mapping[str, VerifyKey]) -> str:
    return msgspec.json.encode({"keys": [jwk(key, kid=kid) for kid, key in keys.items()]}).decode()


@pytest.mark.parametrize(
    "text",
    [
        f"{hex_of(KEY.verify_key)}\n",
        f"{hex_of(OTHER.verify_key)}\n{hex_of(KEY.verify_key)}",
        pem(OTHER.verify_key) + pem(KEY.verify_key),
        msgspec.json.encode(jwk(KEY.verify_key)).decode(),
        set_of({"old": KEY.verify_key, "new": OTHER.verify_key}),
    ],
)
async def test_the_key_file_has_any_of_four_forms(tmp_path: Path, text: str) -> None:
    async with issued_by(tmp_path / "issuer", text) as (_, client):
        assert await status(client, user()) == 200
        assert await status(client, user(SigningKey.generate())) == 401


async def test_a_kid_is_honoured(tmp_path: Path) -> None:
    async with issued_by(tmp_path / "issuer", set_of({"a": KEY.verify_key, "b": OTHER.verify_key})) as (_, client):
        assert await status(client, user(KEY, "a")) == 200
        assert await status(client, user(OTHER, "b")) == 200
        assert await status(client, user(OTHER, "a")) == 401
        assert await status(client, user(KEY, "c")) == 401


async def test_keys_rotate_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "issuer"
    async with issued_by(path) as (_, client):
        assert [await status(client, user(key)) for key in (KEY, OTHER)] == [200, 401]
        path.write_text(f"{hex_of(KEY.verify_key)}\n{hex_of(OTHER.verify_key)}")
        assert [await status(client, user(key)) for key in (KEY, OTHER)] == [200, 200]
        path.write_text(hex_of(OTHER.verify_key))
        assert [await status(client, user(key)) for key in (KEY, OTHER)] == [401, 200]


async def test_a_key_file_that_was_replaced_is_noticed_though_its_time_is_the_same(tmp_path: Path) -> None:
    path, successor = tmp_path / "issuer", tmp_path / "next"
    async with issued_by(path) as (_, client):
        successor.write_text(hex_of(OTHER.verify_key))
        os.utime(successor, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
        successor.replace(path)
        assert [await status(client, user(key)) for key in (KEY, OTHER)] == [401, 200]


async def test_a_key_file_that_is_gone_takes_its_keys_with_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "issuer"
    async with issued_by(path) as (_, client):
        assert await status(client, user()) == 200
        path.unlink()
        with caplog.at_level(logging.ERROR):
            assert [await status(client, user()) for _ in range(2)] == [401, 401]
        assert [record.message for record in caplog.records if "is gone" in record.message]
        assert len(caplog.records) == 1
        path.write_text(hex_of(KEY.verify_key))
        assert await status(client, user()) == 200


async def test_a_key_that_is_taken_out_of_a_set_is_out(tmp_path: Path) -> None:
    path = tmp_path / "issuer"
    async with issued_by(path, set_of({"a": KEY.verify_key, "b": OTHER.verify_key})) as (_, client):
        assert [await status(client, user(KEY, "a")), await status(client, user(OTHER, "b"))] == [200, 200]
        path.write_text(set_of({"b": OTHER.verify_key}))
        assert [await status(client, user(KEY, "a")), await status(client, user(OTHER, "b"))] == [401, 200]


async def test_a_key_file_that_breaks_leaves_the_last_keys_in_force_for_a_minute_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "issuer"
    async with issued_by(path) as (_, client):
        path.write_text("half a k")
        with caplog.at_level(logging.ERROR):
            assert [await status(client, user(key)) for key in (KEY, OTHER, KEY)] == [200, 401, 200]
        assert [record.message for record in caplog.records if "stay in force" in record.message]
        assert len(caplog.records) == 1
        path.write_text("half a key")
        assert await status(client, user()) == 200
        monkeypatch.setattr(key_file, "BROKEN_SECONDS", 0.0)
        assert [await status(client, user(key)) for key in (KEY, OTHER)] == [401, 401]
        monkeypatch.undo()
        path.write_text(hex_of(OTHER.verify_key))
        assert [await status(client, user(key)) for key in (KEY, OTHER)] == [401, 200]
        path.write_text("half a key")
        assert await status(client, user(OTHER)) == 200


@pytest.mark.parametrize("text", [None, "", "hello", "{}", hex_of(KEY.verify_key)[:-2], "\xff"])
async def test_a_key_file_without_a_key_stops_the_boot(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "issuer"
    if text is not None:
        path.write_text(text, encoding="latin-1")
    with pytest.raises(SettingsError, match=f"{PATH}: .*issuer holds no usable public key"):
        async with engine(settings={MODE: "external", PATH: str(path), AUDIENCE: "*"}):
            pass


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({AUDIENCE: "us"}, PATH),
        ({PATH: "nowhere/key", AUDIENCE: "us"}, PATH),
        ({PATH: "/", AUDIENCE: "us"}, PATH),
        ({PATH: "/"}, AUDIENCE),
        ({PATH: "/", AUDIENCE: ""}, AUDIENCE),
        ({"BYTEBREW_EXTERNAL_DEFAULT_SCOPES": "chat,root"}, "BYTEBREW_EXTERNAL_DEFAULT_SCOPES: no such scope: root"),
    ],
)
def test_the_command_line_says_what_to_set(tmp_path: Path, settings: dict[str, str], named: str) -> None:
    stopped = run("serve", "--port", "0", "--data", str(tmp_path), settings={MODE: "external", **settings})
    assert stopped.returncode == 2
    assert named in stopped.stderr
    assert "Traceback" not in stopped.stderr


def test_doctor_says_what_to_set_too(tmp_path: Path) -> None:
    (tmp_path / "issuer").write_text(hex_of(KEY.verify_key))
    settings = {MODE: "external", PATH: str(tmp_path / "issuer"), "BYTEBREW_DATA_DIR": str(tmp_path / "data")}
    sick, sound = run("doctor", settings=settings), run("doctor", settings={**settings, AUDIENCE: "us"})
    assert (sick.returncode, sound.returncode) == (1, 0)
    assert AUDIENCE in sick.stdout


async def test_an_open_address_needs_no_fence_where_the_engine_issues_nothing(tmp_path: Path) -> None:
    async with issued_by(tmp_path / "issuer", host="0.0.0.0") as (_, client):
        assert await status(client, user()) == 200
