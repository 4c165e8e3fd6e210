"""`bytebrew backup` and `bytebrew restore`: what comes back, what is kept, what is refused."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.archives import database
from tests.commands import environment, install, run
from tests.processes import serving
from tests.store.sqlite.test_epoch import epoch, resumed, say

pytestmark = pytest.mark.sqlite

NOTES = """
from bytebrew import Migration, hookimpl

@hookimpl
def register_migrations(register):
    for number in range(1, {newest} + 1):
        register(Migration(number, f"create table notes{number} (id integer primary key) strict"))
"""

KILLED = """
import os, signal, sys
from bytebrew.__main__ import main

def look(event, given):
    if event == os.environ["STEP"] and "bytebrew.db" in str(given[0]):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(look)
main()
"""


OVERTAKEN = """
import os, subprocess, sys
from bytebrew.__main__ import main

def look(event, given):
    if event == "open" and str(given[0]).endswith("archive"):
        restored.append(subprocess.run([sys.executable, "-m", "bytebrew", "restore", os.environ["COPY"]]).returncode)

restored = []
sys.addaudithook(look)
try:
    main()
finally:
    assert restored == [0]
"""


def settings(data: Path, **others: str) -> dict[str, str]:
    return {"BYTEBREW_DATA_DIR": str(data), **others}


def files(data: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in data.iterdir() if path.is_file()}


def backed_up(data: Path, copy: Path) -> tuple[str, list[str], list[str]]:
    """A session, its ids up to a backup of a running engine, and those after it; the engine was killed at the end."""
    with serving(data) as engine:
        session_id, before = say(engine)
        assert run("backup", str(copy), settings=settings(data)).returncode == 0
        _, after = say(engine, session_id)
        engine.kill()
    return session_id, before, after


def test_a_client_of_a_restored_engine_is_refused_and_reads_again_from_the_start(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy.db"
    session_id, before, after = backed_up(data, copy)
    done = run("restore", str(copy), settings=settings(data))
    assert done.returncode == 0, done.stderr
    assert f"restored {copy} with 1 session, the newest of 2" in done.stdout
    assert "its history epoch is 2" in done.stdout
    assert "keys and 0 uploads" in done.stdout
    with serving(data) as engine:
        for last in (before[0], before[-1], after[-1]):
            assert resumed(engine, session_id, last) == (410, "history_changed")
        _, again = say(engine, session_id)
        assert again == [f"2:{number}" for number in after]
        assert resumed(engine, session_id, after[-1]) == (410, "history_changed")
        assert resumed(engine, session_id, again[-1]) == (200, "")
        assert engine.stop() == 0
    assert " error " not in engine.errors


def test_what_is_replaced_is_kept_whole(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy.db"
    _, before, after = backed_up(data, copy)
    done = run("restore", str(copy), settings=settings(data))
    (kept,) = data.glob("bytebrew.db.replaced-*Z")
    assert f"what was there is {kept} now" in done.stdout
    assert kept.stat().st_mode & 0o777 == (data / "bytebrew.db").stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(f"{kept.as_uri()}?mode=ro&immutable=1", uri=True)) as conn:
        assert conn.execute("pragma integrity_check").fetchone() == ("ok",)
        assert conn.execute("select max(n) from events").fetchone()[0] == len(before) + len(after)
    assert run("restore", str(kept), settings=settings(data)).returncode == 0
    assert epoch(data) == 3
    assert len(list(data.glob("bytebrew.db.replaced-*Z*"))) >= 2


def test_every_restore_begins_another_epoch(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy.db"
    backed_up(data, copy)
    for number in (2, 3, 4):
        assert run("restore", str(copy), settings=settings(data)).returncode == 0
        assert epoch(data) == number
    assert run("restore", str(data / "bytebrew.db"), settings=settings(tmp_path / "other")).returncode == 0
    assert epoch(tmp_path / "other") > 4


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"no database" * 1000), Path.unlink])
def test_every_restore_begins_another_epoch_whatever_became_of_the_last_one(
    damage: Callable[[Path], object], tmp_path: Path
) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy.db"
    backed_up(data, copy)
    epochs = []
    for _ in range(3):
        assert run("restore", str(copy), settings=settings(data)).returncode == 0
        epochs.append(epoch(data))
        damage(data / "bytebrew.db")
    assert len({*epochs}) == 3


def killed_at(step: str, data: Path, copy: Path) -> None:
    """A restore that ends by SIGKILL as it is about to do something with the database."""
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, "restore", str(copy)],
        env=environment(settings(data, STEP=step)),
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr


def test_a_restore_that_is_killed_before_all_is_prepared_leaves_what_was_there(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy.db"
    session_id, _, after = backed_up(data, copy)
    killed_at("os.rename", data, copy)
    assert (data / "restoring").exists()
    with serving(data) as engine:
        assert not (data / "restoring").exists(), "a copy with all credentials, as large as the backup"
        assert resumed(engine, session_id, after[-1]) == (200, "")
        assert engine.stop() == 0
    assert "missing" not in engine.errors
    assert run("restore", str(copy), settings=settings(data)).returncode == 0
    assert epoch(data) == 2


def test_a_restore_that_is_killed_after_that_is_brought_to_its_end_by_the_next_start(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy.db"
    session_id, before, after = backed_up(data, copy)
    key = (data / "keys" / "secrets.key").read_text()
    (data / "keys" / "secrets.key").write_text("0" * 64)
    killed_at("os.link", data, copy)
    with serving(data) as engine:
        assert resumed(engine, session_id, after[-1]) == (410, "history_changed")
        assert resumed(engine, session_id, f"2:{len(before)}") == (200, "")
        assert engine.stop() == 0
    assert " error " not in engine.errors
    assert (data / "keys" / "secrets.key").read_text() == key
    assert not (data / "restoring").exists()
    assert {path.name.partition(".replaced-")[0] for path in data.glob("*.replaced-*")} >= {"keys", "bytebrew.db"}


def test_no_backup_has_the_keys_of_a_killed_restore_beside_the_database_of_before(tmp_path: Path) -> None:
    data, other, copy, mixed = (tmp_path / name for name in ("data", "other", "copy.tar", "mixed.tar"))
    for folder in (data, other):
        assert run("token", "create", "x", "--scope", "chat", settings=settings(folder)).returncode == 0
    assert run("backup", str(copy), settings=settings(other)).returncode == 0
    killed_at("os.link", data, copy)
    refused = run("backup", str(mixed), settings=settings(data))
    assert refused.returncode == 1
    assert "a restore has not put all in place yet" in refused.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.tar", "data", "other"]
    examined = run("doctor", settings=settings(data, BYTEBREW_PORT="0"))
    assert examined.returncode == 1
    assert "BAD restore: a restore has not put all in place yet" in examined.stdout
    assert "BAD keys" not in examined.stdout
    assert run("token", "list", settings=settings(data)).returncode == 0
    assert run("backup", str(mixed), settings=settings(data)).returncode == 0


def test_a_backup_during_which_the_database_was_replaced_is_none(tmp_path: Path) -> None:
    data, copy, mixed = tmp_path / "data", tmp_path / "copy.tar", tmp_path / "mixed.tar"
    assert run("token", "create", "x", "--scope", "chat", settings=settings(data)).returncode == 0
    assert run("backup", str(copy), settings=settings(data)).returncode == 0
    others = environment(settings(data, COPY=str(copy)))
    command = [sys.executable, "-c", OVERTAKEN, "backup", str(mixed)]
    done = subprocess.run(command, env=others, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "the database was replaced meanwhile; try again" in done.stderr
    assert not mixed.exists()


def test_a_damaged_database_is_replaced_and_kept_with_its_log(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy.db"
    session_id, before, _ = backed_up(data, copy)
    (data / "bytebrew.db").write_bytes(b"no database" * 1000)
    log = (data / "bytebrew.db-wal").read_bytes()
    done = run("restore", str(copy), settings=settings(data))
    assert done.returncode == 0, done.stderr
    (kept,) = data.glob("bytebrew.db.replaced-*Z")
    assert kept.read_bytes() == b"no database" * 1000
    assert kept.with_name(f"{kept.name}-wal").read_bytes() == log
    with serving(data) as engine:
        assert resumed(engine, session_id, f"{epoch(data)}:{len(before)}") == (200, "")


def test_a_folder_without_a_database_gets_one(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy.db"
    session_id, before, _ = backed_up(data, copy)
    done = run("restore", str(copy), settings=settings(tmp_path / "new"))
    assert (done.returncode, "what was there" in done.stdout) == (0, False)
    with serving(tmp_path / "new") as engine:
        assert resumed(engine, session_id, f"{epoch(tmp_path / 'new')}:{len(before)}") == (200, "")


def test_an_engine_that_runs_is_left_alone(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy.db"
    with serving(data) as engine:
        say(engine)
        assert run("backup", str(copy), settings=settings(data)).returncode == 0
        other = tmp_path / "other"
        other.mkdir()
        os.link(data / "bytebrew.db", other / "bytebrew.db")
        for folder in (data, other):
            before = files(folder).keys()
            done = run("restore", str(copy), settings=settings(folder))
            assert (done.returncode, done.stdout) == (1, "")
            assert "another engine runs on" in done.stderr
            assert files(folder).keys() == before | {"engine.lock"}
        assert say(engine)[1][0] == "1"


def test_what_is_no_sound_database_of_an_engine_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    data, copy, bad = tmp_path / "data", tmp_path / "copy.db", tmp_path / "bad.db"
    backed_up(data, copy)
    before = files(data)

    def refused(words: str) -> None:
        done = run("restore", str(bad), settings=settings(data))
        assert (done.returncode, done.stdout, words in done.stderr) == (1, "", True), done.stderr
        assert "Traceback" not in done.stderr
        assert files(data) == before

    bad.write_bytes(b"no database" * 1000)
    refused("file is not a database")
    bad.write_bytes(b"")
    refused("no database of ByteBrew")
    raw = bytearray(database(copy).read_bytes())
    raw[4096 * 12 : 4096 * 20] = os.urandom(4096 * 8)
    bad.write_bytes(raw)
    refused(f"{bad} cannot be restored:")
    shutil.copy(database(copy), bad)
    with closing(sqlite3.connect(bad, isolation_level=None)) as conn:
        conn.execute("insert into migrations (owner, number, applied_at) values ('core', 99, '')")
    refused("newer than this core: it has migration 99")


def test_a_backup_of_a_newer_plugin_is_refused(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy.db"
    for folder, newest in (("old", "1"), ("new", "2")):
        install(tmp_path / folder, "notes", NOTES.replace("{newest}", newest))
    given = settings(data, BYTEBREW_PLUGINS_DIR=str(tmp_path / "new"))
    assert run("token", "create", "x", "--scope", "chat", settings=given).returncode == 0
    assert run("backup", str(copy), settings=given).returncode == 0
    assert run("restore", str(copy), settings=given).returncode == 0
    older = run("restore", str(copy), settings=settings(data, BYTEBREW_PLUGINS_DIR=str(tmp_path / "old")))
    assert older.returncode == 1
    assert "newer than this notes: it has migration 2, known is 1; install the newer version" in older.stderr


def test_the_database_itself_is_no_backup_of_it(tmp_path: Path) -> None:
    assert run("token", "create", "x", "--scope", "chat", settings=settings(tmp_path)).returncode == 0
    done = run("restore", str(tmp_path / "bytebrew.db"), settings=settings(tmp_path))
    assert (done.returncode, "is the database of" in done.stderr) == (1, True)


def test_a_copy_of_a_running_engine_without_its_log_is_restored_with_a_warning(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as engine:
        say(engine)
        shutil.copy(tmp_path / "data" / "bytebrew.db", tmp_path / "torn.db")
    done = run("restore", str(tmp_path / "torn.db"), settings=settings(tmp_path / "new"))
    assert (done.returncode, "without the log beside it" in done.stderr) == (0, True), done.stderr


def test_a_link_to_a_database_stays_a_link(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy.db"
    backed_up(data, copy)
    (tmp_path / "disk").mkdir()
    for path in data.glob("bytebrew.db*"):
        path.rename(tmp_path / "disk" / path.name)
    (data / "bytebrew.db").symlink_to(tmp_path / "disk" / "bytebrew.db")
    assert run("restore", str(copy), settings=settings(data)).returncode == 0
    assert (data / "bytebrew.db").is_symlink()
    assert epoch(tmp_path / "disk") == 2
    assert len(list((tmp_path / "disk").glob("*.replaced-*Z"))) == 1
