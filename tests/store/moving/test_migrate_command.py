"""`bytebrew migrate` on a PostgreSQL server: what it prints, and engines that go on with what it has copied."""

import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx
import pytest

from bytebrew import testing
from bytebrew.contract.entities import NewModel
from bytebrew.engine import Engine
from bytebrew.store.configuration import models
from tests.commands import run
from tests.store.moving.places import NEWEST, Place, empty_database, new_place, upgraded
from tests.upgrades.conftest import old_data, unpacked

__all__ = ["old_data", "unpacked"]
pytestmark = pytest.mark.postgresql


@pytest.fixture
def old(old_data: Callable[[str], Path]) -> Place:
    return upgraded(old_data(NEWEST))


@asynccontextmanager
async def served(data: Path, url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        testing.engine(data=data, settings={"BYTEBREW_DATABASE_URL": url}) as engine,
        testing.client(engine) as client,
    ):
        yield client


async def replays(client: httpx.AsyncClient) -> dict[str, bytes]:
    """The events of each ended session, as clients get them."""
    sessions = (await client.get("/api/v1/sessions", params={"limit": 100})).raise_for_status().json()["data"]
    return {
        one["id"]: (await client.get(f"/api/v1/sessions/{one['id']}/events", params={"follow": "false"})).content
        for one in sessions
        if one["status"] == "completed"
    }


def uploads(data: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (data / "files").iterdir()}


async def answers(client: httpx.AsyncClient) -> Any:
    """What full-text searches find."""
    [memory] = (await client.get("/api/v1/schemas/desk/memory")).raise_for_status().json()
    [base] = (await client.get("/api/v1/knowledge-bases")).raise_for_status().json()
    found = await client.get(f"/api/v1/knowledge-bases/{base['id']}/search", params={"q": "opens"})
    return memory["content"], [one["file_name"] for one in found.raise_for_status().json()["results"]]


async def test_engines_go_on_with_the_copy_there_and_back(old: Place, tmp_path: Path) -> None:
    shutil.copytree(old.data, kept := tmp_path / "kept")
    async with served(kept, "") as client:
        expected, found = await replays(client), await answers(client)
    assert len(expected) > 1
    files = uploads(kept)
    assert files
    url, back = empty_database(), tmp_path / "back"
    there = run("migrate", "--to", url, settings=old.settings)
    assert there.returncode == 0, there.stderr
    async with served(old.data, url) as client:
        assert {key: value for key, value in (await replays(client)).items() if key in expected} == expected
        assert await answers(client) == found
    assert uploads(old.data) == {}  # they are in the database
    settings = {"BYTEBREW_DATA_DIR": str(old.data), "BYTEBREW_DATABASE_URL": url}
    again = run("migrate", "--to", str(back), settings=settings)
    assert again.returncode == 0, again.stderr
    async with served(back, "") as client:
        assert {key: value for key, value in (await replays(client)).items() if key in expected} == expected
        assert await answers(client) == found
    assert uploads(back) == files
    with closing(sqlite3.connect(back / "bytebrew.db")) as conn:
        assert conn.execute("select * from knowledge_blobs").fetchall() == []
        indexed = conn.execute("select content from memory_search where memory_search match 'shop'").fetchall()
        assert indexed == [("The shop opens at nine",)]


def test_it_says_what_it_copied_and_what_to_set_next(old: Place) -> None:
    url = empty_database()
    done = run("migrate", "--to", url.replace("@/", "@localhost/"), settings=old.settings)
    assert done.returncode == 0, done.stderr
    first, compared, kept, following = done.stdout.splitlines()
    assert first.startswith("copied ")
    assert "rows from" in first
    assert compared.startswith("all tables have as many rows, and ")
    assert kept.endswith("an engine on it would begin history epoch 2")
    assert following.startswith("next: set BYTEBREW_DATABASE_URL=postgresql://***@localhost/")
    assert "secrets.key" in following


def test_the_password_is_never_printed(old: Place, tmp_path: Path) -> None:
    url = empty_database()
    secret = url.partition("@")[0].rpartition(":")[2]
    assert len(secret) > 10
    settings = {"BYTEBREW_DATA_DIR": str(old.data), "BYTEBREW_DATABASE_URL": url, "BYTEBREW_LOG_LEVEL": "debug"}
    nowhere = f"postgresql://bytebrew:{secret}@127.0.0.1:1/none"
    for outcome in (
        run("migrate", "--to", url, settings=old.settings | {"BYTEBREW_LOG_LEVEL": "debug"}),
        run("migrate", "--to", url, settings=old.settings),  # it is not empty any more
        run("migrate", "--to", nowhere, settings=old.settings),
        run("migrate", "--to", f"postgresql://bytebrew:{secret}/more@127.0.0.1/none", settings=old.settings),
        run("doctor", settings=settings),
        run("doctor", settings=settings | {"BYTEBREW_DATABASE_URL": nowhere}),
        run("gc", settings=settings),
        run("gc", settings=settings | {"BYTEBREW_DATABASE_URL": nowhere}),
        run("config", "export", settings=settings),
        run("backup", str(tmp_path / "b.tar"), settings=settings),
    ):
        assert outcome.stdout + outcome.stderr
        assert secret not in outcome.stdout + outcome.stderr, outcome.args


async def test_no_route_shows_the_password(old: Place) -> None:
    url = empty_database()
    secret = url.partition("@")[0].rpartition(":")[2]
    async with served(old.data, url) as client:
        for path in ("environment", "health?deep=true", "settings", "plugins", "config/export"):
            answer = await client.get(f"/api/v1/{path}")
            assert answer.status_code == 200, path
            assert secret not in answer.text
        [setting] = [
            one for one in (await client.get("/api/v1/environment")).json() if one["name"] == "BYTEBREW_DATABASE_URL"
        ]
        assert setting["value"].startswith("postgresql://***@")


async def test_backups_are_those_of_the_database(old: Place, tmp_path: Path) -> None:
    url = empty_database()
    settings = {"BYTEBREW_DATA_DIR": str(old.data), "BYTEBREW_DATABASE_URL": url}
    (file := tmp_path / "b.tar").touch()
    for command in ("backup", "restore"):
        refused = run(command, str(file), settings=settings)
        assert refused.returncode == 1
        assert "back that up with its own means, such as pg_dump" in refused.stderr
    async with served(old.data, url) as client:
        answer = await client.post("/api/v1/backups")
        assert answer.status_code == 409
        assert "such as pg_dump" in answer.json()["message"]
        assert (await client.get("/api/v1/backups")).json()["data"] == []


def test_the_doctor_examines_the_server(tmp_path: Path) -> None:
    old, url = new_place("sqlite", tmp_path / "data"), empty_database()
    with (engine := Engine(old.settings)).migrated() as conn:
        model = NewModel(name="far", type="openai_chat", model_name="m", api_key="sk-of-the-shop")
        models.create(conn, model, engine.secrets)
    settings = {"BYTEBREW_DATA_DIR": str(old.data), "BYTEBREW_DATABASE_URL": url, "BYTEBREW_PORT": "0"}
    empty = run("doctor", settings=settings)
    assert empty.returncode == 0, empty.stdout + empty.stderr
    for line in (
        "ok  database: postgresql://",
        "ok  encoding: the database",
        "ok  rights: the role bytebrew may create tables in the schema public",
        "ok  clock: the server's clock is 0.",
        "ok  pooler: connections keep their server process",
        "ok  tables: there are none yet; `bytebrew serve` makes them",
        "ok  vectors: ",
    ):
        assert line in empty.stdout
    assert run("migrate", "--to", url, settings=old.settings).returncode == 0
    whole = run("doctor", settings=settings).stdout
    assert "ok  tables: they are there and up to date; none depends on a collation of the system" in whole
    assert "secrets.key opens all 1 stored credentials" in whole
    (old.data / "keys" / "secrets.key").write_text("0" * 64 + "\n")
    other = run("doctor", settings=settings)
    assert other.returncode == 1
    assert "BAD keys: " in other.stdout


async def test_nothing_is_copied_while_a_node_runs(old: Place, tmp_path: Path) -> None:
    url = empty_database()
    assert run("migrate", "--to", url, settings=old.settings).returncode == 0
    settings = {"BYTEBREW_DATA_DIR": str(tmp_path / "other"), "BYTEBREW_DATABASE_URL": url}
    (tmp_path / "other" / "keys").mkdir(parents=True)
    (tmp_path / "other" / "keys" / "secrets.key").write_text("0" * 64 + "\n")
    async with served(old.data, url):
        refused = await anyio.to_thread.run_sync(
            lambda: run("migrate", "--to", str(tmp_path / "back"), settings=settings)
        )
        assert refused.returncode == 1
        assert "run on postgresql://" in refused.stderr
        assert "stop them" in refused.stderr
        refused = await anyio.to_thread.run_sync(lambda: run("migrate", "--to", url, settings=old.settings))
        assert refused.returncode == 1
        assert "another engine runs on the data folder" in refused.stderr
    refused = run("migrate", "--to", str(tmp_path / "back"), settings=settings)
    assert refused.returncode == 1
    assert "opens none of the" in refused.stderr
    shutil.rmtree(tmp_path / "back")
    settings["BYTEBREW_DATA_DIR"] = str(old.data)
    stopped = run("migrate", "--to", str(tmp_path / "back"), settings=settings)
    assert stopped.returncode == 0, stopped.stderr


def test_a_node_with_another_key_is_refused(old: Place, tmp_path: Path) -> None:
    url = empty_database()
    assert run("migrate", "--to", url, settings=old.settings).returncode == 0
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "secrets.key").write_text("0" * 64 + "\n")
    other = {"BYTEBREW_DATA_DIR": str(tmp_path), "BYTEBREW_DATABASE_URL": url, "BYTEBREW_PORT": "0"}
    refused = run("serve", settings=other)
    assert refused.returncode == 1
    assert "put the keys/secrets.key of a node in its place" in refused.stderr


def test_without_the_data_folder_of_an_engine_it_makes_nothing(tmp_path: Path) -> None:
    settings = {"BYTEBREW_DATA_DIR": str(tmp_path / "data"), "BYTEBREW_DATABASE_URL": empty_database()}
    for target, lacks in ((settings["BYTEBREW_DATABASE_URL"], "database"), (str(tmp_path / "back"), "key")):
        refused = run("migrate", "--to", target, settings=settings)
        assert refused.returncode == 1
        assert f"there is no {lacks} at {tmp_path / 'data'}" in refused.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_needs_a_database_to_copy_from(old: Place, tmp_path: Path) -> None:
    refused = run("migrate", "--to", str(tmp_path / "back"), settings=old.settings | {"BYTEBREW_DATABASE_URL": ""})
    assert refused.returncode == 2
    assert "BYTEBREW_DATABASE_URL: it names the database that is copied into a folder" in refused.stderr


def test_commands_on_the_data_work_on_the_database(old: Place, tmp_path: Path) -> None:
    url = empty_database()
    settings = {"BYTEBREW_DATA_DIR": str(old.data), "BYTEBREW_DATABASE_URL": url}
    assert run("migrate", "--to", url, settings=old.settings).returncode == 0
    swept = run("gc", settings=settings)
    assert swept.returncode == 0, swept.stderr
    assert "postgresql://" in swept.stdout
    exported = run("config", "export", settings=settings)
    assert exported.returncode == 0, exported.stderr
    (file := tmp_path / "config.yaml").write_text(exported.stdout)
    for command in (("config", "diff"), ("config", "import")):
        done = run(*command, str(file), settings=settings)
        assert done.returncode == 0, done.stdout + done.stderr
