"""Copies of the database, and the way back from one."""

import os
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import NamedTuple

from bytebrew.epoch import end, log_of, uri_to_read
from bytebrew.errors import BootError
from bytebrew.lock import held
from bytebrew.migrate import migrate
from bytebrew.migrations import CORE
from bytebrew.plugins import Plugins
from bytebrew.pragmas import connect


def backup(source: Path, target: Path) -> None:
    """Copies a database that may be in use to a new file of its own; BootError where that cannot be."""
    if not source.exists():
        raise BootError(f"there is no database at {source}; set BYTEBREW_DATA_DIR to the engine's data folder")
    _make(target, "the backup")
    try:
        _copy(source, uri_to_read(source), target)
    except sqlite3.Error as error:
        target.unlink(missing_ok=True)
        raise BootError(f"cannot back up {source} to {target}: {error}") from error


class Restored(NamedTuple):
    """What a restore has put in place, and under which name it keeps what was there.

    `torn` says that the backup was copied from a running engine without the log beside its file.
    """

    epoch: int
    sessions: int
    newest: str
    torn: bool
    kept: Path | None


def restore(source: Path, folder: Path, plugins: Plugins) -> Restored:
    """Puts a copy of `source` in the place of a folder's database, and begins another epoch; the rest is untouched.

    Raises BootError, with nothing changed, where an engine runs on the folder or its database, and where the source is
    damaged, newer than this engine or one of its plugins, or no database of an engine.
    """
    known = {"core": len(CORE)}
    plugins.declare("register_migrations", lambda name, one: known.update({name: one.number}))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = (folder / "bytebrew.db").resolve()
    if path.exists() and path.samefile(source):
        raise BootError(f"{source} is the database of {folder} itself; name a copy of it")
    with held(folder, path if path.exists() else None):
        new = path.with_name(f"{path.name}.restoring")
        new.unlink(missing_ok=True)  # of a restore that was killed
        _make(new, "the copy")
        try:
            still = "" if log_of(source).exists() else "&immutable=1"  # its folder may be one to read only
            torn = _copy(source, f"{source.absolute().as_uri()}?mode=ro{still}", new)
            _check(new, known)
            epoch, sessions, newest = _begin(new, _epoch(path))
            _sync(new)
            kept = _set_aside(path)
            new.replace(path)
            _sync(path.parent)
        except (sqlite3.Error, BootError) as error:
            raise BootError(f"{source} cannot be restored: {error}") from error
        finally:
            new.unlink(missing_ok=True)
    return Restored(epoch, sessions, newest, torn, kept)


def _make(path: Path, what: str) -> None:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except OSError as error:
        words = "it is there already; choose another name" if isinstance(error, FileExistsError) else error.strerror
        raise BootError(f"cannot write {what} {path}: {words}") from error


def _copy(source: Path, uri: str, target: Path) -> bool:
    """Copies all that is committed into an empty file, which counts as closed; whether the source has lost its log."""
    log_there = log_of(source).exists()
    with (
        closing(sqlite3.connect(uri, timeout=60, uri=True)) as from_,
        closing(sqlite3.connect(target, isolation_level=None)) as to,
    ):
        from_.backup(to)
        to.execute("pragma journal_mode = delete")  # one file, without a log beside it
        if not _has(to, "history"):
            return False
        torn = not log_there and to.execute("select clean from history").fetchone() == (0,)
        to.execute("update history set clean = 1")
        return torn


def _check(new: Path, known: Mapping[str, int]) -> None:
    with closing(sqlite3.connect(new)) as conn:
        if not _has(conn, "migrations") or not _has(conn, "sessions"):
            raise BootError("it is no database of ByteBrew")
        faults = [row[0] for row in conn.execute("pragma integrity_check")]
        if faults != ["ok"]:
            raise BootError(f"it is damaged ({faults[0]})")
        if orphans := conn.execute("pragma foreign_key_check").fetchall():
            raise BootError(f"it is damaged ({len(orphans)} rows point at nothing)")
        for owner, number in conn.execute("select owner, max(number) from migrations group by owner"):
            if number > known.get(owner, number):
                raise BootError(f"it is newer than this {owner}: it has migration {number}, known is {known[owner]}")


def _begin(new: Path, replaced: int) -> tuple[int, int, str]:
    """Begins an epoch after the copy's own and the replaced one's; it, the sessions, and when the last one changed."""
    with closing(sqlite3.connect(new, isolation_level=None)) as conn:
        migrate(conn, "core", CORE)
        epoch = max(conn.execute("select epoch from history").fetchone()[0], replaced) + 1
        conn.execute("update history set epoch = ?, clean = 1", (epoch,))
        sessions, newest = conn.execute("select count(*), coalesce(max(updated_at), '') from sessions").fetchone()
        return epoch, sessions, newest


def _epoch(path: Path) -> int:
    """The epoch of the database to be replaced, which is closed as by its engine: it needs no log from then on.

    Where none can be read it is the present millisecond, which no restore has begun yet.
    """
    unknown, log_there = time.time_ns() // 1_000_000, log_of(path).exists()
    if not path.exists():
        return unknown
    try:
        with closing(connect(path)) as conn:
            if not _has(conn, "history"):
                return 1
            if log_there:
                end(conn)
            return int(conn.execute("select epoch from history").fetchone()[0])
    except sqlite3.Error:
        return unknown


def _set_aside(path: Path) -> Path | None:
    """Gives a database another name besides its own, and its log another one; it may be without a log, or be gone."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    names = (path.with_name(f"{path.name}.replaced-{stamp}" + (f"-{n}" if n else "")) for n in count())
    kept = next(name for name in names if not name.exists())
    for suffix in ("-wal", "-shm"):  # SQLite would take the log of another file for this one's
        if (log := path.with_name(path.name + suffix)).exists():
            log.rename(kept.with_name(kept.name + suffix))
    if not path.exists():
        return None
    kept.hardlink_to(path)
    return kept


def _has(conn: sqlite3.Connection, table: str) -> bool:
    return conn.execute("select 1 from sqlite_master where name = ?", (table,)).fetchone() is not None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
