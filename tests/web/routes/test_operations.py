"""Plugins, settings of the process and backups over REST."""

import asyncio
import tarfile
from pathlib import Path
from typing import Any

import pytest

from bytebrew import Notification, Register, Request, Route, Subscriber
from bytebrew.contract.connection import Connection
from bytebrew.store.backups.backup import Written
from bytebrew.store.backups.backup_folder import BackupFolder
from bytebrew.testing import ADMIN, plugin, served_engine
from bytebrew.version import CONTRACT
from tests.tables import all_but, check_refusal, token_with

SECRET = "bb_" + "5" * 64
READ = ("/api/v1/plugins", "/api/v1/environment", "/api/v1/backups")


@pytest.mark.parametrize("url", READ)
async def test_a_caller_without_the_scope_admin_is_refused(url: str) -> None:
    async with served_engine() as (running, client):
        token = await token_with(running, *all_but())
        headers = {"Authorization": f"Bearer {token.token}"}
        refused = await client.get(url, headers=headers)
        assert refused.status_code == 403
        check_refusal(refused)
        assert (await client.post("/api/v1/backups", headers=headers)).status_code == 403
        assert (await client.get("/api/v1/backups")).json()["data"] == []


async def test_plugins_are_listed_with_their_hooks_and_routes() -> None:
    async def fly(request: Request[None]) -> None:
        """Flies."""

    def register_routes(register: Register[Route]) -> None:
        register(Route("GET", "/api/v1/ducks", "chat", fly, "Fly"))
        register(Route("GET", "/ducks", None, fly, "Fly", page=True))

    duck, off = plugin("duck", register_routes=register_routes), {"BYTEBREW_DISABLED_PLUGINS": "ollama"}
    async with served_engine(duck, settings=off) as (_, client):
        answer = (await client.get("/api/v1/plugins")).json()
    assert (answer["contract"], answer["warnings"]) == (CONTRACT, [])
    listed = {one["name"]: one for one in answer["data"]}
    assert [*listed] == sorted(listed)
    assert listed["duck"] == {
        "name": "duck",
        "distribution": "handed in",
        "version": "0",
        "requires": 2,
        "state": "loaded",
        "hooks": ["register_routes"],
        "routes": ["GET /api/v1/ducks"],
        "failure": None,
    }
    assert (listed["ollama"]["state"], listed["ollama"]["hooks"], listed["ollama"]["requires"]) == ("disabled", [], 0)
    assert "GET /api/v1/auth/tokens" in listed["tokens"]["routes"]


async def test_the_last_exception_of_a_plugin_is_listed_without_credentials() -> None:
    async def actor_acted() -> None:
        raise ValueError(f"no pond for {SECRET}")

    def register_subscribers(register: Register[Subscriber]) -> None:
        def honk(conn: Connection, notification: Notification) -> None:
            raise OSError("no voice")

        register(honk)

    goose = plugin("goose", actor_acted=actor_acted, register_subscribers=register_subscribers)

    async def failure(client: Any) -> Any:
        listed = (await client.get("/api/v1/plugins")).json()["data"]
        return next(one["failure"] for one in listed if one["name"] == "goose")

    async with served_engine(goose) as (running, client):
        assert await failure(client) is None
        for value in (1, 2):
            await client.put("/api/v1/settings/custom.a", json={"value": value})
        found = await failure(client)
        assert (found["where"], found["count"]) == ("actor_acted", 2)
        assert found["message"] == "ValueError: no pond for ***"
        assert "in actor_acted" in found["traceback"]
        assert SECRET not in found["traceback"]
        await running.db.write(running.publish, Notification("budget.near", "b", {}))
        found = await failure(client)
        assert (found["where"], found["message"]) == ("its subscriber to budget.near", "OSError: no voice")


async def test_settings_of_the_process_have_their_value_and_its_source() -> None:
    settings = {"BYTEBREW_TOOL_TIMEOUT": "90", "BYTEBREW_CORS_ORIGINS": "https://a.example, https://b.example"}
    async with served_engine(settings=settings) as (_, client):
        rows = {row["name"]: row for row in (await client.get("/api/v1/environment")).json()}
    assert rows["BYTEBREW_TOOL_TIMEOUT"] == {
        "name": "BYTEBREW_TOOL_TIMEOUT",
        "value": "90s",
        "default": "60s",
        "help": "longest run of a tool that names no limit of its own",
        "source": "BYTEBREW_TOOL_TIMEOUT",
    }
    assert rows["BYTEBREW_CORS_ORIGINS"]["value"] == "https://a.example,https://b.example"
    assert (rows["BYTEBREW_PORT"]["value"], rows["BYTEBREW_PORT"]["source"]) == ("8443", None)
    secret = rows["BYTEBREW_BOOTSTRAP_ADMIN_TOKEN"]
    assert (secret["value"], secret["source"]) == (None, "BYTEBREW_BOOTSTRAP_ADMIN_TOKEN")
    assert rows["BYTEBREW_TOKEN"]["value"] is None
    assert rows["BYTEBREW_METRICS_TOKEN_REQUIRED"]["value"] == "False"


async def test_no_setting_of_the_process_shows_a_credential() -> None:
    signing = f"whsec_{'c2lnbmluZ2tl' * 4}"
    settings = {
        "BYTEBREW_CALLBACK_SECRET": f"{signing},whsec_{'b2xkc2lnbmlu' * 4}",
        "BYTEBREW_OTLP_HEADERS": "x-vendor-team=0123456789abcdef",
    }
    async with served_engine(settings=settings) as (_, client):
        answer = await client.get("/api/v1/environment")
    rows = {row["name"]: row["value"] for row in answer.json()}
    assert [rows[name] for name in settings] == [None, None]
    assert not [one for one in (ADMIN, "c2lnbmluZ2tl", "b2xkc2lnbmlu", "0123456789abcdef") if one in answer.text]


@pytest.mark.sqlite
async def test_a_backup_is_an_archive_in_the_data_folder_until_it_is_deleted() -> None:
    async with served_engine() as (running, client):
        folder = running.data_dir / "backups"
        empty = {"folder": str(folder), "running": False, "data": []}
        assert (await client.get("/api/v1/backups")).json() == empty
        assert not folder.exists()
        made = await client.post("/api/v1/backups")
        assert made.status_code == 201
        body = made.json()
        path = Path(body["path"])
        assert (path.parent, path.name) == (folder, body["name"])
        assert (folder.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)
        with tarfile.open(path) as archive:
            assert {"backup.json", "bytebrew.db", "keys/secrets.key"} <= {*archive.getnames()}
        second = (await client.post("/api/v1/backups")).json()
        listed = (await client.get("/api/v1/backups")).json()["data"]
        fields = ("name", "made_at", "bytes")
        assert sorted(listed, key=lambda one: one["name"]) == sorted(
            ({field: one[field] for field in fields} for one in (body, second)), key=lambda one: str(one["name"])
        )
        assert (await client.delete(f"/api/v1/backups/{body['name']}")).status_code == 204
        assert not path.exists()
        assert (await client.delete(f"/api/v1/backups/{body['name']}")).status_code == 404
        kept = (await client.get("/api/v1/backups")).json()["data"]
        assert [one["name"] for one in kept] == [second["name"]]


async def test_nothing_but_a_backup_is_deleted() -> None:
    async with served_engine() as (running, client):
        (running.data_dir / "backups").mkdir()
        own = running.data_dir / "backups" / "own.txt"
        own.write_text("mine")
        for name in ("own.txt", "..%2Fbytebrew.db", "bytebrew-20260101T000000Z.tar"):
            assert (await client.delete(f"/api/v1/backups/{name}")).status_code == 404
        assert own.exists()


@pytest.mark.sqlite
async def test_one_backup_is_written_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    write = BackupFolder.write

    def slowly(folder: BackupFolder) -> tuple[Path, Written]:
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(20)
        return write(folder)

    monkeypatch.setattr(BackupFolder, "write", slowly)
    async with served_engine() as (_, client):
        first = asyncio.create_task(client.post("/api/v1/backups"))
        await begun.wait()
        assert (await client.get("/api/v1/backups")).json()["running"]
        refused = await client.post("/api/v1/backups")
        assert refused.status_code == 409
        check_refusal(refused)
        go_on.set()
        assert (await first).status_code == 201
        assert not (await client.get("/api/v1/backups")).json()["running"]


@pytest.mark.sqlite
async def test_a_backup_that_cannot_be_written_says_why_and_leaves_nothing() -> None:
    async with served_engine() as (running, client):
        (running.data_dir / "backups").write_text("in the way")
        refused = await client.post("/api/v1/backups")
        assert (refused.status_code, refused.json()["error"]) == (503, "storage")
        assert "exists" in refused.json()["message"]


@pytest.mark.sqlite
async def test_what_a_killed_backup_left_goes_with_the_next_one() -> None:
    async with served_engine() as (running, client):
        left = running.data_dir / "backups" / ".bytebrew-20260101T000000Z.tar.part-abc"
        left.mkdir(parents=True)
        (left / "archive").write_text("half")
        assert (await client.post("/api/v1/backups")).status_code == 201
        assert not left.exists()
