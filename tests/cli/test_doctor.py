"""What `bytebrew doctor` finds, in good health and in bad."""

import os
import shutil
import socket
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from bytebrew.contract.entities import NewModel
from bytebrew.store.configuration import models
from bytebrew.testing import ScriptedProvider, engine, providing
from tests.commands import BYTEBREW, environment, run
from tests.stored import ON_POSTGRESQL, changed


def doctor(data: Path, **settings: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Its exit code, and by what was looked at: `ok` or `BAD`, and its words."""
    done = run("doctor", settings={"BYTEBREW_DATA_DIR": str(data), "BYTEBREW_PORT": "0", **settings})
    assert done.stderr == ""
    found: dict[str, tuple[str, str]] = {}
    for line in done.stdout.splitlines():
        what, _, words = line[4:].partition(": ")
        if what not in found or line.startswith("BAD"):
            found[what] = (line[:3].strip(), words)
    return done.returncode, found


async def fill(data: Path) -> None:
    """A data folder as an engine leaves it, with a stored credential and a few hundred rows."""
    async with engine(providing(ScriptedProvider()), data=data) as running:
        for n in range(300):
            model = NewModel(name=f"model-{n}", type="scripted", model_name="x" * 200, api_key="sk-stored")
            await running.db.write(models.create, model, running.secrets)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    anyio.run(fill, tmp_path / "data")
    return tmp_path / "data"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_healthy_engine_is_told_so_and_left_as_it_is(data: Path) -> None:
    before = contents(data)
    code, found = doctor(data)
    assert code == 0
    expected = {"plugins", "port", "serve", "rights", "database", "keys"}
    if ON_POSTGRESQL:
        expected |= {"encoding", "clock", "pooler", "tables", "vectors"}
    assert {what: state for what, (state, _) in found.items()} == dict.fromkeys(expected, "ok")
    assert "demo" in found["plugins"][1]
    assert found["keys"][1].endswith("opens all 300 stored credentials")
    after = contents(data)
    assert {name: after[name] for name in before} == before


@pytest.mark.sqlite
def test_a_folder_that_is_not_there_yet_is_no_fault(tmp_path: Path) -> None:
    code, found = doctor(tmp_path / "data")
    assert (code, found["data"][0]) == (0, "ok")
    assert not (tmp_path / "data").exists()
    (tmp_path / "data").mkdir(mode=0o700)
    assert doctor(tmp_path / "data")[0] == 0


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        _, found = doctor(tmp_path, BYTEBREW_PORT=str(taken.getsockname()[1]))
    assert "something listens there" in found["port"][1]
    assert doctor(tmp_path)[1]["port"][1].endswith("free")


def test_an_address_that_is_not_this_machines_is_a_fault(tmp_path: Path) -> None:
    code, found = doctor(tmp_path / "data", BYTEBREW_HOST="192.0.2.1")
    assert code == 1
    assert found["port"] == (
        "BAD",
        "192.0.2.1:0 cannot be listened on (Cannot assign requested address); "
        "choose another BYTEBREW_HOST or BYTEBREW_PORT",
    )


@pytest.mark.parametrize("where", ["data", pytest.param("data/bytebrew.db", marks=pytest.mark.sqlite)])
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="rights do not bind root")
def test_what_this_user_cannot_write_is_a_fault_and_nothing_to_restore(where: str, data: Path) -> None:
    barred = data.parent / where
    barred.chmod(0o500)
    bound = [] if os.geteuid() else ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]
    settings = {"BYTEBREW_DATA_DIR": str(data), "BYTEBREW_PORT": "0"}
    done = subprocess.run([*bound, *BYTEBREW, "doctor"], env=environment(settings), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"BAD data: this user cannot read and write {barred}; see to its owner, its rights and" in done.stdout
    assert "backup" not in done.stdout


def test_a_file_in_the_place_of_the_data_folder_is_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for data in (file, file / "data"):
        code, found = doctor(data)
        assert (code, found["data"]) == (1, ("BAD", f"{file} is no folder; choose another BYTEBREW_DATA_DIR"))


@pytest.mark.parametrize(
    ("name", "mode", "cure"),
    [
        pytest.param("bytebrew.db", 0o644, "600", marks=pytest.mark.sqlite),
        ("keys/secrets.key", 0o640, "600"),
        ("keys", 0o755, "700"),
        (".", 0o711, "700"),
    ],
)
def test_rights_that_let_others_in_are_named_with_the_cure(name: str, mode: int, cure: str, data: Path) -> None:
    (data / name).chmod(mode)
    code, found = doctor(data)
    assert code == 1
    assert found["rights"] == ("BAD", f"{data / name} is open to others ({mode:o}); run chmod {cure} {data / name}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "BYTEBREW_CONFIG: {file} cannot be read: No such file or directory"),
        ("agents: [", "{file} does not fit; {file}:1:"),
        ("agents:\n  a: {modell: x}\n", "{file} does not fit; {file}:2:7: $.agents.a.modell: there is no field"),
    ],
    ids=["none", "no YAML", "unknown field"],
)
def test_a_configuration_that_serve_would_refuse_is_a_fault(text: str | None, words: str, data: Path) -> None:
    file = data.parent / "shop.yaml"
    if text is not None:
        file.write_text(text)
    code, found = doctor(data, BYTEBREW_CONFIG=str(file))
    assert (code, found["config"][0]) == (1, "BAD")
    assert found["config"][1].startswith(words.format(file=file))
    assert found["database"][0] == "ok", "the rest is looked at all the same"
    file.write_text("agents:\n  a: {system: x}\n")
    assert doctor(data, BYTEBREW_CONFIG=str(file))[0] == 0


@pytest.mark.sqlite
def test_a_damaged_page_is_found(data: Path) -> None:
    path = data / "bytebrew.db"
    with closing(sqlite3.connect(path)) as conn:
        size = conn.execute("pragma page_size").fetchone()[0]
        sql = "select rootpage from sqlite_master where name = 'models'"
        root = conn.execute(sql).fetchone()[0]
    with path.open("r+b") as file:
        file.seek((root - 1) * size + 8)
        file.write(b"\xff" * 64)
    code, found = doctor(data)
    assert (code, found["database"][0]) == (1, "BAD")
    assert "restore it from a backup" in found["database"][1]


@pytest.mark.sqlite
def test_a_row_that_points_nowhere_is_damage(data: Path) -> None:
    with closing(sqlite3.connect(data / "bytebrew.db")) as conn:
        conn.execute("insert into events (session_id, n, type, data) values ('no such session', 1, 'done', x'7b7d')")
        conn.commit()
    code, found = doctor(data)
    assert (code, found["database"][0]) == (1, "BAD")
    assert "1 rows point at nothing" in found["database"][1]


@pytest.mark.sqlite
def test_a_file_that_is_no_database_is_found(data: Path) -> None:
    (data / "bytebrew.db").write_bytes(b"no database" * 1000)
    code, found = doctor(data)
    assert (code, found["database"][0]) == (1, "BAD")
    assert "file is not a database" in found["database"][1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("insert into migrations values ('core', 99, 'today', '')", "the database is newer than this core"),
        ("update migrations set digest = 'another' where number = 1", "was edited after it had been applied"),
    ],
)
def test_tables_that_serve_would_refuse_are_a_fault(change: str, words: str, data: Path) -> None:
    with changed(data) as conn:
        conn.execute(change)
    code, found = doctor(data)
    finding = "tables" if ON_POSTGRESQL else "database"
    assert (code, found[finding][0]) == (1, "BAD")
    assert words in found[finding][1]


def test_a_missing_key_is_a_fault_where_credentials_are_stored(data: Path) -> None:
    (data / "keys" / "secrets.key").unlink()
    code, found = doctor(data)
    assert (code, found["keys"][0]) == (1, "BAD")
    assert "restore it, or the 300 stored credentials are lost" in found["keys"][1]
    assert not (data / "keys" / "secrets.key").exists()
    with changed(data) as conn:
        conn.execute("update models set sealed_key = x''")
    assert doctor(data)[0] == 0


@pytest.mark.parametrize("key", ["0" * 64, "", "no hex"])
def test_a_wrong_key_is_a_fault(key: str, data: Path) -> None:
    (data / "keys" / "secrets.key").write_text(key)
    code, found = doctor(data)
    assert (code, found["keys"][0]) == (1, "BAD")
    assert "restore" in found["keys"][1]
