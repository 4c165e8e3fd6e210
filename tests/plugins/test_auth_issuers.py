"""The keys of an issuer at a URL: fetched, cached, renewed for a new key, and good for a while without the issuer."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from bytebrew_auth_external import MODE, key_set
from bytebrew_auth_external.key_set import IssuerUnreachable, KeySet, url_fault
from nacl.signing import SigningKey

from bytebrew import Http
from bytebrew.base.errors import SettingsError
from bytebrew.base.jwt import sign
from bytebrew.base.settings import Core
from bytebrew.engine import Engine
from bytebrew.testing import engine, served_engine
from tests import forged
from tests.commands import environment, run
from tests.forged import fresh
from tests.issuers import EC, RSA, Private, issued, jwk, jwks

ED = SigningKey(bytes(range(32)))
OLD = jwks(jwk(RSA, kid="old"))
BOTH = jwks(jwk(RSA, kid="old"), jwk(EC, kid="new"))
NEW = jwks(jwk(EC, kid="new"))


class Issuer:
    """A server on this machine; `answers` are status, headers and body by path, all others are 404."""

    def __init__(self, keys: str = OLD) -> None:
        self.answers: dict[str, tuple[int, str, str]] = {"/jwks": (200, "", keys)}
        self.paths: list[str] = []
        self.open = asyncio.Event()
        self.open.set()
        self.url = ""

    def publish(self, keys: str, status: int = 200, headers: str = "") -> None:
        """What the next fetch gets."""
        self.answers["/jwks"] = (status, headers, keys)

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            line = (await reader.readuntil(b"\r\n\r\n")).decode().split()[1]
            self.paths.append(line)
            await self.open.wait()
            status, headers, body = self.answers.get(line.partition("?")[0], (404, "", ""))
            raw = body.encode()
            head = f"HTTP/1.1 {status} Any\r\nContent-Length: {len(raw)}\r\nConnection: close\r\n{headers}\r\n"
            writer.write(head.encode() + raw)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def issuing(keys: str = OLD) -> AsyncIterator[Issuer]:
    issuer = Issuer(keys)
    server = await asyncio.start_server(issuer.take, "127.0.0.1", 0)
    issuer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield issuer


def settings_for(url: str, **more: str) -> dict[str, str]:
    named = {f"BYTEBREW_{name.upper()}": value for name, value in more.items()}
    known = {"BYTEBREW_JWT_AUDIENCE": "*", "BYTEBREW_JWT_ISSUER": "*", "BYTEBREW_JWT_JWKS_URL": url}
    return {"BYTEBREW_AUTH_MODE": "external", **known, **named}


@asynccontextmanager
async def engine_of(
    issuer: Issuer, path: str = "/jwks", **more: str
) -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    async with served_engine(settings=settings_for(issuer.url + path, **more)) as (running, client):
        del client.headers["authorization"]
        yield running, client


def user(key: Private, kid: str | None = None, **claims: Any) -> str:
    return issued(fresh({"sub": "ada", **claims}), key, kid)


async def get(client: httpx.AsyncClient, token: str, path: str = "sessions") -> httpx.Response:
    return await client.get(f"/api/v1/{path}", headers={"authorization": f"Bearer {token}"})


async def status(client: httpx.AsyncClient, token: str, path: str = "sessions") -> int:
    return (await get(client, token, path)).status_code


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 10_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    client = Http(Core())
    yield client
    await client.aclose()


async def test_users_of_an_issuer_that_signs_with_rsa_or_p256_are_let_in() -> None:
    async with issuing(BOTH) as issuer, engine_of(issuer) as (_, client):
        assert await status(client, user(RSA, "old")) == 200
        assert await status(client, user(EC, "new")) == 200
        assert await status(client, user(RSA, "new")) == 401
        assert await status(client, user(RSA, "old"), "agents") == 403
        assert await status(client, user(EC, "new", scp="agents:read"), "agents") == 200
        assert await status(client, user(EC, "new", permissions=["admin"]), "auth/tokens") == 200
        expired = issued({"sub": "ada", "exp": 1000}, RSA, "old")
        assert await status(client, expired) == 401
        assert len(issuer.paths) == 1


async def test_a_key_that_is_new_at_the_issuer_is_good_with_its_first_token() -> None:
    async with issuing() as issuer, engine_of(issuer) as (running, client):
        assert await status(client, user(EC, "new")) == 401  # too soon after the fetch of the start
        _source(running)._tried -= 60
        issuer.publish(BOTH)
        assert [await status(client, user(EC, "new")), await status(client, user(RSA, "old"))] == [200, 200]
        assert len(issuer.paths) == 2


async def test_unknown_keys_cause_one_fetch_in_30_seconds_however_many_tokens_name_them(http: Http) -> None:
    async with issuing() as issuer:
        clock = Clock()
        source = KeySet(f"{issuer.url}/jwks", "", http, clock=clock)
        await source.start()
        assert [await source.renew() for _ in range(5)] == [False] * 5
        clock.now += 31
        issuer.open.clear()
        waiting = [asyncio.create_task(source.renew()) for _ in range(20)]
        await asyncio.sleep(0)
        issuer.open.set()
        assert await asyncio.gather(*waiting) == [True] * 20
        assert not await source.renew()
        assert len(issuer.paths) == 2
        await source.stop()


async def test_a_caller_that_goes_away_does_not_end_the_fetch_for_others(http: Http) -> None:
    async with issuing() as issuer:
        clock = Clock()
        source = KeySet(f"{issuer.url}/jwks", "", http, clock=clock)
        await source.start()
        clock.now += 31
        issuer.publish(BOTH)
        issuer.open.clear()
        first, second = (asyncio.create_task(source.renew()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        with suppress(asyncio.CancelledError):
            await first
        issuer.open.set()
        assert await second
        assert sorted(source.current()) == ["new", "old"]
        await source.stop()


async def test_a_key_that_the_issuer_withdrew_is_out_with_the_next_refresh(http: Http) -> None:
    async with issuing(BOTH) as issuer:
        source = KeySet(f"{issuer.url}/jwks", "", http, refresh=0.01)
        await source.start()
        issuer.publish(NEW)
        async with asyncio.timeout(20):
            while list(source.current()) != ["new"]:
                await asyncio.sleep(0.01)
        await source.stop()


@pytest.mark.parametrize("fault", ["away", "500", "429", "garbage", "empty", "redirect", "404"])
async def test_the_last_keys_are_good_for_an_hour_without_the_issuer(
    http: Http, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with issuing() as issuer:
        clock = Clock()
        source = KeySet(f"{issuer.url}/jwks?appid=s3cret", "", http, clock=clock)
        await source.start()
        broken = {
            "500": (500, "", "oops"),
            "429": (429, "Retry-After: 9\r\n", ""),
            "garbage": (200, "", "<html>Sign in</html>"),
            "empty": (200, "", '{"keys": []}'),
            "redirect": (302, f"Location: {issuer.url}/evil\r\n", ""),
            "404": (404, "", ""),
        }
        issuer.answers["/evil"] = (200, "", NEW)
        if fault == "away":
            source._url = "http://127.0.0.1:9/jwks?appid=s3cret"
        else:
            issuer.answers["/jwks"] = broken[fault]
        for _ in range(3):
            clock.now += 1000
            assert await source.renew()
            assert list(source.current()) == ["old"]
        [logged] = [record.message for record in caplog.records if record.levelno == logging.ERROR]
        assert "BYTEBREW_JWT_JWKS_URL: the keys cannot be fetched" in logged
        assert "s3cret" not in caplog.text
        clock.now += 601
        with pytest.raises(IssuerUnreachable):
            source.current()
        source._url = f"{issuer.url}/jwks"
        issuer.publish(NEW)
        assert await source.renew()
        assert list(source.current()) == ["new"]
        await source.stop()


async def test_an_engine_starts_without_its_issuer_and_says_that_tokens_cannot_be_verified(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with issuing() as issuer:
        issuer.publish("", status=503)
        async with engine_of(issuer) as (running, client):
            assert "no JWT can be verified" in caplog.text
            refused = await get(client, user(RSA, "old"))
            assert (refused.status_code, refused.json()["error"]) == (503, "issuer_unreachable")
            assert refused.headers["retry-after"] == "30"
            issuer.publish(OLD)
            _source(running)._tried -= 60
            assert await _source(running).renew()
            assert await status(client, user(RSA, "old")) == 200


@pytest.mark.parametrize(
    ("path", "answer", "words"),
    [
        ("/jwks", (200, "", "<html></html>"), "it is no JWK set"),
        ("/jwks", (200, "", '{"keys": []}'), "no JWK"),
        ("/jwks", (200, "", jwks({"kty": "oct", "k": "AA"})), "no JWK"),
        ("/jwks", (404, "", ""), "HTTP 404"),
        ("/jwks", (302, "Location: http://127.0.0.1/x\r\n", ""), "redirects"),
        ("/jwks", (200, "", OLD + " " * key_set.MAX_BYTES), "longer than"),
        ("/.well-known/openid-configuration", (200, "", "{}"), "no metadata"),
        ("/.well-known/openid-configuration", (200, "", '{"jwks_uri": "http://idp.example/k"}'), "is not https"),
        ("/.well-known/openid-configuration", (200, "", '{"jwks_uri": "file:///etc/passwd"}'), "is not https"),
    ],
)
async def test_an_answer_that_holds_no_keys_stops_the_start(
    path: str, answer: tuple[int, str, str], words: str
) -> None:
    async with issuing() as issuer:
        issuer.answers[path] = answer
        with pytest.raises(SettingsError, match=f"BYTEBREW_JWT_JWKS_URL: .*({words})"):
            async with engine(settings=settings_for(issuer.url + path)):
                pass


async def test_keys_are_found_by_the_metadata_of_an_issuer() -> None:
    async with issuing() as issuer:
        tenant = f"{issuer.url}/tenant"
        path = "/tenant/.well-known/openid-configuration"
        issuer.answers[path] = (200, "", f'{{"issuer": "{tenant}", "jwks_uri": "{issuer.url}/jwks", "more": 1}}')
        async with engine_of(issuer, path) as (_, client):  # of any issuer
            assert await status(client, user(RSA, "old", iss="https://other")) == 200
        issuer.paths.clear()
        async with engine_of(issuer, path, jwt_issuer=tenant) as (_, client):
            assert await status(client, user(RSA, "old", iss=tenant)) == 200
            assert await status(client, user(RSA, "old")) == 401
        assert issuer.paths == [path, "/jwks"]
        with pytest.raises(SettingsError, match="the metadata is of the issuer"):
            async with engine(settings=settings_for(issuer.url + path, jwt_issuer="https://other")):
                pass


async def test_metadata_from_elsewhere_leads_to_nothing_on_this_machine() -> None:
    source = KeySet("https://idp.example/.well-known/openid-configuration", "", Http(Core()))
    with pytest.raises(ValueError, match="on this machine"):
        source._jwks_uri(b'{"jwks_uri": "http://127.0.0.1/keys"}')


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("https://idp.example/keys", ""),
        ("https://idp.example:8443/keys?appid=1", ""),
        ("http://localhost:9/keys", ""),
        ("http://127.0.0.1/keys", ""),
        ("http://[::1]:80/keys", ""),
        ("http://idp.example/keys", "is not https:"),
        ("http://127.0.0.1.evil.example/keys", "is not https:"),
        ("http://localhost.evil.example/", "is not https:"),
        ("http://10.0.0.1/keys", "is not https:"),
        ("https://user:pass@idp.example/", "user name"),
        ("http://127.0.0.1@evil.example/", "user name"),
        ("ftp://idp.example/", "in full"),
        ("idp.example/keys", "in full"),
        ("https://", "in full"),
        ("https://[::1", "is no URL"),
        ("https://idp.example:99999/", "is no URL"),
    ],
)
def test_keys_come_over_https_or_from_this_machine(url: str, fault: str) -> None:
    assert fault in url_fault(url)
    assert bool(fault) == bool(url_fault(url))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"BYTEBREW_JWT_JWKS_URL": "http://idp.example/keys"}, "BYTEBREW_JWT_JWKS_URL is not https"),
        (
            {"BYTEBREW_JWT_JWKS_URL": "https://idp.example/keys"},
            "BYTEBREW_JWT_ISSUER: one set of keys may sign for all",
        ),
        ({"BYTEBREW_JWT_JWKS_URL": "https://idp.example/", "BYTEBREW_JWT_PUBLIC_KEY_PATH": "/k"}, "set one of them"),
    ],
)
def test_the_command_line_says_what_to_set(tmp_path: Path, settings: dict[str, str], words: str) -> None:
    both = {"BYTEBREW_AUTH_MODE": "external", "BYTEBREW_JWT_AUDIENCE": "us", **settings}
    stopped = run("serve", "--port", "0", "--data", str(tmp_path), settings=both)
    assert stopped.returncode == 2
    assert words in stopped.stderr
    assert "Traceback" not in stopped.stderr


@pytest.fixture
def without_cryptography(tmp_path: Path) -> Iterator[list[str]]:
    """A command that starts an engine in a Python where the extra is not installed."""
    start = "import sys; sys.modules['cryptography'] = None; from bytebrew.cli.main import main; main()"
    yield [sys.executable, "-c", start, "serve", "--port", "0", "--data", str(tmp_path / "data")]


async def test_without_the_extra_the_start_says_what_to_install(without_cryptography: list[str]) -> None:
    async with issuing(BOTH) as issuer:
        env = environment(settings_for(f"{issuer.url}/jwks"))
        done = await asyncio.to_thread(
            subprocess.run, without_cryptography, env=env, capture_output=True, text=True, timeout=50
        )
    assert done.returncode == 2, done
    assert "pip install 'bytebrew[issuers]'" in done.stderr
    assert "Traceback" not in done.stderr


async def test_ed25519_keys_of_a_set_need_no_extra() -> None:
    async with issuing(jwks(forged.jwk(ED.verify_key, kid="ed"))) as issuer, engine_of(issuer) as (_, client):
        assert await status(client, sign(fresh({"sub": "ada"}), ED, "ed")) == 200


async def test_a_fetch_ends_with_its_time(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_set, "FETCH_SECONDS", 0.05)
    async with issuing() as issuer:
        issuer.open.clear()
        source = KeySet(f"{issuer.url}/jwks", "", http)
        await source.start()
        assert source._failure == "no answer within 0.05 s"
        with pytest.raises(IssuerUnreachable):
            source.current()
        await source.stop()
        issuer.open.set()


def _source(running: Engine) -> KeySet:
    source = running.state[MODE]._source
    assert isinstance(source, KeySet)
    return source
