"""`bytebrew backup`: database, keys and uploads in one archive, by hand or by schedule; copies before migrations."""

import fcntl
import io
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from bytebrew.base.errors import BootError
from bytebrew.store.backups import backup, before_migrating
from bytebrew.store.backups import copies as copying
from bytebrew.testing import ADMIN
from tests.archives import unpacked
from tests.commands import BYTEBREW, environment, install, run, start
from tests.processes import serving

pytestmark = pytest.mark.sqlite

HEADERS = {"Authorization": f"Bearer {ADMIN}"}
KNOWN = r"nightly-\d{8}T\d{6}Z"
NOTES = """
from bytebrew import Migration, hookimpl

@hookimpl
def register_migrations(register):
    for number in range(1, {newest} + 1):
        register(Migration(number, f"create table notes{number} (id integer primary key) strict"))
"""


def settings(data: Path, **others: str) -> dict[str, str]:
    return {"BYTEBREW_DATA_DIR": str(data), **others}


def fill(url: str) -> dict[str, bytes]:
    """A credential and uploads; the uploads by name."""
    uploads = {f"note-{n}.txt": f"The quokka number {n} sleeps.".encode() for n in range(3)}
    with httpx.Client(base_url=f"{url}/api/v1", headers=HEADERS, timeout=30) as client:
        model = {"name": "m", "type": "openai_compatible", "model_name": "x", "api_key": "sk-secret-0123456789abcdef"}
        assert client.post("/models", json=model).status_code == 201
        assert client.post("/knowledge-bases", json={"name": "docs"}).status_code == 201
        for name, content in uploads.items():
            sent = client.post("/knowledge-bases/docs/files", files={"file": (name, content)})
            assert sent.status_code == 201, sent.text
    return uploads


def until_indexed(client: httpx.Client) -> None:
    """Returns when every upload is searchable: an engine goes on with those that the backup has half indexed."""
    deadline = time.monotonic() + 20
    while (base := client.get("/knowledge-bases/docs").json())["status"] != "ready":
        assert time.monotonic() < deadline, base
        time.sleep(0.02)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("name", ["copy.tar", "copy.tar.gz"])
def test_one_archive_brings_database_keys_and_uploads_back_to_another_machine(name: str, tmp_path: Path) -> None:
    data, copy, other = tmp_path / "data", tmp_path / name, tmp_path / "other"
    with serving(data) as engine:
        uploads = fill(engine.url)
        (data / "files" / ".being-read").write_text("of a file that is just being indexed")
        done = run("backup", str(copy), settings=settings(data))
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert f"wrote {copy}, " in done.stderr
        assert f"and {len(uploads)} uploads" in done.stderr
        assert engine.stop() == 0
    assert copy.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, "data"]
    assert not list(data.glob(".backup-*"))
    with tarfile.open(copy) as archive:
        assert archive.getnames()[:2] == ["backup.json", "bytebrew.db"]
    done = run("restore", str(copy), settings=settings(other))
    assert done.returncode == 0, done.stderr
    assert f"keys and {len(uploads)} uploads; its history epoch is" in done.stdout
    assert files(other / "keys") == files(data / "keys")
    assert sorted(files(other / "files").values()) == sorted(uploads.values())
    checked = run("doctor", settings=settings(other, BYTEBREW_PORT="0"))
    assert checked.returncode == 0, checked.stdout
    assert "opens all 1 stored credentials" in checked.stdout
    with serving(other) as engine, httpx.Client(base_url=f"{engine.url}/api/v1", headers=HEADERS) as client:
        until_indexed(client)
        found = client.get("/knowledge-bases/docs/search?q=quokka").json()
        assert len(found["results"]) == len(uploads)


def test_a_restore_puts_back_all_three_and_keeps_what_was_there(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy.tar"
    with serving(data) as engine:
        fill(engine.url)
        assert run("backup", str(copy), settings=settings(data)).returncode == 0
        assert engine.stop() == 0
    keys, uploads = files(data / "keys"), files(data / "files")
    shutil.rmtree(data / "files")
    (data / "files").mkdir()
    (data / "files" / "later").write_text("later")
    (data / "keys" / "secrets.key").write_text("0" * 64)
    done = run("restore", str(copy), settings=settings(data))
    assert done.returncode == 0, done.stderr
    assert (files(data / "keys"), files(data / "files")) == (keys, uploads)
    (kept,) = data.glob("files.replaced-*")
    assert files(kept) == {"later": b"later"}
    (kept,) = data.glob("keys.replaced-*")
    assert (kept / "secrets.key").read_text() == "0" * 64
    assert f"what was there is {kept} now" in done.stdout


def test_a_restore_of_the_database_alone_says_what_stays(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "bytebrew.db.before-20260101T000000Z"
    assert run("token", "create", "x", "--scope", "chat", settings=settings(data)).returncode == 0
    with closing(sqlite3.connect(data / "bytebrew.db")) as connection:
        connection.execute("vacuum into ?", [str(copy)])
    done = run("restore", str(copy), settings=settings(data))
    assert done.returncode == 0, done.stderr
    assert f"{data / 'keys'} and {data / 'files'} stay as they are" in done.stderr


def test_an_upload_that_goes_while_a_backup_runs_is_in_it(tmp_path: Path) -> None:
    """The database of the archive names it."""
    data = tmp_path / "data"
    assert run("token", "create", "x", "--scope", "chat", settings=settings(data)).returncode == 0
    (data / "files").mkdir(exist_ok=True)
    for name in ("goes", "stays"):
        (data / "files" / name).write_text(name)

    with backup._uploads_kept(data / "files") as uploads:
        uploads()
        (data / "files" / "goes").unlink()
        (data / "files" / "comes").write_text("comes")
        assert {name: path.read_text() for name, path in uploads().items()} == {
            name: name for name in ("goes", "stays", "comes")
        }
    assert not list(data.glob(".backup-*"))


def test_what_a_killed_backup_has_left_goes_and_what_a_running_one_needs_stays(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert run("token", "create", "x", "--scope", "chat", settings=settings(data)).returncode == 0
    killed, running = data / ".backup-killed", data / ".backup-running"
    killed.mkdir()
    running.mkdir()
    alive = os.open(running, os.O_RDONLY)
    fcntl.flock(alive, fcntl.LOCK_EX)
    assert run("backup", str(tmp_path / "copy.tar"), settings=settings(data)).returncode == 0
    os.close(alive)
    assert (killed.exists(), running.exists()) == (False, True)


ENDED = """
import os, signal, sys
from bytebrew.__main__ import main

def look(event, given):
    if event == "open" and str(given[0]).endswith("/archive"):
        os.kill(os.getpid(), signal.SIGTERM)

sys.addaudithook(look)
main()
"""


def test_a_backup_that_is_asked_to_end_leaves_no_part_of_it(tmp_path: Path) -> None:
    data, copies = tmp_path / "data", tmp_path / "copies"
    copies.mkdir()
    assert run("token", "create", "x", "--scope", "chat", settings=settings(data)).returncode == 0
    command = [sys.executable, "-c", ENDED, "backup", str(copies / "copy.tar")]
    done = subprocess.run(command, env=environment(settings(data)), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.strip()) == (1, "")
    assert not list(copies.iterdir()), "a part has every credential, and nobody would remove it"
    assert not list(data.glob(".backup-*"))


def archive_of(path: Path, content: Mapping[str, bytes | str]) -> Path:
    """An archive of these members; a text is the target of a symbolic link."""
    with tarfile.open(path, "w") as archive:
        for name, raw in content.items():
            member = tarfile.TarInfo(name)
            if isinstance(raw, str):
                member.type, member.linkname = tarfile.SYMTYPE, raw
                archive.addfile(member)
            else:
                member.size = len(raw)
                archive.addfile(member, io.BytesIO(raw))
    return path


@pytest.mark.parametrize(
    "bad",
    [
        {"../evil": b"x"},
        {"keys/../../evil": b"x"},
        {"/evil": b"x"},
        {"evil": b"x"},
        {"keys/link": "/etc/passwd"},
        {"files": "/"},
        {},
    ],
    ids=lambda bad: next(iter(bad), "nothing"),
)
def test_an_archive_with_anything_else_in_it_is_refused_and_nothing_changes(
    bad: dict[str, bytes | str], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    assert run("token", "create", "x", "--scope", "chat", settings=settings(data)).returncode == 0
    before = files(data), files(data / "keys")
    archive = archive_of(tmp_path / "bad.tar", {"backup.json": b"{}", **bad})
    done = run("restore", str(archive), settings=settings(data))
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot be restored" in done.stderr
    assert "Traceback" not in done.stderr
    assert (files(data), files(data / "keys")) == ({**before[0], "engine.lock": b""}, before[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.tar", "data"]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
@pytest.mark.parametrize("name", ["copy.tar", "copy.tgz"])
def test_an_archive_that_was_cut_is_refused(name: str, share: float, tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / name
    assert run("token", "create", "x", "--scope", "chat", settings=settings(data)).returncode == 0
    (data / "files").mkdir(exist_ok=True)
    (data / "files" / "upload").write_bytes(os.urandom(100_000))
    assert run("backup", str(copy), settings=settings(data)).returncode == 0
    raw = copy.read_bytes()
    copy.write_bytes(raw[: int(min(len(raw) * share, len(raw) - 12_000))])
    done = run("restore", str(copy), settings=settings(data))
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert "cannot be restored" in done.stderr
    assert not list(data.glob("*replaced*"))


def test_a_backup_that_does_not_fit_on_the_disk_is_refused_before_it_is_begun(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(BootError, match=r"not enough space for the backup on the disk of .*: it takes .* bytes"):
        copying.check_space(tmp_path, free * 2, "the backup")


def test_a_restore_that_does_not_fit_on_the_disk_says_so_and_changes_nothing(tmp_path: Path) -> None:
    data, copy = tmp_path / "data", tmp_path / "copy.tgz"
    assert run("token", "create", "x", "--scope", "chat", settings=settings(data)).returncode == 0
    assert run("backup", str(copy), settings=settings(data)).returncode == 0
    before = files(data), files(data / "keys")
    limited = ["sh", "-c", 'ulimit -f 100; exec "$@"', "sh", *BYTEBREW, "restore", str(copy)]
    done = subprocess.run(limited, env=environment(settings(data)), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == f"bytebrew: {copy} cannot be restored: File too large\n"
    assert (files(data), files(data / "keys")) == ({**before[0], "engine.lock": b""}, before[1])
    assert not (data / "restoring").exists()


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_a_schedule_keeps_the_newest_and_removes_only_its_own(ending: str, tmp_path: Path) -> None:
    data, folder = tmp_path / "data", tmp_path / "backups"
    folder.mkdir()
    stamped = f"nightly-20200101T000000Z{ending}"
    others = [f"nightly{ending}", f"{stamped}.gpg", "weekly-20200101T000000Z.tar", "nightly-x.tar"]
    for name in others:
        (folder / name).touch()
    (folder / stamped).touch()
    (folder / f".{stamped}.part-killed").mkdir()
    command = [*BYTEBREW, "backup", str(folder / f"nightly{ending}"), "--every", "1s", "--keep", "2"]
    process = start(command, settings(data), stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert "there is no database at" in process.stderr.readline()  # and goes on
        assert run("token", "create", "x", "--scope", "chat", settings=settings(data)).returncode == 0
        lines: list[str] = []
        while sum(line.startswith("wrote ") for line in lines) < 3:
            lines.append(process.stderr.readline())
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0
    left = {path.name for path in folder.iterdir()}
    assert left >= {*others}
    own = sorted(name for name in left if re.fullmatch(KNOWN + re.escape(ending), name))
    assert len(own) in (2, 3)  # the signal may have come between a backup and the removal
    assert stamped not in own
    assert len(left) == len(others) + len(own)
    assert unpacked(folder / own[-1], tmp_path / "last").joinpath("bytebrew.db").exists()


@pytest.mark.parametrize(
    "arguments", [("--keep", "3"), ("--every", "soon"), ("--every", "0"), ("--every", "5m", "--keep", "0")]
)
def test_a_schedule_that_makes_no_sense_is_a_mistake_of_the_command_line(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    done = run("backup", str(tmp_path / "copy.tar"), *arguments, settings=settings(tmp_path / "data"))
    assert done.returncode == 2, done.stderr


def test_the_database_is_copied_before_its_tables_change(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for newest in range(1, 7):
        folder = tmp_path / f"plugins{newest}"
        install(folder, "notes", NOTES.replace("{newest}", str(newest)))
        arguments = ("create", "x", "--scope", "chat") if newest == 1 else ("list",)
        done = run("token", *arguments, settings=settings(data, BYTEBREW_PLUGINS_DIR=str(folder)))
        assert done.returncode == 0, done.stderr
        assert ("migrations follow (notes" in done.stderr) == (newest > 1)
        for copy in set(data.glob("bytebrew.db.before-*")) - set(data.glob("bytebrew.db.before-2020*")):
            copy.rename(data / f"bytebrew.db.before-2020010{newest}T000000Z")  # as if a day lay between two
    assert f"removed {data}/bytebrew.db.before-" in done.stderr
    copies = sorted(data.glob("bytebrew.db.before-*"))
    assert len(copies) == before_migrating.KEPT
    assert all(copy.stat().st_mode & 0o777 == 0o600 for copy in copies)
    with closing(sqlite3.connect(copies[-1])) as conn:
        assert conn.execute("select max(number) from migrations where owner = 'notes'").fetchone() == (5,)
    older = settings(data, BYTEBREW_PLUGINS_DIR=str(tmp_path / "plugins5"))
    assert run("restore", str(copies[-1]), settings=older).returncode == 0
    assert run("token", "list", settings=older).returncode == 0


def test_what_was_written_before_the_clock_was_set_back_is_older_than_what_is_written_now(tmp_path: Path) -> None:
    data, ahead = tmp_path / "data", [f"20990101T00000{n}Z" for n in range(3)]
    for newest in (1, 2):
        folder = tmp_path / f"plugins{newest}"
        install(folder, "notes", NOTES.replace("{newest}", str(newest)))
        for n, moment in enumerate(ahead if newest == 2 else ()):
            copy = data / f"bytebrew.db.before-{moment}"
            shutil.copy(data / "bytebrew.db", copy)
            with closing(sqlite3.connect(copy)) as conn, conn:
                conn.execute("update migrations set number = ? where owner = 'notes'", (7 + n,))
        arguments = ("create", "x", "--scope", "chat") if newest == 1 else ("list",)
        done = run("token", *arguments, settings=settings(data, BYTEBREW_PLUGINS_DIR=str(folder)))
        assert done.returncode == 0, done.stderr
    left = sorted(path.name.rpartition("-")[2] for path in data.glob("bytebrew.db.before-*"))
    assert left[0] < "2099" and left[1:] == ahead[1:]


def test_a_schedule_removes_first_what_was_written_before_the_clock_was_set_back(tmp_path: Path) -> None:
    assert run("token", "create", "x", "--scope", "chat", settings=settings(tmp_path / "data")).returncode == 0
    for n in range(2):
        (tmp_path / f"nightly-20990101T00000{n}Z.tar").touch()
    command = [*BYTEBREW, "backup", str(tmp_path / "nightly.tar"), "--every", "1h", "--keep", "2"]
    process = start(command, settings(tmp_path / "data"), stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("wrote ")
        assert process.stderr.readline() == f"removed {tmp_path}/nightly-20990101T000000Z.tar\n"
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert len(list(tmp_path.glob("nightly-*.tar"))) == 2


def test_starts_that_fail_again_and_again_push_no_copy_of_before_out(tmp_path: Path) -> None:
    data, older, newer = tmp_path / "data", tmp_path / "older", tmp_path / "newer"
    install(older, "notes", NOTES.replace("{newest}", "1"))
    before = settings(data, BYTEBREW_PLUGINS_DIR=str(older))
    assert run("token", "create", "x", "--scope", "chat", settings=before).returncode == 0
    install(newer, "notes", NOTES.replace("{newest}", "2"))
    install(newer, "stars", NOTES.replace("{newest}", "1"))  # its table is there already
    for _ in range(before_migrating.KEPT + 2):
        done = run("token", "list", settings=settings(data, BYTEBREW_PLUGINS_DIR=str(newer)))
        assert "migration 1 of stars failed" in done.stderr
    copies = sorted(data.glob("bytebrew.db.before-*"))
    assert len(copies) == 2, "of what the first try began with, and of what the others began with"
    assert run("token", "list", settings=before).returncode == 1
    assert run("restore", str(copies[0]), settings=before).returncode == 0
    assert run("token", "list", settings=before).returncode == 0


def test_without_space_for_a_copy_the_engine_says_so_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("token", "create", "x", "--scope", "chat", settings=settings(tmp_path)).returncode == 0
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    before_migrating.keep_copy(tmp_path / "bytebrew.db", ["notes 1"])
    assert "migrations follow (notes 1) without a copy of the database: there is not enough space" in caplog.text
    assert not list(tmp_path.glob("*before*"))


@pytest.mark.parametrize("thing", ["model", "webhook", "tool", "server", "command"])
def test_a_start_without_the_key_file_is_refused_and_a_wrong_one_is_seen(thing: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    bodies: dict[str, tuple[str, dict[str, object]]] = {
        "model": ("/models", {"name": "m", "type": "openai_compatible", "model_name": "x", "api_key": "secret"}),
        "webhook": ("/webhooks", {"name": "w", "agent": "demo", "title": "x"}),
        "tool": (
            "/tools",
            {
                "name": "t",
                "description": "looks",
                "method": "GET",
                "url": "https://shop.example/x",
                "auth": {"type": "bearer", "token": "secret"},
            },
        ),
        "server": (
            "/mcp-servers",
            {"name": "s", "type": "http", "url": "http://127.0.0.1:9/", "headers": {"X-Key": "secret"}},
        ),
        "command": ("/mcp-servers", {"name": "s", "type": "stdio", "command": "false", "args": ["--key=secret"]}),
    }
    path, body = bodies[thing]
    with serving(data) as engine:
        made = httpx.post(f"{engine.url}/api/v1{path}", headers=HEADERS, json=body, timeout=30)
        assert made.status_code in (201, 202), made.text
        assert engine.stop() == 0
    assert "opens all 1 stored credentials" in run("doctor", settings=settings(data, BYTEBREW_PORT="0")).stdout
    (data / "keys" / "secrets.key").write_text("0" * 64)
    done = run("doctor", settings=settings(data, BYTEBREW_PORT="0"))
    assert (done.returncode, "BAD keys: A stored credential was sealed with another key" in done.stdout) == (1, True)
    (data / "keys" / "secrets.key").unlink()
    done = run("serve", settings=settings(data, BYTEBREW_PORT="0"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "secrets.key is missing, and 1 stored credentials cannot be opened without it" in done.stderr
    assert not (data / "keys" / "secrets.key").exists()
    assert run("doctor", settings=settings(data, BYTEBREW_PORT="0")).returncode == 1
    done = run("backup", str(tmp_path / "copy.tar"), settings=settings(data))
    assert done.returncode == 1, "a backup that opens no credential would push those out that do"
    assert "secrets.key is missing, and 1 stored credentials cannot be opened without it" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


LATER = (
    *("auth_grant", "auth_client_id", "auth_issuer", "auth_scopes"),
    *("elicitation", "sampling", "sampling_model", "sampling_max_tokens", "resources"),
)
"""The columns that migrations after 3 gave to the servers of the plugin mcp."""


def test_that_start_is_refused_too_where_only_a_migration_shows_what_is_sealed(tmp_path: Path) -> None:
    body = {"name": "s", "type": "stdio", "command": "false", "env": {"TOKEN": "secret"}}
    with serving(tmp_path) as engine:
        httpx.post(f"{engine.url}/api/v1/mcp-servers", headers=HEADERS, json=body, timeout=30).raise_for_status()
        assert engine.stop() == 0
    with closing(sqlite3.connect(tmp_path / "bytebrew.db")) as conn, conn:  # as an older engine leaves it
        conn.execute("drop view mcp_servers_sealed")
        for table in ("sightings", "connections", "oauth_clients", "authorizations"):
            conn.execute(f"drop table mcp_{table}")
        conn.execute("drop index mcp_pins_approved_by")
        for column in ("pins drop approved_at", "pins drop approved_by", *(f"servers drop {one}" for one in LATER)):
            conn.execute(f"alter table mcp_{column}")
        conn.execute("delete from migrations where owner = 'mcp' and number > 3")
    (tmp_path / "keys" / "secrets.key").unlink()
    for _ in range(2):
        done = run("serve", settings=settings(tmp_path, BYTEBREW_PORT="0"))
        assert (done.returncode, done.stdout) == (1, "")
        assert "secrets.key is missing, and 1 stored credentials cannot be opened without it" in done.stderr
        assert not (tmp_path / "keys" / "secrets.key").exists()


def test_without_anything_sealed_a_new_key_is_made(tmp_path: Path) -> None:
    assert run("token", "create", "x", "--scope", "chat", settings=settings(tmp_path)).returncode == 0
    (tmp_path / "keys" / "secrets.key").unlink()
    assert run("token", "list", settings=settings(tmp_path)).returncode == 0
    assert (tmp_path / "keys" / "secrets.key").exists()
