"""Both modes in a real engine: known users get their scopes, everybody else a 401."""

import os
from pathlib import Path

import bytebrew_doors
import httpx
import pytest

from bytebrew import SettingsError
from bytebrew.testing import ADMIN, chat, client, engine, names

DOORS = ("doors", bytebrew_doors)
SECRET = "a secret of two machines"
SESSIONS = "/api/v1/sessions"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_user_whom_the_gateway_names_is_that_user() -> None:
    settings = {"BYTEBREW_AUTH_MODE": "gateway", "BYTEBREW_GATEWAY_SECRET": SECRET}
    async with engine(DOORS, settings=settings) as running, client(running, token="") as http:
        assert (await http.get(SESSIONS)).status_code == 401
        assert (await http.get(SESSIONS, headers={"X-Forwarded-User": "anna"})).status_code == 401
        wrong = {"X-Forwarded-User": "anna", "X-Gateway-Secret": SECRET + "!"}
        assert (await http.get(SESSIONS, headers=wrong)).status_code == 401
        for nobody in ("", "anna, berta", "x" * 256):
            headers = {"X-Forwarded-User": nobody, "X-Gateway-Secret": SECRET}
            assert (await http.get(SESSIONS, headers=headers)).status_code == 401
        http.headers.update({"X-Forwarded-User": "anna", "X-Gateway-Secret": SECRET})
        assert names(await chat(http, "demo", "hello"))[-1] == "done"
        assert len((await http.get(SESSIONS)).json()["sessions"]) == 1
        assert (await http.get("/api/v1/agents")).status_code == 403
        http.headers["X-Forwarded-User"] = "berta"
        assert (await http.get(SESSIONS)).json()["sessions"] == []
        http.headers["Authorization"] = f"Bearer {ADMIN}"
        assert (await http.get("/api/v1/agents")).status_code == 200


@pytest.mark.parametrize(("peers", "status"), [("127.0.0.0/8,::1", 200), ("10.0.0.0/24", 401)])
async def test_the_gateway_is_believed_from_its_own_addresses_only(peers: str, status: int) -> None:
    settings = {
        "BYTEBREW_AUTH_MODE": "gateway",
        "BYTEBREW_GATEWAY_SECRET": SECRET,
        "BYTEBREW_GATEWAY_FROM": peers,
        "BYTEBREW_TRUSTED_PROXIES": "127.0.0.1",
    }
    async with engine(DOORS, settings=settings) as running, client(running, token="") as http:
        headers = {"X-Forwarded-User": "anna", "X-Gateway-Secret": SECRET, "X-Forwarded-For": "10.0.0.7"}
        assert (await http.get(SESSIONS, headers=headers)).status_code == status


async def test_a_user_with_a_password_is_let_in_with_it_alone(tmp_path: Path) -> None:
    salt = os.urandom(16)
    line = ":".join(("anna", "chat,agents:read", salt.hex(), bytebrew_doors.scrypt("hunter2:ü", salt).hex()))
    (tmp_path / "users").write_text(f"{line}\n".replace("agents:read", "tasks"))
    settings = {"BYTEBREW_AUTH_MODE": "basic", "BYTEBREW_BASIC_USERS": str(tmp_path / "users")}
    async with engine(DOORS, settings=settings) as running, client(running, token="") as http:
        nobody = await http.get(SESSIONS)
        assert (nobody.status_code, nobody.headers["www-authenticate"].split()[0]) == (401, "Basic")
        for name, password in (("anna", "hunter3"), ("berta", "hunter2:ü"), ("anna", ""), ("", "")):
            refused = await http.get(SESSIONS, auth=httpx.BasicAuth(name, password.encode()))
            assert refused.status_code == 401
        assert (await http.get(SESSIONS, headers={"Authorization": "Basic ???"})).status_code == 401
        anna = httpx.BasicAuth("anna", "hunter2:ü".encode())
        for _ in range(2):
            assert (await http.get(SESSIONS, auth=anna)).status_code == 200
        assert (await http.get(SESSIONS, auth=httpx.BasicAuth("anna", "hunter3"))).status_code == 401
        assert (await http.get("/api/v1/agents", auth=anna)).status_code == 403


async def test_a_page_of_another_site_may_not_use_what_the_browser_adds() -> None:
    settings = {
        "BYTEBREW_AUTH_MODE": "gateway",
        "BYTEBREW_GATEWAY_SECRET": SECRET,
        "BYTEBREW_CORS_ORIGINS": "https://app.example",
    }
    async with engine(DOORS, settings=settings) as running, client(running, token="") as http:
        http.headers.update({"X-Forwarded-User": "anna", "X-Gateway-Secret": SECRET})
        for headers, status in (
            ({"Origin": "https://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Sec-Fetch-Site": "same-site"}, 403),
            ({"Origin": "https://app.example"}, 200),
            ({"Origin": "http://localhost"}, 200),
            ({"Sec-Fetch-Site": "same-origin"}, 200),
        ):
            assert (await http.get(SESSIONS, headers=headers)).status_code == status, headers


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"BYTEBREW_AUTH_MODE": "gateway"}, "BYTEBREW_GATEWAY_SECRET"),
        ({"BYTEBREW_AUTH_MODE": "gateway", "BYTEBREW_GATEWAY_SECRET": "short"}, "16 characters or more"),
        ({"BYTEBREW_AUTH_MODE": "basic"}, "BYTEBREW_BASIC_USERS"),
        ({"BYTEBREW_GATEWAY_FROM": "10.0.0.300"}, "BYTEBREW_GATEWAY_FROM"),
    ],
)
async def test_a_mode_without_its_settings_stops_the_boot(settings: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        async with engine(DOORS, settings=settings):
            pass
