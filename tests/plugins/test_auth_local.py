"""The local auth mode: who is handed an admin session, and with which key."""

import asyncio
import os
import socket
import stat
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from bytebrew_auth_local import caller_checks
from bytebrew_auth_local.sessions import MODE
from bytebrew_auth_local.settings import Local
from nacl.signing import SigningKey

from bytebrew.base.errors import BootError, Forbidden, SettingsError
from bytebrew.base.formats import IpNetwork, is_uuid
from bytebrew.base.jwt import sign, verify
from bytebrew.base.settings import Core
from bytebrew.contract.route import ANYONE, Request
from bytebrew.engine import Engine
from bytebrew.testing import ADMIN, engine, served_engine
from tests.commands import run
from tests.forged import forgeries, fresh, jws
from tests.local import SESSION, key_of, local_session, proof_of
from tests.processes import Process, serving
from tests.tables import check_refusal

SECRET = "open sesame, please"
CLAIMS = {"sub": "local-admin", "tenant_id": ""}


@pytest.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    """An engine in its default mode, and a client without a credential."""
    async with served_engine(data=tmp_path_factory.mktemp("local")) as (running, client):
        del client.headers["authorization"]
        yield running, client


async def may(client: httpx.AsyncClient, credential: str) -> bool:
    """Whether the credential is an admin's."""
    response = await client.get("/api/v1/auth/tokens", headers={"authorization": f"Bearer {credential}"})
    assert response.status_code in (200, 401)
    return response.status_code == 200


# The session itself.


async def test_a_session_is_an_admins_for_an_hour(served: tuple[Engine, httpx.AsyncClient]) -> None:
    running, client = served
    response = await client.post(SESSION, headers=proof_of(running.data_dir))
    body = response.json()
    assert body.keys() == {"access_token", "expires_at", "token_type"}
    assert body["token_type"] == "Bearer"
    assert response.headers["cache-control"] == "no-store"
    claims = verify(body["access_token"], {"": key_of(running.data_dir).verify_key})
    now = claims["iat"]
    assert claims == {**CLAIMS, "iat": now, "exp": now + 3600, "auth_time": now, "sid": claims["sid"], "gen": 0}
    assert is_uuid(claims["sid"])
    assert abs(claims["iat"] - time.time()) < 30
    assert datetime.fromisoformat(body["expires_at"]).timestamp() == claims["exp"]
    assert body["expires_at"].endswith("Z")
    assert await may(client, body["access_token"])


async def test_a_session_ends_after_its_ttl_and_cannot_be_refreshed_then() -> None:
    async with served_engine(settings={"BYTEBREW_LOCAL_SESSION_TTL": "2s"}) as (running, client):
        token = await local_session(running, client)
        assert await may(client, token)
        while await may(client, token):
            await asyncio.sleep(0.05)
        refused = await client.post(f"{SESSION}/refresh", headers={"authorization": f"Bearer {token}"})
        assert refused.status_code == 401
        assert check_refusal(refused)["error"] == "unauthorized"


@pytest.mark.parametrize(("text", "seconds"), [("90m", 5400), ("12h", 43200), ("1h30m", 5400), ("366d", 366 * 86400)])
async def test_the_ttl_is_a_setting(text: str, seconds: int) -> None:
    async with served_engine(settings={"BYTEBREW_LOCAL_SESSION_TTL": text}) as (running, client):
        claims = verify(await local_session(running, client), {"": key_of(running.data_dir).verify_key})
        assert claims["exp"] - claims["iat"] == seconds


@pytest.mark.parametrize("text", ["0", "0.5s", "367d", "999999999999d"])
async def test_a_ttl_that_makes_no_sense_stops_the_boot(text: str) -> None:
    with pytest.raises(SettingsError, match="BYTEBREW_LOCAL_SESSION_TTL"):
        async with engine(settings={"BYTEBREW_LOCAL_SESSION_TTL": text}):
            pass


async def test_a_live_session_is_refreshed(served: tuple[Engine, httpx.AsyncClient]) -> None:
    running, client = served
    key = key_of(running.data_dir)
    begun = int(time.time()) - 1000
    kept = {"auth_time": begun, "sid": "one", "gen": 0}
    old = sign({**CLAIMS, **kept, "iat": begun + 300, "exp": int(time.time()) + 5}, key)
    response = await client.post(f"{SESSION}/refresh", headers={"authorization": f"Bearer {old}"})
    body = response.json()
    assert body.keys() == {"access_token", "expires_at", "token_type"}
    claims = verify(body["access_token"], {"": key.verify_key})
    assert claims == {**CLAIMS, **kept, "iat": claims["iat"], "exp": claims["iat"] + 3600}
    assert await may(client, body["access_token"])


async def test_nothing_but_a_live_session_is_refreshed(served: tuple[Engine, httpx.AsyncClient]) -> None:
    running, client = served
    key = key_of(running.data_dir)
    others = [sign(fresh({"sub": sub}), key) for sub in ("ada", "", "local-admin ")]
    for token in (*forgeries(CLAIMS, key).values(), *others, sign(fresh({}), key), ADMIN):
        refused = await client.post(f"{SESSION}/refresh", headers={"authorization": f"Bearer {token}"})
        assert refused.status_code == 401
        assert "www-authenticate" in refused.headers
        check_refusal(refused)
        assert token == ADMIN or not await may(client, token)
    assert (await client.post(f"{SESSION}/refresh")).status_code == 401


async def test_an_expired_session_has_no_leeway(served: tuple[Engine, httpx.AsyncClient]) -> None:
    running, client = served
    assert not await may(client, sign({**CLAIMS, "exp": time.time() - 1}, key_of(running.data_dir)))


async def test_a_session_of_a_clock_that_was_ahead_ends_when_that_is_set_back(
    served: tuple[Engine, httpx.AsyncClient],
) -> None:
    running, client = served
    ahead = time.time() + 400 * 86400
    assert not await may(client, sign({**CLAIMS, "iat": ahead, "exp": ahead + 3600}, key_of(running.data_dir)))


# The checks of its caller.


def curl(url: str, *headers: str) -> dict[str, Any]:
    """The answer to the API reference's curl command, in a process of its own."""
    sent = [part for header in headers for part in ("-H", header)]
    command = ["curl", "-s", "-g", "-X", "POST", f"{url}{SESSION}", *sent]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=20)
    answer: dict[str, Any] = msgspec.json.decode(done.stdout)
    return answer


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """An engine in a process of its own, of which the tests' commands are no children."""
    with serving(tmp_path_factory.mktemp("process")) as process:
        yield process


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("Host: localhost",),
        ("Host: localhost:9",),
        ("Host: app.localhost:8443",),
        ("Host: 127.0.0.1",),
        ("Host: [::1]:8443",),
        ("Host: localhost:8443", "Origin: http://localhost:8443", "Sec-Fetch-Site: same-origin"),
        ("Sec-Fetch-Site: none",),
    ],
)
def test_a_command_of_the_engines_own_user_opens_a_session(process: Process, headers: tuple[str, ...]) -> None:
    token = curl(process.url, *headers)["access_token"]
    bearer = {"authorization": f"Bearer {token}"}
    assert httpx.get(f"{process.url}/api/v1/auth/tokens", headers=bearer).status_code == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"origin": "https://evil.example"}, "foreign_origin"),
        ({"origin": "null"}, "foreign_origin"),
        ({"origin": ""}, "foreign_origin"),
        ({"origin": "http://["}, "foreign_origin"),
        ({"origin": "file://"}, "foreign_origin"),
        ({"host": "localhost:8443", "origin": "http://localhost:3000"}, "foreign_origin"),
        ({"host": "localhost:8443", "origin": "http://localhost"}, "foreign_origin"),
        ({"host": "localhost:8443", "origin": "http://localhost:8443.evil.example"}, "foreign_origin"),
        ({"host": "localhost:8443", "origin": "http://evil.example?http://localhost:8443"}, "foreign_origin"),
        ({"sec-fetch-site": "cross-site"}, "foreign_origin"),
        ({"sec-fetch-site": "same-site"}, "foreign_origin"),
        ({"host": "evil.example"}, "foreign_host"),
        ({"host": "evil.example:8443", "origin": "http://evil.example:8443"}, "foreign_host"),  # after DNS rebinding
        ({"host": "localhost.evil.example"}, "foreign_host"),
        ({"host": "127.0.0.1.evil.example"}, "foreign_host"),
        ({"host": "evillocalhost"}, "foreign_host"),
        ({"host": "", "origin": "null"}, "foreign_host"),
        ({"forwarded": "for=192.0.2.60"}, "forwarded"),
        ({"via": "1.1 proxy"}, "forwarded"),
        ({"x-forwarded-for": "127.0.0.1"}, "forwarded"),
        ({"x-forwarded-for": ""}, "forwarded"),
        ({"x-forwarded-proto": "https"}, "forwarded"),
        ({"x-forwarded-host": "localhost"}, "forwarded"),
        ({"x-real-ip": "127.0.0.1"}, "forwarded"),
        ({"cf-connecting-ip": "127.0.0.1"}, "forwarded"),
        ({"true-client-ip": "127.0.0.1"}, "forwarded"),
        ({}, "proof_required"),  # the tests run in the engine's own process, which listens
    ],
)
async def test_who_may_be_a_stranger_is_refused(
    served: tuple[Engine, httpx.AsyncClient], headers: dict[str, str], code: str
) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    refused = await served[1].post(SESSION, headers=raw)
    assert refused.status_code == 403
    assert check_refusal(refused)["error"] == code


async def test_the_engine_opens_none_for_whoever_has_it_call_itself(served: tuple[Engine, httpx.AsyncClient]) -> None:
    _, client = served
    headers = {"authorization": f"Bearer {ADMIN}"}
    url = f"{str(client.base_url).rstrip('/')}{SESSION}"
    tool = {"name": "climb", "method": "POST", "url": url, "headers": {"Via": ""}}
    assert (await client.post("/api/v1/tools", json=tool, headers=headers)).status_code == 201
    told = await client.post("/api/v1/tools/climb/test", json={"arguments": {}}, headers=headers)
    assert told.status_code == 200
    assert '"forwarded"' in told.json()["output"]
    assert "access_token" not in told.text


async def test_one_good_origin_does_not_hide_a_bad_one(served: tuple[Engine, httpx.AsyncClient]) -> None:
    good, bad = ("origin", "http://localhost:1"), ("origin", "https://evil.example")
    for headers in ([good, bad], [bad, good]):
        refused = await served[1].post(SESSION, headers=[("host", "localhost:1"), *headers])
        assert refused.status_code == 403


async def test_a_proxy_that_names_nobody_is_refused_by_its_version_of_http(
    served: tuple[Engine, httpx.AsyncClient],
) -> None:
    """HTTP/1.0 is what nginx speaks by default to those behind it."""
    port = served[1].base_url.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"POST {SESSION} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b'"forwarded"' in answer


async def test_what_comes_over_http_2_is_refused(served: tuple[Engine, httpx.AsyncClient]) -> None:
    """A tunnel of HTTP/2 passes through many proxies, which do not see what is in it."""
    async with httpx.AsyncClient(base_url=served[1].base_url, http1=False, http2=True) as client:
        refused = await client.post(SESSION)
    assert (refused.status_code, refused.json()["error"]) == (403, "forwarded")


def request_from(running: Engine, client: str, **headers: str) -> Request[None]:
    host = headers.get("host", "127.0.0.1:8443")
    return Request(
        engine=running,
        actor=ANYONE,
        path={},
        query={},
        headers={**headers, "host": host},
        body=None,
        client=client,
        host=host,
        connection=((client, 1), ("127.0.0.1", 8443)),
    )


async def fenced(request: Request[None], host: str = "127.0.0.1", proxy: str = "", **local: Any) -> str:
    """The code of the refusal, or nothing."""
    core = Core(host=host, trusted_proxies=(IpNetwork.parse(proxy),) if proxy else ())
    mode = request.engine.state[MODE]
    try:
        caller_checks.check_origin(request)
        await caller_checks.check(request, mode, Local(**local), core)
    except Forbidden as error:
        return error.code
    return ""


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
async def test_loopback_alone_proves_nothing(served: tuple[Engine, httpx.AsyncClient], address: str) -> None:
    assert await fenced(request_from(served[0], address)) == "proof_required"


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.5",
        "172.17.0.1",
        "192.168.1.1",
        "203.0.113.7",
        "0.0.0.0",
        "::",
        "::ffff:10.0.0.5",
        "2001:db8::1",
        "fe80::1%eth0",
        "",
        "127.0.0.1, 10.0.0.5",
    ],
)
async def test_every_other_address_is_foreign(served: tuple[Engine, httpx.AsyncClient], address: str) -> None:
    assert await fenced(request_from(served[0], address)) == "foreign_address"


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("10.1.2.3", ""),
        ("::ffff:10.1.2.3", ""),
        ("2001:db8::5", ""),
        ("198.51.100.7", ""),
        ("127.0.0.1", "proof_required"),
        ("11.0.0.1", "foreign_address"),
        ("198.51.100.8", "foreign_address"),
        ("2001:db9::5", "foreign_address"),
    ],
)
async def test_an_allowed_network_is_let_in(served: tuple[Engine, httpx.AsyncClient], address: str, code: str) -> None:
    allowed = ("10.0.0.0/8", "2001:db8::/32", "198.51.100.7")
    assert await fenced(request_from(served[0], address), local_session_from=allowed) == code


async def test_whom_the_operator_lets_in_needs_no_proof_at_this_machine_either(
    served: tuple[Engine, httpx.AsyncClient],
) -> None:
    assert await fenced(request_from(served[0], "127.0.0.1"), local_session_from=("127.0.0.0/8",)) == ""


async def test_a_trusted_proxy_makes_no_local_session(served: tuple[Engine, httpx.AsyncClient]) -> None:
    allowed = ("10.0.0.0/8",)
    proxied = request_from(served[0], "10.0.0.7")
    assert await fenced(proxied, local_session_from=allowed) == ""
    assert await fenced(proxied, proxy="10.0.0.7", local_session_from=allowed) == "forwarded"
    assert await fenced(request_from(served[0], "10.0.0.8"), proxy="10.0.0.7", local_session_from=allowed) == ""
    local = request_from(served[0], "127.0.0.1")
    assert await fenced(local, proxy="127.0.0.1", local_session_from=("127.0.0.0/8",)) == "proof_required"
    for headers in ({"x-forwarded-for": "127.0.0.1"}, {"forwarded": "for=127.0.0.1"}):
        assert await fenced(request_from(served[0], "127.0.0.1", **headers), proxy="127.0.0.1") == "forwarded"
    behind = request_from(served[0], "203.0.113.5")  # named by a header that no guard knows
    behind.client = "10.0.0.8"
    assert await fenced(behind, local_session_from=allowed) == "foreign_address"


async def test_an_allowed_network_does_not_open_the_other_fences(served: tuple[Engine, httpx.AsyncClient]) -> None:
    allowed = ("10.0.0.0/8",)
    for headers, code in (
        ({"origin": "https://evil.example"}, "foreign_origin"),
        ({"host": "evil.example"}, "foreign_host"),
        ({"x-forwarded-for": "10.0.0.5"}, "forwarded"),
    ):
        assert await fenced(request_from(served[0], "10.0.0.5", **headers), local_session_from=allowed) == code


async def test_the_name_that_the_engine_listens_on_is_its_own(served: tuple[Engine, httpx.AsyncClient]) -> None:
    request = request_from(served[0], "10.0.0.5", host="engine.lan:8443")
    allowed = ("10.0.0.0/8",)
    assert await fenced(request, host="engine.lan", local_session_from=allowed) == ""
    assert await fenced(request, host="0.0.0.0", local_session_from=allowed) == "foreign_host"


def own_address() -> str:
    """This machine's address on a network, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return ""
        address: str = probe.getsockname()[0]
    return "" if address.startswith("127.") else address


def test_a_caller_from_the_network_is_refused_and_one_that_is_allowed_is_not(tmp_path: Path) -> None:
    address = own_address()
    if not address:
        pytest.skip("this machine has no address but loopback")
    for allowed, status in (("198.51.100.0/24", 403), (f"198.51.100.0/24, {address}/32", 200)):
        settings = {"BYTEBREW_HOST": "0.0.0.0", "BYTEBREW_LOCAL_SESSION_FROM": allowed}
        with serving(tmp_path, settings) as process:
            port = httpx.URL(process.url).port
            assert httpx.post(f"http://{address}:{port}{SESSION}").status_code == status
            assert "access_token" in curl(f"http://127.0.0.1:{port}")
            assert ("access_token" in curl(f"http://{address}:{port}")) == (status == 200)


def test_the_owner_of_a_connection_over_ipv6_is_known_too(tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with serving(tmp_path, {"BYTEBREW_HOST": "::1"}) as process:
        assert "access_token" in curl(process.url)
        assert check_refusal(httpx.post(f"{process.url}{SESSION}"))["error"] == "proof_required"


# With a secret.


async def test_where_a_secret_is_set_nothing_opens_without_it_but_the_link() -> None:
    async with served_engine(settings={"BYTEBREW_LOCAL_SESSION_SECRET": SECRET}) as (running, client):
        del client.headers["authorization"]
        assert (await client.post(SESSION)).status_code == 403
        for given in (f"Bearer {SECRET[:-1]}", f"Bearer {SECRET}!", "Bearer \u00ff", f"Bearer {ADMIN}", SECRET):
            refused = await client.post(SESSION, headers={b"authorization": given.encode("latin-1")})
            assert refused.status_code == 403
            assert check_refusal(refused)["error"] == "secret_required"
            assert SECRET not in refused.text
    async with served_engine(settings={"BYTEBREW_LOCAL_SESSION_SECRET": SECRET}) as (running, client):
        with_it = {"authorization": f"Bearer {SECRET}"}
        through_a_proxy = {**with_it, "x-forwarded-for": "203.0.113.7", "host": "agents.example"}
        assert (await client.post(SESSION, headers=with_it)).status_code == 200
        opened_there = await client.post(SESSION, headers=through_a_proxy)
        assert await may(client, opened_there.json()["access_token"])
        foreign = await client.post(SESSION, headers={**with_it, "origin": "https://evil.example"})
        assert check_refusal(foreign)["error"] == "foreign_origin"
        assert await may(client, await local_session(running, client))


async def test_a_secret_opens_from_anywhere(served: tuple[Engine, httpx.AsyncClient]) -> None:
    with_it = request_from(served[0], "203.0.113.7", authorization=f"Bearer {SECRET}")
    assert await fenced(with_it, local_session_secret=SECRET) == ""
    assert await fenced(request_from(served[0], "127.0.0.1"), local_session_secret=SECRET) == "secret_required"


async def test_a_secret_may_be_in_any_script() -> None:
    secret = "Öffne dich, Sesam!"
    async with served_engine(settings={"BYTEBREW_LOCAL_SESSION_SECRET": secret}) as (_, client):
        response = await client.post(SESSION, headers={b"authorization": b"Bearer " + secret.encode()})
        assert response.status_code == 200


# Starting.


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "engine.lan"])
def test_an_open_address_without_a_fence_stops_the_boot(tmp_path: Path, host: str) -> None:
    stopped = run("serve", "--host", host, "--port", "0", "--data", str(tmp_path))
    assert stopped.returncode == 2
    assert stopped.stdout == ""
    for name in ("BYTEBREW_HOST", "BYTEBREW_LOCAL_SESSION_SECRET", "BYTEBREW_LOCAL_SESSION_FROM", "BYTEBREW_AUTH_MODE"):
        assert name in stopped.stderr
    assert "Traceback" not in stopped.stderr


@pytest.mark.parametrize(
    ("name", "value"), [("BYTEBREW_LOCAL_SESSION_FROM", "10.0.0.0/33"), ("BYTEBREW_LOCAL_SESSION_SECRET", "hunter2")]
)
def test_a_fence_that_is_none_stops_the_boot(tmp_path: Path, name: str, value: str) -> None:
    """A secret may be guessed as fast as the engine answers, so it may not be short."""
    stopped = run("serve", "--port", "0", "--data", str(tmp_path), settings={name: value})
    assert stopped.returncode == 2
    assert name in stopped.stderr
    assert "hunter2" not in stopped.stderr
    assert "Traceback" not in stopped.stderr


def test_doctor_finds_an_open_address_without_a_fence(tmp_path: Path) -> None:
    done = run("doctor", settings={"BYTEBREW_DATA_DIR": str(tmp_path), "BYTEBREW_HOST": "0.0.0.0"})
    assert done.returncode == 1
    assert "BYTEBREW_LOCAL_SESSION_SECRET" in done.stdout


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost"])
async def test_a_loopback_address_needs_no_fence(host: str) -> None:
    async with engine(settings={"BYTEBREW_HOST": host}):
        pass


# The key pair.


def keys_in(folder: Path) -> dict[str, str]:
    """The setting with which an engine on either store has its key pair in files."""
    return {"BYTEBREW_JWT_KEYS_DIR": str(folder)}


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_a_key_pair_is_made_at_the_first_boot(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    async with engine(data=tmp_path / "data", settings=keys_in(keys)):
        assert mode_of(keys) == 0o700
        assert mode_of(keys / "jwt_ed25519.priv") == 0o600
        private, public = (keys / "jwt_ed25519.priv").read_text(), (keys / "jwt_ed25519.pub").read_text()
    assert len(private) == 129
    assert private == private.lower()
    assert private.endswith(public)
    assert len(public) == 65
    key = SigningKey(bytes.fromhex(private[:64]))
    assert bytes(key.verify_key).hex() + "\n" == public
    assert sorted(path.name for path in keys.iterdir()) == ["jwt_ed25519.priv", "jwt_ed25519.pub"]


async def test_the_private_key_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with engine(data=tmp_path / "data", settings=keys_in(tmp_path / "elsewhere")):
            pass
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "elsewhere") == 0o700
    assert mode_of(tmp_path / "elsewhere" / "jwt_ed25519.priv") == 0o600
    assert mode_of(tmp_path / "data" / "keys" / "secrets.key") == 0o600
    assert not (tmp_path / "data" / "keys" / "jwt_ed25519.priv").exists()


async def test_a_session_outlives_a_restart_and_dies_with_its_key(tmp_path: Path) -> None:
    async with served_engine(data=tmp_path, settings=keys_in(tmp_path / "keys")) as (running, client):
        token = await local_session(running, client)
    (tmp_path / "keys" / "jwt_ed25519.pub").unlink()
    async with served_engine(data=tmp_path, settings=keys_in(tmp_path / "keys")) as (_, client):
        assert await may(client, token)
        assert (tmp_path / "keys" / "jwt_ed25519.pub").exists()
    for path in (tmp_path / "keys").glob("jwt_*"):
        path.unlink()
    async with served_engine(data=tmp_path, settings=keys_in(tmp_path / "keys")) as (_, client):
        assert not await may(client, token)
        assert await may(client, ADMIN)


KEY = SigningKey(bytes(32))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"hello\n",
        b"\xff\xfe",
        bytes(KEY).hex().encode(),
        (bytes(KEY) + bytes(32)).hex().encode(),
        (bytes(KEY) + bytes(KEY.verify_key)).hex().encode()[:-1],
        (bytes(KEY) + bytes(KEY.verify_key) + b"x").hex().encode(),
    ],
)
async def test_a_damaged_key_stops_the_boot_and_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "jwt_ed25519.priv").write_bytes(content)
    with pytest.raises(BootError, match=r"jwt_ed25519\.priv .*restore or remove it"):
        async with engine(data=tmp_path, settings=keys_in(tmp_path / "keys")):
            pass
    assert (tmp_path / "keys" / "jwt_ed25519.priv").read_bytes() == content


def test_a_damaged_key_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "jwt_ed25519.priv").write_text("00" * 64)
    stopped = run("serve", "--port", "0", "--data", str(tmp_path))
    assert stopped.returncode == 1
    assert "jwt_ed25519.priv holds no Ed25519 key pair" in stopped.stderr
    assert "Traceback" not in stopped.stderr


async def test_a_key_pair_that_was_brought_along_is_used(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    pair = (bytes(KEY) + bytes(KEY.verify_key)).hex()
    (tmp_path / "keys" / "jwt_ed25519.priv").write_text(f"{pair.upper()}\r\n")
    async with served_engine(data=tmp_path, settings=keys_in(tmp_path / "keys")) as (_, client):
        assert await may(client, sign(fresh(CLAIMS), KEY))
    assert (tmp_path / "keys" / "jwt_ed25519.pub").read_text() == bytes(KEY.verify_key).hex() + "\n"


async def test_a_token_of_the_original_is_a_session_too(tmp_path: Path) -> None:
    """Its sessions have these four claims and a header with alg alone."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "jwt_ed25519.priv").write_text((bytes(KEY) + bytes(KEY.verify_key)).hex())
    claims = msgspec.json.encode({"tenant_id": "", "sub": "local-admin", "exp": int(time.time()) + 60, "iat": 1})
    async with served_engine(data=tmp_path, settings=keys_in(tmp_path / "keys")) as (_, client):
        assert await may(client, jws({"alg": "EdDSA"}, msgspec.Raw(claims), KEY))
