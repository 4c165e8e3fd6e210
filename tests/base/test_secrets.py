"""Credentials at rest: sealed, and nowhere in clear."""

import base64
import os
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bytebrew.base.errors import BootError, Unprocessable
from bytebrew.base.secrets import Secrets, write_private
from bytebrew.engine import Engine
from bytebrew.testing import ADMIN, ScriptedProvider, providing, served_engine
from tests.commands import run
from tests.processes import serving
from tests.stored import ON_POSTGRESQL, everything, on_store
from tests.tables import check_refusal

KEY = bytes(range(32))
BOX = Secrets(KEY)


@given(st.text())
def test_what_was_sealed_opens(text: str) -> None:
    assert BOX.open(BOX.seal(text)) == text


@given(st.text(alphabet=st.characters(codec="ascii"), min_size=8))
def test_sealed_is_neither_clear_nor_the_same_twice(text: str) -> None:
    sealed = BOX.seal(text)
    assert text.encode() not in sealed
    assert sealed != BOX.seal(text)


def test_empty_stays_empty() -> None:
    assert BOX.seal("") == b""
    assert BOX.open(b"") == ""


@given(st.integers(0, 54), st.integers(1, 255))
def test_a_changed_byte_is_noticed(at: int, change: int) -> None:
    sealed = bytearray(BOX.seal("a vendor's key!"))
    sealed[at] ^= change
    with pytest.raises(Unprocessable):
        BOX.open(bytes(sealed))


@pytest.mark.parametrize(
    "sealed",
    [b"x", bytes(24), bytes(40), BOX.seal("key")[:-1], Secrets(bytes(32)).seal("key")],
    ids=["short", "zeros", "more zeros", "cut", "of another key"],
)
def test_what_another_key_sealed_does_not_open_and_says_what_to_do(sealed: bytes) -> None:
    with pytest.raises(Unprocessable, match=r"keys/secrets\.key"):
        BOX.open(sealed)


def test_the_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "secrets.key"
    before = os.umask(0)
    try:
        sealed = Secrets.load(path).seal("key")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(bytes.fromhex(path.read_text().strip())) == 32
    assert Secrets.load(path).open(sealed) == "key"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff", b"00" * 31, b"00" * 33, b"0" * 63])
def test_a_damaged_key_stops_the_boot_and_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secrets.key"
    path.write_bytes(content)
    with pytest.raises(BootError, match=r"secrets\.key .*restore it from your backup"):
        Secrets.load(path)
    assert path.read_bytes() == content


def test_a_key_that_cannot_be_read_stops_the_boot(tmp_path: Path) -> None:
    with pytest.raises(BootError, match="cannot be used"):
        Secrets.load(tmp_path)
    with pytest.raises(BootError, match="cannot be used"):
        Secrets.load(tmp_path / "nowhere" / "secrets.key")


def test_a_private_file_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_private(path, b"first")
    with pytest.raises(FileExistsError):
        write_private(path, b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_does_not_stop_the_next(tmp_path: Path) -> None:
    """In a container the next process has the same number."""
    (tmp_path / f".secrets.key.{os.getpid()}").write_bytes(b"half")
    assert Secrets.load(tmp_path / "secrets.key")


def test_those_who_begin_at_once_agree_on_one_key(tmp_path: Path) -> None:
    """As `bytebrew serve` and `bytebrew token create` do in a deployment's script."""
    path, together = tmp_path / "secrets.key", threading.Barrier(8)

    def seal(text: str) -> bytes:
        together.wait()
        return Secrets.load(path).seal(text)

    with ThreadPoolExecutor(8) as threads:
        sealed = list(threads.map(seal, "abcdefgh"))
    assert "".join(map(Secrets.load(path).open, sealed)) == "abcdefgh"
    assert list(tmp_path.iterdir()) == [path]


# In a running engine.

VENDOR_KEY = "vendor/key+of=no.known-form~0123456789"
NEXT_KEY = "another/key+of=no.known-form~9876543210"
SESSION_SECRET = "Xyzzy, said the operator"


def spellings(secret: str) -> Iterator[bytes]:
    """The secret as it may lie in a file or a log."""
    raw = secret.encode()
    yield raw
    yield raw.hex().encode()
    yield base64.b64encode(raw).rstrip(b"=")
    yield base64.urlsafe_b64encode(raw).rstrip(b"=")
    yield raw[: len(raw) // 2]


def test_no_secret_leaves_a_running_engine(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy.db"
    settings = {
        "BYTEBREW_LOG_LEVEL": "debug",
        "BYTEBREW_LOCAL_SESSION_SECRET": SESSION_SECRET,
        "BYTEBREW_PROVIDER_RETRIES": "0",
    }
    secrets = [VENDOR_KEY, NEXT_KEY, SESSION_SECRET, ADMIN]
    places: list[bytes] = []
    with serving(data, settings) as process, httpx.Client(base_url=f"{process.url}/api/v1") as client:

        def ask(method: str, path: str, body: Any = None, bearer: str = ADMIN, **headers: str) -> httpx.Response:
            headers = {"authorization": f"Bearer {bearer}", **headers}
            response = client.request(method, path, json=body, headers=headers)
            places.append(response.content + repr(response.headers).encode())
            return response

        model = {"name": "m", "type": "openai_compatible", "model_name": "x", "base_url": "http://127.0.0.1:9"}
        assert ask("POST", "/models", {**model, "api_key": VENDOR_KEY}).status_code == 201
        assert ask("PUT", "/models/m", {"api_key": NEXT_KEY}).json()["has_api_key"]
        for name, key in (("m", VENDOR_KEY), ("n", {"sk": VENDOR_KEY}), ("n", [VENDOR_KEY]), ("n", VENDOR_KEY * 1000)):
            assert ask("POST", "/models", {**model, "name": name, "api_key": key}).status_code in (400, 409)
        ask("POST", "/agents", {"name": "a", "model": "m", "max_steps": 1})
        ask("POST", "/schemas", {"name": "s", "entry_agent": "a", "chat_enabled": True})
        brought = {"X-Model-Provider": "openai_compatible", "X-Model-API-Key": VENDOR_KEY, "X-Model-Name": "x"}
        for headers in ({}, brought):  # nobody is there to answer
            assert ask("POST", "/schemas/s/chat", {"message": "Hi", "stream": False}, **headers).status_code >= 400

        def once(path: str, bearer: str, body: Any = None) -> dict[str, str]:
            found = client.post(path, json=body, headers={"authorization": f"Bearer {bearer}"}).json()
            assert isinstance(found, dict)
            return found

        secrets.append(once("/auth/tokens", ADMIN, {"name": "t", "scopes": ["chat"]})["token"])
        secrets.append(once("/auth/local-session", SESSION_SECRET)["access_token"])
        for secret in secrets:
            for bearer in (secret, f"{secret}x"):
                ask("GET", "/sessions", bearer=bearer)
                ask("DELETE", "/nowhere", bearer=bearer)
            ask("POST", "/auth/local-session", bearer=f"{secret}x")
            ask("POST", "/auth/local-session/refresh", bearer=f"{secret}x")
        for path in ("models", "models/m", "agents/a", "auth/tokens", "sessions", "config/export", "settings", "audit"):
            ask("GET", f"/{path}")
        backup = run("backup", str(copy), settings={"BYTEBREW_DATA_DIR": str(data)})
        assert backup.returncode == int(ON_POSTGRESQL)  # which has backups of its own
        process.stop()
    assert "/api/v1/models" in process.errors  # it does speak of what was asked
    said = (process.output, process.errors, backup.stdout, backup.stderr)
    places += [everything(data), *(words.encode() for words in said)]
    places += [path.read_bytes() for path in (copy, *data.rglob("*")) if path.is_file()]
    for secret in secrets:
        for spelling in spellings(secret):
            assert not [place for place in places if spelling in place]


async def test_a_sealed_key_reaches_its_vendor_and_nobody_else(tmp_path: Path) -> None:
    provider = ScriptedProvider([])
    async with served_engine(providing(provider), data=tmp_path) as (_, client):
        model = {"name": "m", "type": "scripted", "model_name": "x", "api_key": VENDOR_KEY}
        assert VENDOR_KEY not in (await client.post("/api/v1/models", json=model)).text
        await client.post("/api/v1/agents", json={"name": "a", "model": "m"})
        await client.post("/api/v1/schemas", json={"name": "s", "entry_agent": "a", "chat_enabled": True})
        for change, sent in (({}, VENDOR_KEY), ({"api_key": ""}, VENDOR_KEY), ({"api_key": NEXT_KEY}, NEXT_KEY)):
            await client.put("/api/v1/models/m", json=change)
            answer = await client.post("/api/v1/schemas/s/chat", json={"message": "Hi", "stream": False})
            assert provider.requests[-1].api_key == sent
            assert sent not in answer.text


async def without_key(data: Path) -> Path:
    """The place of the key of a database with a credential, as after a restore of the database alone."""
    async with served_engine(providing(ScriptedProvider([])), data=data) as (_, client):
        await client.post("/api/v1/models", json={"name": "m", "type": "scripted", "model_name": "x", "api_key": "k"})
        await client.post("/api/v1/agents", json={"name": "a", "model": "m"})
        await client.post("/api/v1/schemas", json={"name": "s", "entry_agent": "a", "chat_enabled": True})
    key = data / "keys" / "secrets.key"
    key.unlink()
    return key


async def test_a_database_without_its_key_stops_the_boot_and_says_what_to_do(tmp_path: Path) -> None:
    key = await without_key(tmp_path)
    cure = "in the data folder: copy it from a node" if ON_POSTGRESQL else ", and 1 stored credentials cannot be opened"
    with pytest.raises(BootError, match=rf"secrets\.key is missing ?{cure}"):
        async with Engine(on_store({"BYTEBREW_DATA_DIR": str(tmp_path)})):
            pass
    assert not key.exists()


@pytest.mark.sqlite  # where other nodes may have the key, none starts with another
async def test_under_a_new_key_credentials_are_set_anew_where_they_are_needed(tmp_path: Path) -> None:
    body = {"message": "Hi", "stream": False}
    (await without_key(tmp_path)).write_text(f"{'5e' * 32}\n")
    async with served_engine(providing(ScriptedProvider([])), data=tmp_path) as (_, client):
        refused = await client.post("/api/v1/schemas/s/chat", json=body)
        assert refused.status_code == 422
        assert check_refusal(refused)["error"] == "credential_sealed"
        assert (await client.put("/api/v1/models/m", json={"api_key": "anew"})).status_code == 200
        assert (await client.post("/api/v1/schemas/s/chat", json=body)).status_code == 200
