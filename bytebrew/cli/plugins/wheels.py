"""Reads a wheel without running anything of it: names, metadata and contents are checked before a file is written."""

import csv
import io
import platform
import re
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping
from email.message import Message
from email.parser import BytesHeaderParser
from lzma import LZMAError
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile, ZipFile

import click

from bytebrew.plugin_lock import COMMITTED, LOCK, STAGED, record_hash
from bytebrew.requirements import Version, allows, normalized
from bytebrew.wheel_tags import unfit

MOST_BYTES, MOST_FILES, LONGEST = 256 << 20, 20_000, 500
"""Unpacked size and number of files of a wheel, and the length of a path in it."""
_FILE = re.compile(
    r"(?P<name>\w[\w.]*)-(?P<version>[\w.!+]+)(-\d\w*)?-(?P<python>[\w.]+)-(?P<abi>[\w.]+)-(?P<platform>[\w.]+)\.whl"
)
_SIGNATURES = ("RECORD.jws", "RECORD.p7s")


class Wheel(NamedTuple):
    """A wheel: its metadata, and its files by the path at which they are installed."""

    path: Path
    name: str
    version: str
    requires: tuple[str, ...]
    entry_points: str
    files: Mapping[str, bytes]
    omitted: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def named(path: Path) -> re.Match[str] | None:
    """The parts of a wheel's file name; None if it is none, or of a wheel for another Python or machine."""
    match = _FILE.fullmatch(path.name)
    return match if match and not _unfit(match) else None


def read(path: Path) -> Wheel:
    """The wheel in a file; ClickException says why it cannot be installed."""
    if not (match := _FILE.fullmatch(path.name)):
        raise _bad(path, "its name is not that of a wheel, such as bytebrew_acme-0.1.0-py3-none-any.whl")
    if reason := _unfit(match):
        raise _bad(path, reason)
    try:
        with ZipFile(path) as archive:
            return _read(path, match, _contents(path, archive))
    except (
        BadZipFile,
        EOFError,
        LZMAError,
        NotImplementedError,
        OSError,
        UnicodeDecodeError,
        csv.Error,
        zlib.error,
    ) as error:
        raise _bad(path, f"it cannot be read: {error}") from error


def _read(path: Path, match: re.Match[str], contents: dict[str, bytes]) -> Wheel:
    own = [name.partition("/")[0] for name in contents if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
    if len(own) != 1:
        raise _bad(path, f"it has {len(own)} folders of metadata, and a wheel has one")
    metadata, name = headers(contents[f"{own[0]}/METADATA"]), normalized(match["name"])
    for part, what in (
        (metadata["Name"], "name"),
        (own[0].removesuffix(".dist-info").rpartition("-")[0], "folder of metadata"),
    ):
        if normalized(str(part)) != name:
            raise _bad(path, f"its {what} is of {part}, and its file is named after {match['name']}")
    try:
        same = Version.of(str(metadata["Version"])) == Version.of(match["version"])
        python = allows(metadata["Requires-Python"] or "", platform.python_version())
    except ValueError as error:
        raise _bad(path, str(error)) from error
    if not same:
        raise _bad(path, f"its version is {metadata['Version']}, and its file is named after {match['version']}")
    if not python:
        raise _bad(path, f"it needs Python {metadata['Requires-Python']}, and this is {platform.python_version()}")
    layout = str(headers(contents.get(f"{own[0]}/WHEEL", b""))["Wheel-Version"])
    if layout.split(".")[0] != "1":
        raise _bad(path, f"it is a wheel of version {layout}, and 1.0 is known")
    _check_record(path, own[0], contents)
    files, omitted = _installed(path, own[0], contents)
    entry_points = files.get(f"{own[0]}/entry_points.txt", b"").decode()
    requires = tuple(map(str, metadata.get_all("Requires-Dist") or ()))
    return Wheel(path, str(metadata["Name"]), str(metadata["Version"]), requires, entry_points, files, omitted)


def _contents(path: Path, archive: ZipFile) -> dict[str, bytes]:
    """The files of the archive; ClickException for a name or a size that must not be unpacked."""
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(entries) > MOST_FILES or sum(entry.file_size for entry in entries) > MOST_BYTES:
        raise _bad(path, f"it has more than {MOST_FILES} files or {MOST_BYTES >> 20} MiB")
    seen: dict[str, str] = {}
    for entry in entries:
        parts = entry.filename.split("/")
        if {"", ".", ".."} & {*parts} or re.search(r"[\\:\x00-\x1f\x7f]", entry.filename):
            raise _bad(path, f"it has a file {entry.filename!r}, which would leave the folder")
        if len(entry.filename) > LONGEST:
            raise _bad(path, f"it has a file with a path of more than {LONGEST} characters")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise _bad(path, f"it has a link, {entry.filename}")
        if entry.flag_bits & 1:
            raise _bad(path, f"{entry.filename} is encrypted")
        if first := seen.get(entry.filename.casefold()):
            raise _bad(path, f"it has {first} twice")
        seen[entry.filename.casefold()] = entry.filename
    return {entry.filename: archive.read(entry) for entry in entries}


def _check_record(path: Path, own: str, contents: Mapping[str, bytes]) -> None:
    """RECORD must list every file with its hash, but for itself and signatures."""
    record = contents.get(f"{own}/RECORD", b"").decode()
    hashes = {row[0]: row[1] for row in csv.reader(io.StringIO(record)) if len(row) > 1}
    unlisted = {f"{own}/{name}" for name in ("RECORD", *_SIGNATURES)}
    for name, content in contents.items():
        if name not in unlisted and hashes.get(name) != record_hash(content):
            reason = "differs from its hash" if name in hashes else "is not listed"
            raise _bad(path, f"{name} {reason} in its RECORD: build or fetch the wheel anew")
    if missing := hashes.keys() - contents.keys() - unlisted:
        raise _bad(path, f"it lacks {min(missing)}, which its RECORD lists")


def _installed(path: Path, own: str, contents: Mapping[str, bytes]) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """The files by the path at which they are installed, with a RECORD of them; and those that are left out."""
    files: dict[str, bytes] = {}
    omitted = []
    for name, content in contents.items():
        first, _, rest = name.partition("/")
        kind, _, below = rest.partition("/")
        data = first.lower().endswith(".data")
        place = below if data and kind in ("purelib", "platlib") else name
        top = place.partition("/")[0]
        if name.endswith(".pyc") or (data and place in ("", name)):
            omitted.append(name)  # scripts and headers have no place here, and bytecode is not what is locked
        elif top in (LOCK, STAGED, COMMITTED):
            raise _bad(path, f"it has a file {name}, which is the folder's own")
        elif top != own and top.lower().endswith((".dist-info", ".egg-info")):
            raise _bad(path, f"it has a file {name}, which is the metadata of another distribution")
        elif place in files:
            raise _bad(path, f"it has {place} twice, once as {name}")
        else:
            files[place] = content
    for name in ("RECORD", *_SIGNATURES):
        files.pop(f"{own}/{name}", None)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerows((name, record_hash(content), len(content)) for name, content in sorted(files.items()))
    rows.writerow((f"{own}/RECORD", "", ""))
    return {**files, f"{own}/RECORD": text.getvalue().encode()}, tuple(omitted)


def _unfit(match: re.Match[str]) -> str:
    """Why the tag of the file name does not fit this process; empty if it does."""
    return unfit(["-".join(match[part] for part in ("python", "abi", "platform"))])


def modules(wheel: Wheel) -> Iterator[tuple[str, bool]]:
    """The top-level modules of a wheel, with whether it is a package without `__init__`, which others may share."""
    tops = {name.partition("/")[0] for name in wheel.files if "/" in name}
    for top in sorted(tops):
        if not top.endswith((".dist-info", ".data")):
            yield top, f"{top}/__init__.py" not in wheel.files
    for name in sorted(wheel.files):
        if "/" not in name and (match := re.fullmatch(r"([^.]+)(\.[\w-]+)?\.(py|so|pyd)", name)):
            yield match[1], False


def importable(files: Iterable[str]) -> dict[str, str]:
    """The files that Python imports, by the path of their module."""
    matches = (re.fullmatch(r"((?:[^/]+/)*?[^/.]+)(/__init__)?(\.[\w-]+)?\.(py|so)", file) for file in sorted(files))
    return {match[1]: match[0] for match in matches if match}


def headers(content: bytes) -> Message:
    """The headers of a METADATA or WHEEL file."""
    return BytesHeaderParser().parsebytes(content)


def _bad(path: Path, reason: str) -> click.ClickException:
    return click.ClickException(f"{path.name}: {reason}")
