"""The lock of the plugin folder: name, version and SHA-256 of each distribution; with it the engine runs these only."""

import csv
import json
import os
import sys
import tomllib
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from email.parser import HeaderParser
from functools import partial
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ExtensionFileLoader, FileFinder, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

import msgspec
from msgspec import Struct

from bytebrew.base.errors import SettingsError
from bytebrew.requirements import normalized

LOCK = "plugins.lock"
STAGED, COMMITTED = ".staged", ".committed"
"""Folders in the plugin folder: what an installation prepares, and what it has decided to put in place."""
MOST_NAMED = 5
"""Differences that an error names."""
HEAD = """\
# Written by `bytebrew plugins install` and `bytebrew plugins lock`. The engine starts with exactly this, or not at all.
version = 1
"""


class Distribution(Struct, frozen=True):
    """A distribution; `sha256` is the digest of `sha256sum`'s output for its files, sorted by path."""

    name: str
    version: str
    sha256: str


class LooseFile(Struct, frozen=True):
    """A file that no distribution lists in its RECORD."""

    path: str
    sha256: str


class Lock(Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of `plugins.lock`."""

    version: int = 1
    distribution: tuple[Distribution, ...] = ()
    file: tuple[LooseFile, ...] = ()

    def text(self) -> str:
        """The lock as TOML."""
        blocks = (("distribution", self.distribution), ("file", self.file))
        return HEAD + "".join(
            f"\n[[{key}]]\n"
            + "".join(f"{name} = {json.dumps(value)}\n" for name, value in msgspec.to_builtins(one).items())
            for key, items in blocks
            for one in items
        )


def tree(folder: Path, paths: Iterable[Path]) -> dict[str, Path]:
    """The files among the paths below the folder, by relative path, without the lock and caches of bytecode.

    A link to a folder counts as a file that has the link's target as its content.
    """
    files = {}
    for path in paths:
        parts = path.relative_to(folder).parts
        cache = path.suffix == ".pyc" and "__pycache__" in parts
        if parts and parts != (LOCK,) and parts[0] != STAGED and not cache and (path.is_symlink() or not path.is_dir()):
            files["/".join(parts)] = path
    return files


def lock_of(files: Mapping[str, Path], read: Mapping[str, str] | None = None) -> Lock:
    """The lock for these files, with the digests of their contents if they are read already."""
    digests = {**(digests_of(files) if read is None else read)}
    distributions = []
    for metadata in [name for name in digests if name.endswith(".dist-info/METADATA") and name.count("/") == 1]:
        name, version = _described(files[metadata])
        owned = {file: digests.pop(file) for file in recorded(files, metadata) if file in digests}
        distributions.append(Distribution(name, version, _sum(owned)))
    loose = tuple(LooseFile(path, digest) for path, digest in digests.items())
    return Lock(distribution=tuple(sorted(distributions, key=lambda each: (each.name, each.version))), file=loose)


def digests_of(files: Mapping[str, Path]) -> dict[str, str]:
    """The SHA-256 of each file."""
    return {name: _digest(path) for name, path in sorted(files.items())}


def recorded(files: Mapping[str, Path], metadata: str) -> dict[str, str]:
    """The files of a distribution that its RECORD lists, with their hashes there, and all others of its metadata."""
    own = metadata.removesuffix("METADATA")
    names = {name: "" for name in files if name.startswith(own)}
    if record := files.get(f"{own}RECORD"):
        try:
            with record.open(encoding="utf-8", newline="") as lines:
                rows = [row for row in csv.reader(lines) if len(row) > 1]
        except (UnicodeDecodeError, csv.Error) as error:
            message = f"{record} cannot be read ({error}); install that distribution again"
            raise SettingsError(f"BYTEBREW_PLUGINS_DIR: {message}") from error
        names |= {os.path.normpath(row[0]): row[1] for row in rows}
    return {name: names[name] for name in sorted(names) if name in files}


def read(folder: Path) -> Lock | None:
    """The folder's lock, or None if it has none; SettingsError if it cannot be read."""
    try:
        lock = msgspec.convert(tomllib.loads((folder / LOCK).read_text(encoding="utf-8")), Lock)
    except FileNotFoundError:
        return None
    except (ValueError, msgspec.ValidationError) as error:
        raise SettingsError(f"BYTEBREW_PLUGINS_DIR: {folder / LOCK} is no lock of plugins: {error}") from error
    if lock.version != 1:
        message = f"{folder / LOCK} has version {lock.version}, which a newer bytebrew wrote"
        raise SettingsError(f"BYTEBREW_PLUGINS_DIR: {message}: install that one")
    return lock


def verify(folder: Path, paths: Iterable[Path]) -> Mapping[str, str] | None:
    """The digests of the locked files, or None without a lock; SettingsError if others are there, or more, or fewer."""
    if (folder / COMMITTED).exists():
        message = f"an installation into {folder} broke off; run bytebrew plugins lock, which completes it"
        raise SettingsError(f"BYTEBREW_PLUGINS_DIR: {message}")
    if (locked := read(folder)) is None:
        return None
    files = tree(folder, paths)
    digests = digests_of(files)
    if differences := [*_differences(locked, lock_of(files, digests), files)]:
        shown = "; ".join(differences[:MOST_NAMED])
        more = f"; and {len(differences) - MOST_NAMED} more" if len(differences) > MOST_NAMED else ""
        cure = "put back what was locked, or, if you trust all that is there, run bytebrew plugins lock"
        raise SettingsError(f"BYTEBREW_PLUGINS_DIR: {folder} has not what its {LOCK} names: {shown}{more}; {cure}")
    return digests


def import_locked(folder: Path, digests: Mapping[str, str] | None) -> None:
    """Has modules below the folder compiled from the sources that were checked, if it has a lock.

    Bytecode in a cache was not checked, nor what a file becomes between the check and its import.
    """
    hook = _Hook((folder.resolve(), folder.absolute()), digests or {})
    others = [one for one in sys.path_hooks if not isinstance(one, _Hook) or one.folders != hook.folders]
    sys.path_hooks[:] = others
    if digests is not None:
        sys.path_hooks.insert(0, hook)
    for path in [path for path in sys.path_importer_cache if hook.name(Path(path, "module"))]:
        del sys.path_importer_cache[path]


class _Hook(Struct, frozen=True):
    """Finds modules below the plugin folder, whose path is there with and without links; with the files' digests."""

    folders: tuple[Path, Path]
    digests: Mapping[str, str]

    def __call__(self, path: str) -> FileFinder:
        if not self.name(Path(path, "module")):
            raise ImportError(f"{path} is not in the plugin folder")
        source: Any = partial(_SourceOnly, self)  # any callable will do
        return FileFinder(path, (ExtensionFileLoader, EXTENSION_SUFFIXES), (source, SOURCE_SUFFIXES))

    def name(self, path: Path) -> str:
        """The name that a file is locked with; empty if it is not in the folder."""
        for above in (path.parent.resolve(), path.parent.absolute()):
            for folder in self.folders:
                if above.is_relative_to(folder):
                    return (above / path.name).relative_to(folder).as_posix()
        return ""


class _SourceOnly(SourceFileLoader):
    """Neither reads nor writes bytecode, and compiles what was checked only."""

    def __init__(self, hook: _Hook, fullname: str, path: str) -> None:
        super().__init__(fullname, path)
        self._hook = hook

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        content = self.get_data(path)
        if sha256(content).hexdigest() != self._hook.digests.get(self._hook.name(Path(path))):
            raise ImportError(f"{path} was changed after its check against {LOCK}: start again")
        return self.source_to_code(content, path)


def _differences(locked: Lock, there: Lock, files: Mapping[str, Path]) -> Iterator[str]:
    """Each difference as a sentence's part."""
    wanted = {normalized(one.name): one for one in locked.distribution}
    present = {normalized(one.name): one for one in there.distribution}
    for name, one in wanted.items():
        if name not in present:
            yield f"{one.name} {one.version} is missing"
        elif (other := present[name]).version != one.version:
            yield f"{one.name} is {other.version} and not {one.version}"
        elif other != one:
            changed = ", ".join([*_changed(files, one)][:MOST_NAMED]) or "some of its files"
            yield f"{one.name} {one.version} was changed in {changed}"
    for name, one in present.items():
        if name not in wanted or len([other for other in there.distribution if normalized(other.name) == name]) > 1:
            yield f"{one.name} {one.version} is not locked"
    loose, known = ({file.path: file.sha256 for file in lock.file} for lock in (there, locked))
    for path, digest in loose.items():
        if path not in known:
            yield f"{path} is not locked"
        elif digest != known[path]:
            yield f"{path} was changed"
    yield from (f"{path} is missing" for path in known if path not in loose)


def _changed(files: Mapping[str, Path], locked: Distribution) -> Iterator[str]:
    """The files of a distribution that are not as its RECORD says."""
    for metadata in [name for name in files if name.endswith(".dist-info/METADATA")]:
        if _described(files[metadata]) == (locked.name, locked.version):
            for name, wanted in recorded(files, metadata).items():
                if wanted and wanted != record_hash(files[name].read_bytes()):
                    yield name


def record_hash(content: bytes) -> str:
    """The hash of a file as a RECORD has it."""
    return f"sha256={urlsafe_b64encode(sha256(content).digest()).decode().rstrip('=')}"


def _described(metadata: Path) -> tuple[str, str]:
    headers = HeaderParser().parsestr(metadata.read_text(encoding="utf-8", errors="replace"))
    return str(headers["Name"] or ""), str(headers["Version"] or "")


def _digest(path: Path) -> str:
    if path.is_dir():
        return sha256(os.fsencode(path.readlink())).hexdigest()
    if not path.is_file():
        raise SettingsError(f"BYTEBREW_PLUGINS_DIR: {path} is neither a file nor a folder; remove it")
    return sha256(path.read_bytes()).hexdigest()


def _sum(digests: Mapping[str, str]) -> str:
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return sha256(lines.encode(errors="surrogateescape")).hexdigest()
