"""An engine in a locked-down container: it can write to its volume alone, and its user is nobody in particular."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from bytebrew.testing import ADMIN
from tests.commands import BYTEBREW, environment
from tests.containers import MOUNTED, UID, contained, only_as_root, volume
from tests.processes import serving
from tests.stored import ON_POSTGRESQL, on_store

LARGE = """
import sys
from pathlib import Path
from bytebrew.store.sqlite.pragmas import connect
conn = connect(Path(sys.argv[1]))
conn.execute("create table large (bytes blob)")
rows = "with recursive numbers(n) as (select 1 union all select n + 1 from numbers limit 4000) select n from numbers"
conn.execute(f"insert into large select randomblob(1000) from ({rows})")
conn.execute("create index sorted on large (bytes)")
conn.execute("begin")
conn.execute("savepoint work")
conn.execute("update large set bytes = randomblob(1000)")
conn.execute("rollback to work")
conn.execute("commit")
print(conn.execute("select count(*) from large").fetchone()[0])
"""
SHOP = str(Path(__file__).parents[2] / "examples" / "configs" / "shop.yaml")


WRITTEN = ("keys",) if ON_POSTGRESQL else ("keys", "bytebrew.db")


def mounted(data: Path) -> dict[str, str]:
    """The settings of an engine that finds the data folder at another place."""
    return {**on_store({"BYTEBREW_DATA_DIR": str(data)}), "BYTEBREW_DATA_DIR": str(MOUNTED)}


def command(data: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """One command in the container."""
    given = environment({**mounted(data), "BYTEBREW_PORT": "0"})
    return subprocess.run(
        contained(data, *BYTEBREW, *arguments), env=given, capture_output=True, text=True, timeout=30, check=False
    )


@only_as_root
def test_an_engine_boots_and_answers_where_only_its_volume_can_be_written_to(tmp_path: Path) -> None:
    data = volume(tmp_path / "data")
    with serving(MOUNTED, mounted(data), contained(data, *BYTEBREW)) as engine:
        headers = {"Authorization": f"Bearer {ADMIN}"}
        body = {"message": "What is the current_time?", "stream": False}
        said = httpx.post(f"{engine.url}/api/v1/schemas/demo/chat", json=body, headers=headers, timeout=30)
        assert said.status_code == 200, said.text
        assert httpx.get(f"{engine.url}/api/v1/health?deep=true", headers=headers).json()["database"] == "ok"
        assert engine.stop() == 0
    assert " warning " not in engine.errors
    assert " error " not in engine.errors
    assert {str((data / name).stat().st_uid) for name in WRITTEN} == {UID}
    assert data.stat().st_mode & 0o7777 == 0o2775, "the volume keeps the rights that its owner gave it"


@only_as_root
@pytest.mark.timeout(180)
def test_every_command_works_there(tmp_path: Path) -> None:
    data = volume(tmp_path / "data")
    for arguments in (
        ("doctor",),
        ("config", "validate", SHOP),
        ("config", "diff", SHOP),
        ("token", "create", "x", "--scope", "chat"),
        ("config", "export"),
        *(() if ON_POSTGRESQL else (("backup", str(MOUNTED / "copy")), ("restore", str(MOUNTED / "copy")))),
        ("gc",),
        ("doctor",),
    ):
        done = command(data, *arguments)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)


@pytest.mark.sqlite
@only_as_root
def test_sqlite_sorts_and_undoes_much_without_a_folder_for_temporary_files(tmp_path: Path) -> None:
    data = volume(tmp_path / "data")
    program = contained(data, sys.executable, "-c", LARGE, str(MOUNTED / "large.db"))
    done = subprocess.run(program, env=environment(), capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("4000\n", "")


@only_as_root
def test_doctor_tries_what_serve_needs(tmp_path: Path) -> None:
    data = volume(tmp_path / "data")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=64k,mode=2770,uid=0,gid={data.stat().st_gid}", "none", data])
    try:
        done = command(data, "doctor")
    finally:
        subprocess.run(["umount", data], check=True)
    assert done.returncode == 1
    assert "BAD serve: cannot start with its data on the disk of" in done.stdout


@only_as_root
def test_doctor_leaves_a_volume_of_another_owner_to_them(tmp_path: Path) -> None:
    data = volume(tmp_path / "data")
    assert command(data, "token", "create", "x", "--scope", "chat").returncode == 0
    for mode, code in ((0o2770, 0), (0o2775, 0), (0o2777, 1)):
        data.chmod(mode)
        done = command(data, "doctor")
        assert done.returncode == code, done.stdout
    assert f"BAD rights: {MOUNTED} is open to others (2777); have its owner, uid 0, run chmod o-w" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_rights_of_a_folder_that_is_ours_are_closed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    with serving(tmp_path / "data") as engine:
        assert engine.stop() == 0
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
