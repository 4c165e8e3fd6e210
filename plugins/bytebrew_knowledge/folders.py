"""Folders on this machine that bases mirror: scans them and updates the bases' files."""

import asyncio
import logging
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

from bytebrew import Engine, EngineError

from . import bases, files, uploads
from .blobs import Blobs

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
MOST_FILES = 10_000
MOST_ENTRIES = 200_000
"""Limit of directory entries per scan."""
MOST_NAME, MOST_NAME_BYTES = 1000, 2500
"""Limits of a relative path; an entry of PostgreSQL's indexes has 2,704 bytes at most."""
MAX_WARNINGS = 20
"""Limit of logged warnings per folder; the rest are counted."""
SECONDS = 60.0
"""Time limit of a folder's scan, and of copying one file."""
BATCH = 50
"""Files per transaction."""


class Entry(NamedTuple):
    """A file of a folder: its relative path with `/`, and its real path."""

    name: str
    path: Path
    state: os.stat_result

    @property
    def seen(self) -> str:
        """Identifies this version of the file."""
        return f"{self.state.st_size} {self.state.st_mtime_ns} {self.state.st_ctime_ns}"


@dataclass(slots=True)
class Scan:
    """The result of a scan; `unread` are prefixes of names that cannot be read now."""

    entries: list[Entry] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def scan(folder: Path, data: Path) -> Scan:
    """The files of known types, in a stable order; OSError if the folder itself cannot be read.

    Skips hidden files, files that are not regular, the data folder, symbolic links to folders, and those that lead out
    of the folder.
    """
    root, data = _real(folder), _real(data)
    result, waiting, left = Scan(), [""], MOST_ENTRIES + 1
    if root.is_relative_to(data):
        result.faults.append("it lies in the engine's own data folder, of which nothing is taken")
    while waiting:
        within = waiting.pop()
        here = root / within
        if here.is_relative_to(data):
            continue
        try:
            with os.scandir(here) as entries:
                listed = sorted(islice(entries, left), key=lambda entry: entry.name)
        except OSError as error:
            if not within:
                raise
            result.unread.append(within)
            result.faults.append(f"{within!r} cannot be read: {error.strerror}; what is indexed of it stays")
            continue
        left -= len(listed)
        visible = [entry for entry in listed if not entry.name.startswith(".")]
        waiting += [f"{within}{one.name}/" for one in reversed(visible) if one.is_dir(follow_symlinks=False)]
        for entry in visible:
            if (one := _entry(entry, within, root, data, result)) is not None:
                result.entries.append(one)
        if len(result.entries) > MOST_FILES or not left:
            del result.entries[MOST_FILES:]
            result.faults.append(f"it holds too much: only the first {len(result.entries)} files are taken")
            break
    return result


def _entry(entry: "os.DirEntry[str]", within: str, root: Path, data: Path, result: Scan) -> Entry | None:
    name = f"{within}{entry.name}"
    if not uploads.kind_of(name):
        return None
    try:
        path = Path(entry.path)
        if entry.is_symlink():
            path = _real(path)
            if not path.is_relative_to(root) or path.is_relative_to(data):
                result.faults.append(f"{name!r} leads out of the folder")
                return None
        state = path.lstat()
    except OSError as error:
        result.faults.append(f"{name!r} cannot be read: {error.strerror}")
        if not isinstance(error, FileNotFoundError):
            result.unread.append(name)
        return None
    if not stat.S_ISREG(state.st_mode):
        return None
    if len(name) > MOST_NAME or not uploads.is_valid_name(name) or len(name.encode()) > MOST_NAME_BYTES:
        result.faults.append(f"{name[:MOST_NAME]!r} is no name that could be kept")
        return None
    return Entry(name, path, state)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path, strict=True))  # Path.resolve does not raise OSError for a loop of links


def fault(folder: Path) -> str:
    """Why a folder cannot be read; "" if it can."""
    try:
        with os.scandir(folder):
            return ""
    except OSError as error:
        return _why(error)


class Folders:
    """Keeps the bases of an engine in sync with their folders.

    A relative folder is resolved from the configuration file's, or else from the working directory. Uploaded files take
    precedence over a folder's files with their name. A folder that cannot be read changes nothing.
    """

    def __init__(self, engine: Engine, blobs: Blobs, stored: Callable[[], None]) -> None:
        core = engine.settings.core
        self._engine = engine
        self._blobs = blobs
        self._stored = stored
        self._from = Path.cwd() / core.config.parent if core.config is not None else Path.cwd()
        self._most = core.max_upload_bytes
        self._durable = core.db_synchronous == "full"
        self._lock = asyncio.Lock()

    def path(self, folder: str) -> Path:
        """The absolute path of a configured folder."""
        return self._from / folder

    async def follow(self) -> None:
        """Scans all folders one after another, and queues changed files for indexing."""
        async with self._lock:
            for base in await self._engine.db.read(bases.folders):
                try:
                    faults = await self._follow(base)
                except Exception:
                    log.exception("knowledge base %r cannot follow its folder", base.name)
                    continue
                for warning in faults[:MAX_WARNINGS]:
                    log.warning("knowledge base %r, folder %s: %s", base.name, base.folder, warning)
                if len(faults) > MAX_WARNINGS:
                    log.warning("knowledge base %r: and %d more", base.name, len(faults) - MAX_WARNINGS)

    async def _follow(self, base: bases.Followed) -> list[str]:
        """Updates one base from its folder; returns warnings."""
        seen = await self._engine.db.read(files.seen, base.id)
        result = Scan()
        if base.folder is not None:
            try:
                result = await _in_time(scan, self.path(base.folder), self._engine.data_dir)
            except OSError as error:
                return [f"cannot be read: {_why(error)}; what is indexed stays"]
        come: list[files.Upload | files.Refused] = []
        for entry in result.entries:
            before = seen.get(entry.name, "")
            if before is None:
                result.faults.append(f"{entry.name!r} was sent by a person, and that one stays")
            elif before != entry.seen:
                come.append(one := await self._taken(entry))
                if isinstance(one, files.Refused):
                    result.faults.append(f"{entry.name!r} was not taken: {one.reason}")
            if len(come) == BATCH:
                await self._store(base, come)
                come = []
        names = {entry.name for entry in result.entries}
        unread = tuple(result.unread)
        gone = [name for name in seen if seen[name] is not None and name not in names and not name.startswith(unread)]
        if come or gone:
            await self._store(base, come, gone)
        return result.faults

    async def _store(
        self, base: bases.Followed, come: Sequence[files.Upload | files.Refused], gone: Sequence[str] = ()
    ) -> None:
        await self._blobs.forget(await self._engine.db.write(files.follow, base.id, come, gone))
        self._stored()

    async def _taken(self, entry: Entry) -> files.Upload | files.Refused:
        try:
            async with self._blobs.arriving() as target:
                args = entry.path, entry.state, entry.name, target, self._most
                upload = await _in_time(uploads.copied, *args, durable=self._durable)
                await self._blobs.keep(upload.blob)
            return upload._replace(seen=entry.seen)
        except EngineError as error:
            reason = error.message
        except OSError as error:
            reason = f"It cannot be read: {_why(error)}"
        return files.Refused(entry.name, uploads.kind_of(entry.name), entry.state.st_size, reason)


async def _in_time(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs work in a thread; TimeoutError if a disk or network file system hangs."""
    async with asyncio.timeout(SECONDS):
        return await asyncio.to_thread(work, *args, **kwargs)


def _why(error: OSError) -> str:
    return error.strerror or f"it takes longer than {SECONDS:g} s"
