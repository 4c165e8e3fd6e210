"""Backups: a consistent snapshot of database, keys and uploads in one archive."""

import fcntl
import io
import os
import shutil
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

import msgspec
from msgspec import Struct

from bytebrew.base.errors import BootError
from bytebrew.base.formats import now
from bytebrew.base.progress import Progress
from bytebrew.store.backups import key_check
from bytebrew.store.backups.copies import check_space, copy_database, make_file, sync
from bytebrew.store.sqlite.epoch import log_of, uri_to_read
from bytebrew.version import __version__

DATABASE, KEYS, FILES, ABOUT = "bytebrew.db", "keys", "files", "backup.json"
"""The names within an archive."""
_SCRATCH = ".backup-"
RESTORING = "restoring"
"""The folder in the data folder where a restore is prepared."""
READY = "ready"
"""The file in it that marks the preparation as complete; it has the new names of the replaced files."""

NO_BACKUPS = (
    "the data is in the database of BYTEBREW_DATABASE_URL: back that up with its own means, such as pg_dump, and the"
    " folder keys of the data folder beside it (docs/how-to/postgresql.md)"
)


class Written(NamedTuple):
    """Size of an archive, and the number of keys and uploads in it."""

    size: int
    keys: int
    files: int


class About(Struct, frozen=True, kw_only=True):
    """The archive's description of itself."""

    version: str
    made_at: str
    keys: int
    files: int


def backup(data: Path, target: Path) -> Written:
    """Archives a data folder, which may be in use, in a new file (0600); BootError if that fails.

    The archive is renamed to `target` once it is synced, so it is complete or absent. A name that ends in `.gz` or
    `.tgz` compresses it.
    """
    source = data / DATABASE
    if not source.exists():
        raise BootError(f"there is no database at {source}; set BYTEBREW_DATA_DIR to the engine's data folder")
    if os.path.lexists(target):
        raise BootError(f"cannot write the backup {target}: it is there already; choose another name")
    try:
        with tempfile.TemporaryDirectory(prefix=part_of(target), dir=target.absolute().parent) as scratch:
            return _written(data, Path(scratch), target)
    except (sqlite3.Error, OSError) as error:
        words = getattr(error, "strerror", None) or error
        raise BootError(f"cannot back up {data} to {target}: {words}") from error


def part_of(target: Path) -> str:
    """The prefix of the temporary folder of a backup."""
    return f".{target.name}.part-"


def _written(data: Path, folder: Path, target: Path) -> Written:
    source, copy, part = data / DATABASE, folder / DATABASE, folder / "archive"
    with _undisturbed(data), _uploads_kept(data / FILES) as uploads:
        size = sum(path.stat().st_size for path in (source, log_of(source)) if path.exists())
        check_space(folder, 2 * size + sum(path.stat().st_size for path in uploads().values()), "the backup")
        make_file(copy, "the backup")
        with Progress("copying the database", unit="pages") as progress:
            copy_database(source, uri_to_read(source), copy, at=progress.of, begun=uploads)
        content = {DATABASE: copy}
        content |= {f"{KEYS}/{path.name}": path for path in sorted((data / KEYS).glob("[!.]*")) if path.is_file()}
        keys = len(content) - 1
        if f"{KEYS}/secrets.key" not in content:
            key_check.check_key(data / KEYS / "secrets.key", copy)
        content |= {f"{FILES}/{name}": path for name, path in sorted(uploads().items())}
        about = About(version=__version__, made_at=now(), keys=keys, files=len(content) - 1 - keys)
        _archive(part, about, content, packed=target.suffix in (".gz", ".tgz"))
    size = part.stat().st_size
    try:
        os.link(part, target)
    except FileExistsError as error:
        raise BootError(f"cannot write the backup {target}: it is there already; choose another name") from error
    except OSError:  # a disk that knows no second names
        part.rename(target)
    sync(target.absolute().parent)
    return Written(size, about.keys, about.files)


@contextmanager
def _undisturbed(data: Path) -> Iterator[None]:
    """BootError if a restore is under way, or was finished meanwhile: its keys do not belong to the old database."""

    def same() -> tuple[int, int]:
        if restore_waits(data):
            message = "a restore has not put all in place yet; it is brought to its end by the next start of the engine"
            raise BootError(f"cannot back up {data}: {message}, or by the same bytebrew restore again")
        found = (data / DATABASE).stat()
        return found.st_dev, found.st_ino

    before = same()
    yield
    if same() != before:
        raise BootError(f"cannot back up {data}: the database was replaced meanwhile; try again")


def restore_waits(data: Path) -> bool:
    """Whether a restore has prepared files that are not in place yet: it runs, or was killed."""
    return (data / RESTORING / READY).exists()


@contextmanager
def _uploads_kept(folder: Path) -> Iterator[Callable[[], dict[str, Path]]]:
    """A function that hard-links all current uploads into the backup's folder, so that they survive a deletion.

    It is called before and after the database snapshot, so that an upload deleted in between is in the backup.
    """
    home = folder.resolve().parent
    if not os.access(home, os.W_OK):  # a read-only disk: nothing can be deleted
        yield lambda: {path.relative_to(folder).as_posix(): path for path in _uploads(folder)}
        return
    _clear(home)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=home)))
        stack.callback(os.close, alive := os.open(scratch, os.O_RDONLY))
        fcntl.flock(alive, fcntl.LOCK_EX)
        kept: dict[str, Path] = {}

        def keep() -> dict[str, Path]:
            for path in _uploads(folder):
                name = path.relative_to(folder).as_posix()
                if name in kept:
                    continue
                with suppress(FileNotFoundError):  # deleted meanwhile
                    kept[name] = _second_name(path, scratch / str(len(kept)))
            return kept

        yield keep


def _uploads(folder: Path) -> Iterator[Path]:
    """The files of the folder, except hidden ones, which are incomplete."""
    return (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def _second_name(path: Path, second: Path) -> Path:
    try:
        os.link(path, second)
    except FileNotFoundError:
        raise
    except OSError:  # a disk that knows no second names
        shutil.copyfile(path, second)
    return second


def _clear(home: Path) -> None:
    """Deletes the files of killed backups."""
    for scratch in home.glob(f"{_SCRATCH}*"):
        with suppress(FileNotFoundError, BlockingIOError):
            alive = os.open(scratch, os.O_RDONLY)
            try:
                fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(scratch)
            finally:
                os.close(alive)


def _archive(part: Path, about: About, content: Mapping[str, Path], *, packed: bool) -> None:
    total = sum(path.stat().st_size for path in content.values())
    with (
        os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), "wb") as file,
        Progress("writing the backup", total, "bytes") as progress,
    ):
        with tarfile.open(fileobj=file, mode="w:gz" if packed else "w", format=tarfile.PAX_FORMAT) as archive:
            raw = msgspec.json.encode(about)
            archive.addfile(_member(ABOUT, len(raw), time.time()), io.BytesIO(raw))
            for name, path in content.items():
                with path.open("rb") as one:
                    found = os.fstat(one.fileno())
                    archive.addfile(_member(name, found.st_size, found.st_mtime), ProgressFile(one, progress))
        file.flush()
        os.fsync(file.fileno())


def _member(name: str, size: int, changed: float) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = size, int(changed), 0o600
    return member


class ProgressFile(io.RawIOBase):
    """A file that reports reads as progress."""

    def __init__(self, file: IO[bytes], progress: Progress) -> None:
        self._file, self._progress = file, progress

    def read(self, size: int = -1) -> bytes:
        """Reads the next bytes."""
        data = self._file.read(size)
        self._progress.add(len(data))
        return data
