"""Restores a backup: an archive of database, keys and uploads, or a copy of the database alone."""

import os
import shutil
import sqlite3
import tarfile
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from bytebrew.base.errors import BootError
from bytebrew.base.machine.lock import held, held_folder
from bytebrew.base.progress import Progress
from bytebrew.store.backups.backup import ABOUT, DATABASE, FILES, KEYS, READY, RESTORING, ProgressFile, restore_waits
from bytebrew.store.backups.copies import check_space, copy_database, free_name, has_table, make_file, stamp, sync
from bytebrew.store.sqlite import integrity
from bytebrew.store.sqlite.epoch import end, log_of
from bytebrew.store.sqlite.migrate import migrate
from bytebrew.store.sqlite.migrations import CORE
from bytebrew.store.sqlite.pragmas import BEAT, connect

_OTHERS = (KEYS, FILES)


class Restored(NamedTuple):
    """The result of a restore, and the new names of the replaced files.

    `torn` is set if the backup was copied from a running engine without the database's log; `whole` if it included keys
    and uploads, of which there were `files`.
    """

    epoch: int
    sessions: int
    newest: str
    torn: bool
    whole: bool
    files: int
    kept: tuple[Path, ...]


def restore(source: Path, folder: Path, owners: Mapping[str, Sequence[tuple[int, str]]]) -> Restored:
    """Replaces the content of a data folder by `source`, and begins a new epoch.

    A copy of the database alone replaces neither keys nor uploads. Raises BootError and changes nothing if an engine
    runs on the folder or its database, or if the source is damaged, is newer than this engine or one of its plugins, or
    is no backup. Once everything is prepared, a restore that is killed is finished at the next start.
    """
    known = {owner: steps[-1][0] for owner, steps in owners.items()}
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = (folder / DATABASE).resolve()
    if path.exists() and path.samefile(source):
        raise BootError(f"{source} is the database of {folder} itself; name a copy of it")
    with held_folder(folder), held(path) if path.exists() else nullcontext():
        finish(folder)
        place = folder / RESTORING
        clear(folder)
        place.mkdir(mode=0o700)
        try:
            whole = not _is_database(source)
            given = _unpack(source, place) if whole else source
            new = place / DATABASE
            still = "" if log_of(given).exists() else "&immutable=1"  # its folder may be read-only
            uri = f"{given.absolute().as_uri()}?mode=ro{still}"
            copied = new.with_name(f"{DATABASE}.new")
            make_file(copied, "the copy")
            with Progress("copying the database", unit="pages") as progress:
                torn = copy_database(given, uri, copied, at=progress.of)
            _check(copied, known)
            epoch, sessions, newest = _begin(copied, _epoch(path))
            copied.replace(new)
            if _elsewhere(new, path):
                check_space(path.parent, new.stat().st_size, "the restore")
            _ready(place)
            kept = finish(folder)
        except (sqlite3.Error, BootError, OSError, tarfile.TarError, zlib.error, EOFError) as error:
            words = getattr(error, "strerror", None) or error
            raise BootError(f"{source} cannot be restored: {words}") from error
        finally:
            if not restore_waits(folder):
                shutil.rmtree(place, ignore_errors=True)
    files = sum(one.is_file() for one in (folder / FILES).rglob("*")) if whole else 0
    return Restored(epoch, sessions, newest, torn, whole, files, kept)


def _elsewhere(new: Path, path: Path) -> bool:
    """Whether the database is a symbolic link to another disk."""
    return new.stat().st_dev != path.parent.stat().st_dev


def _is_database(source: Path) -> bool:
    """Whether the source is a database: everything but an archive."""
    return source.stat().st_size == 0 or not tarfile.is_tarfile(source)


def _unpack(source: Path, place: Path) -> Path:
    """Unpacks the known members of an archive into the folder; returns the path of the database."""
    (place / KEYS).mkdir(mode=0o700)
    (place / FILES).mkdir(mode=0o700)
    size = source.stat().st_size
    check_space(place, 2 * size, "the restore")
    with (
        source.open("rb") as raw,
        Progress("unpacking the backup", size, "bytes") as progress,
        tarfile.open(fileobj=ProgressFile(raw, progress), mode="r|*") as archive,
    ):
        for member in archive:
            name = PurePosixPath(member.name)
            if member.name == ABOUT:
                continue
            known = member.name == DATABASE or (len(name.parts) > 1 and name.parts[0] in _OTHERS)
            if not member.isfile() or not known or ".." in name.parts or name.is_absolute():
                raise BootError(f"it is no backup of ByteBrew: it has {member.name!a}")
            target = place / name
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            make_file(target, "the copy")
            content = archive.extractfile(member)
            assert content is not None
            with target.open("wb") as file:
                shutil.copyfileobj(content, file, 1024 * 1024)
                file.flush()
                os.fsync(file.fileno())
    if not (place / DATABASE).exists():
        raise BootError("there is no database of ByteBrew in it")
    return place / DATABASE


def _ready(place: Path) -> None:
    """Marks the restore as prepared: from now on it is finished even after a kill."""
    for one in (place / DATABASE, *(path for path in place.rglob("*") if path.is_dir()), place):
        sync(one)
    note = place / f"{READY}.new"
    note.write_text(stamp())
    sync(note)
    note.replace(place / READY)
    sync(place)


def finish(folder: Path) -> tuple[Path, ...]:
    """Moves the prepared files of a restore into place; the replaced files are renamed.

    Idempotent after a kill. The caller holds the folder's lock.
    """
    place = folder / RESTORING
    if not restore_waits(folder):
        return ()
    stamp, kept = (place / READY).read_text(), list[Path]()
    for name in _OTHERS:
        if (new := place / name).exists():
            if (old := folder / name).exists():
                kept.append(free_name(folder / f"{name}.replaced-{stamp}"))
                old.rename(kept[-1])
            new.rename(folder / name)
    path = (folder / DATABASE).resolve()
    if (new := place / DATABASE).exists():
        kept += _set_aside(path, stamp)
        if _elsewhere(new, path):
            beside = path.with_name(f"{path.name}.restoring")
            shutil.copyfile(new, beside)
            beside.chmod(0o600)
            sync(beside)
            beside.replace(path)
            new.unlink()
        else:
            new.replace(path)
        sync(path.parent)
    sync(folder)
    shutil.rmtree(place)
    return tuple(kept)


def finish_killed(folder: Path) -> None:
    """Calls `finish` if a restore was killed after it was prepared; BootError if an engine runs."""
    if restore_waits(folder):
        with held_folder(folder):
            finish(folder)


def clear(folder: Path) -> None:
    """Deletes the files of a restore that was killed before it was prepared. The caller holds the folder's lock."""
    if not restore_waits(folder):
        shutil.rmtree(folder / RESTORING, ignore_errors=True)


def _check(new: Path, known: Mapping[str, int]) -> None:
    with closing(sqlite3.connect(new)) as conn, Progress("checking the database") as progress:
        conn.set_progress_handler(progress.beat, BEAT)
        if not has_table(conn, "migrations") or not has_table(conn, "sessions"):
            raise BootError("it is no database of ByteBrew")
        if damage := integrity.damage(conn):
            raise BootError(f"it is damaged ({damage})")
        for owner, number in conn.execute("select owner, max(number) from migrations group by owner"):
            if number > known.get(owner, number):
                message = f"it is newer than this {owner}: it has migration {number}, known is {known[owner]}"
                raise BootError(f"{message}; install the newer version and restore it with that")


def _begin(new: Path, replaced: int) -> tuple[int, int, str]:
    """Begins an epoch above both databases'; returns it, the number of sessions and the time of the last change."""
    with closing(sqlite3.connect(new, isolation_level=None)) as conn:
        migrate(conn, "core", CORE)
        epoch = max(conn.execute("select epoch from history").fetchone()[0], replaced) + 1
        conn.execute("update history set epoch = ?, clean = 1", (epoch,))
        sessions, newest = conn.execute("select count(*), coalesce(max(updated_at), '') from sessions").fetchone()
        return epoch, sessions, newest


def _epoch(path: Path) -> int:
    """The epoch of the database to be replaced, whose log is copied into the file and removed.

    If it cannot be read, the result is the current time in milliseconds, which is above every epoch.
    """
    unknown, log_there = time.time_ns() // 1_000_000, log_of(path).exists()
    if not path.exists():
        return unknown
    try:
        with closing(connect(path)) as conn:
            if not has_table(conn, "history"):
                return 1
            if log_there:
                end(conn)
            return int(conn.execute("select epoch from history").fetchone()[0])
    except sqlite3.Error:
        return unknown


def _set_aside(path: Path, stamp: str) -> list[Path]:
    """Gives a database a second name, and renames its log; either may be missing."""
    kept = free_name(path.with_name(f"{path.name}.replaced-{stamp}"))
    for suffix in ("-wal", "-shm"):  # SQLite would apply this log to the new database
        if (log := path.with_name(path.name + suffix)).exists():
            log.rename(kept.with_name(kept.name + suffix))
    if not path.exists():
        return []
    try:
        kept.hardlink_to(path)
    except PermissionError:  # the file system has no hard links
        path.rename(kept)
    return [kept]
