"""Folders of this machine that bases follow: what is in one, and how its files come into the base and go."""

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
"""Files and folders of any kind that are looked at in one folder."""
MOST_NAME = 1000
MOST_TOLD = 20
"""Warnings about one folder; the rest are counted."""
SECONDS = 60.0
"""Longest look into a folder, and longest copying of one file of it."""
BATCH = 50
"""Files of one transaction."""


class Entry(NamedTuple):
    """A file of a folder: its path within, with `/`, and where it lies."""

    name: str
    path: Path
    state: os.stat_result

    @property
    def seen(self) -> str:
        """What tells whether it has changed."""
        return f"{self.state.st_size} {self.state.st_mtime_ns} {self.state.st_ctime_ns}"


@dataclass(slots=True)
class Look:
    """What a look into a folder has found; `unread` begins the names of what cannot be read now."""

    entries: list[Entry] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def look(folder: Path, data: Path) -> Look:
    """The files that end as a reader knows it, in one order; OSError where the folder itself cannot be read.

    Left out are what is hidden, what is no regular file, what lies in the data folder, links that lead out of the
    folder, and folders behind links.
    """
    root, data = _real(folder), _real(data)
    found, waiting, left = Look(), [""], MOST_ENTRIES + 1
    if root.is_relative_to(data):
        found.faults.append("it lies in the engine's own data folder, of which nothing is taken")
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
            found.unread.append(within)
            found.faults.append(f"{within!r} cannot be read: {error.strerror}; what is indexed of it stays")
            continue
        left -= len(listed)
        visible = [entry for entry in listed if not entry.name.startswith(".")]
        waiting += [f"{within}{one.name}/" for one in reversed(visible) if one.is_dir(follow_symlinks=False)]
        for entry in visible:
            if (one := _entry(entry, within, root, data, found)) is not None:
                found.entries.append(one)
        if len(found.entries) > MOST_FILES or not left:
            del found.entries[MOST_FILES:]
            found.faults.append(f"it holds too much: only the first {len(found.entries)} files are taken")
            break
    return found


def _entry(entry: "os.DirEntry[str]", within: str, root: Path, data: Path, found: Look) -> Entry | None:
    name = f"{within}{entry.name}"
    if not uploads.kind_of(name):
        return None
    try:
        path = Path(entry.path)
        if entry.is_symlink():
            path = _real(path)
            if not path.is_relative_to(root) or path.is_relative_to(data):
                found.faults.append(f"{name!r} leads out of the folder")
                return None
        state = path.lstat()
    except OSError as error:
        found.faults.append(f"{name!r} cannot be read: {error.strerror}")
        if not isinstance(error, FileNotFoundError):
            found.unread.append(name)
        return None
    if not stat.S_ISREG(state.st_mode):
        return None
    if len(name) > MOST_NAME or not uploads.can_be_kept(name):
        found.faults.append(f"{name[:MOST_NAME]!r} is no name that could be kept")
        return None
    return Entry(name, path, state)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path, strict=True))  # Path.resolve raises no OSError where links go in a circle


def fault(folder: Path) -> str:
    """Why a folder cannot be read; "" where it can."""
    try:
        with os.scandir(folder):
            return ""
    except OSError as error:
        return _why(error)


class Folders:
    """Brings the bases of an engine up to what their folders hold.

    A relative folder counts from that of the configuration file, or else from where the engine was started. A file
    that was sent stays, also where the folder has one of its name. Where a folder cannot be read, its base stays as it
    is.
    """

    def __init__(self, engine: Engine, blobs: Blobs, stored: Callable[[], None]) -> None:
        core = engine.settings.core
        self._engine = engine
        self._blobs = blobs
        self._stored = stored
        self._from = Path.cwd() / core.config.parent if core.config is not None else Path.cwd()
        self._most = core.max_upload_bytes
        self._durable = core.db_synchronous == "full"
        self._one = asyncio.Lock()

    def path(self, folder: str) -> Path:
        """Where a folder of the configuration lies."""
        return self._from / folder

    async def follow(self) -> None:
        """Looks into every folder, one after the other; what was changed is then stored and waits to be indexed."""
        async with self._one:
            for base in await self._engine.db.read(bases.folders):
                try:
                    faults = await self._follow(base)
                except Exception:
                    log.exception("knowledge base %r cannot follow its folder", base.name)
                    continue
                for words in faults[:MOST_TOLD]:
                    log.warning("knowledge base %r, folder %s: %s", base.name, base.folder, words)
                if len(faults) > MOST_TOLD:
                    log.warning("knowledge base %r: and %d more", base.name, len(faults) - MOST_TOLD)

    async def _follow(self, base: bases.Followed) -> list[str]:
        """Brings one base up to its folder; what there is to tell."""
        seen = await self._engine.db.read(files.seen, base.id)
        found = Look()
        if base.folder is not None:
            try:
                found = await _in_time(look, self.path(base.folder), self._engine.data_dir)
            except OSError as error:
                return [f"cannot be read: {_why(error)}; what is indexed stays"]
        come: list[files.Upload | files.Refused] = []
        for entry in found.entries:
            before = seen.get(entry.name, "")
            if before is None:
                found.faults.append(f"{entry.name!r} was sent by a person, and that one stays")
            elif before != entry.seen:
                come.append(one := await self._taken(entry))
                if isinstance(one, files.Refused):
                    found.faults.append(f"{entry.name!r} was not taken: {one.reason}")
            if len(come) == BATCH:
                await self._store(base, come)
                come = []
        names = {entry.name for entry in found.entries}
        unread = tuple(found.unread)
        gone = [name for name in seen if seen[name] is not None and name not in names and not name.startswith(unread)]
        if come or gone:
            await self._store(base, come, gone)
        return found.faults

    async def _store(
        self, base: bases.Followed, come: Sequence[files.Upload | files.Refused], gone: Sequence[str] = ()
    ) -> None:
        await self._engine.db.write(files.follow, base.id, come, gone)
        self._stored()

    async def _taken(self, entry: Entry) -> files.Upload | files.Refused:
        try:
            with self._blobs.arriving() as target:
                given = entry.path, entry.state, entry.name, target, self._most
                upload = await _in_time(uploads.copied, *given, durable=self._durable)
            return upload._replace(seen=entry.seen)
        except EngineError as error:
            reason = error.message
        except OSError as error:
            reason = f"It cannot be read: {_why(error)}"
        return files.Refused(entry.name, uploads.kind_of(entry.name), entry.state.st_size, reason)


async def _in_time(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of work in a thread; TimeoutError where the disk, or what is behind it, takes too long."""
    async with asyncio.timeout(SECONDS):
        return await asyncio.to_thread(work, *args, **kwargs)


def _why(error: OSError) -> str:
    return error.strerror or f"it takes longer than {SECONDS:g} s"
