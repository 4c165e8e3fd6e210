"""The plugin folder: checks that no other user can write to it and that it is as locked, and makes it importable."""

import os
import platform
import pwd
import re
import stat
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from bytebrew import plugin_lock
from bytebrew.base.errors import SettingsError
from bytebrew.requirements import allows, normalized, required
from bytebrew.wheel_tags import unfit

VARIABLE = "BYTEBREW_PLUGINS_DIR"
FILL = "fill it with bytebrew plugins install FILE.whl"


def enter(folder: Path) -> list[Distribution]:
    """The distributions in the folder, which is appended to `sys.path`.

    Raises SettingsError if it is not a folder, if another user could change the code that the engine runs, if it is not
    as locked, or if something in it was made for another Python or another machine.
    """
    if not folder.resolve().is_dir():  # Linux may refuse to follow a link of another user
        raise SettingsError(f"{VARIABLE}: {folder} is no folder; {FILL}")
    paths = check(folder)
    plugin_lock.import_locked(folder, plugin_lock.verify(folder.resolve(), paths))
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    there = list(distributions(path=[str(folder)]))
    for one in there:
        if not (one.metadata["Name"] and one.metadata["Version"]):
            points = ", ".join(one.entry_points.names) or "none"
            message = f"a .dist-info or .egg-info in {folder} (its entry points: {points}) has no name or no version"
            raise SettingsError(f"{VARIABLE}: {message}; delete it")
        if reason := _unfit(one):
            message = f"{one.name} {one.version} in {folder} cannot run here: {reason}"
            raise SettingsError(f"{VARIABLE}: {message}; replace it, with bytebrew plugins install FILE.whl")
    return there


def _unfit(distribution: Distribution) -> str:
    """Why it was made for another Python or another machine, if so."""
    tags = re.findall(r"^Tag: *(\S+)", distribution.read_text("WHEEL") or "", re.MULTILINE)
    if tags and (reason := unfit(tags)):
        return reason
    wanted = distribution.metadata["Requires-Python"]
    if wanted and not allows(wanted, platform.python_version()):
        return f"it needs Python {wanted}, and this is {platform.python_version()}"
    return ""


def check(folder: Path) -> list[Path]:
    """Every path in the folder, itself included; SettingsError if another user could change what is there."""
    found = [*_files(folder.resolve(), set())]
    way: dict[Path, None] = {}
    for one in (folder, *(path for path in found if path.is_symlink())):
        _follow(one.absolute(), way)
    for path in way:
        above = path.parent.stat().st_mode
        if above & stat.S_IWOTH and above & stat.S_ISVTX:  # sticky bit: only the owner of an entry may rename it
            _check_owner(path, path.lstat().st_uid, f"chown -h {_user(os.geteuid())} {path}")
        mode = path.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise SettingsError(_open_to_all(path, mode, f"chmod o-w {path}"))
    for path in found:
        status = path.stat()
        if status.st_mode & stat.S_IWOTH:
            raise SettingsError(_open_to_all(path, status.st_mode, f"chmod -R o-w {folder}"))
        _check_owner(path, status.st_uid, f"chown -R {_user(os.geteuid())} {folder}")
    return found


def unused_distributions(folder: Path, there: list[Distribution], group: str) -> Iterator[str]:
    """A sentence for each distribution in the folder that is no plugin and that no plugin there requires."""
    if not there and any(path.name != plugin_lock.LOCK for path in folder.iterdir()):
        yield f"no distribution is in {folder}, and a module alone is no plugin; {FILL}"
    plugins = {normalized(one.name) for one in there if one.entry_points.select(group=group)}
    wanted: set[str] = set()
    waiting = plugins
    while waiting - wanted:
        wanted |= waiting
        waiting = {name for one in there if normalized(one.name) in wanted for name in required(one.requires or ())}
    for one in there:
        if normalized(one.name) not in wanted:
            groups = ", ".join(sorted(one.entry_points.groups)) or "none"
            message = f"has no entry point in the group '{group}' (its groups: {groups}), so it is no plugin"
            yield f"{one.name} {one.version} in {folder} {message}, and no plugin there requires it"


def _files(path: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """The path and everything below it, each folder once, following symbolic links."""
    try:
        status = path.stat()
    except FileNotFoundError:  # a dangling link
        return
    yield path
    if stat.S_ISDIR(status.st_mode) and (status.st_dev, status.st_ino) not in seen:
        seen.add((status.st_dev, status.st_ino))
        for below in sorted(path.iterdir()):
            yield from _files(below, seen)


def _follow(path: Path, way: dict[Path, None]) -> None:
    """Collects every folder and symbolic link on the way to the path."""
    for one in (*reversed(path.parents), path):
        if one not in way:
            way[one] = None
            if one.is_symlink():
                _follow(one.parent / one.readlink(), way)


def _check_owner(path: Path, owner: int, cure: str) -> None:
    if owner not in (0, os.geteuid()):
        message = f"{path} belongs to {_user(owner)}, who could change what the engine runs"
        raise SettingsError(f"{VARIABLE}: {message}; run {cure}")


def _open_to_all(path: Path, mode: int, cure: str) -> str:
    message = f"{path} may be changed by every user ({stat.S_IMODE(mode):o}), and the engine runs what is there"
    return f"{VARIABLE}: {message}; run {cure}"


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
