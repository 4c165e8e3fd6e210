"""Changes the plugin folder as a whole: staged aside, committed by one rename, then put in place."""

import fcntl
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import click

from bytebrew import plugin_folder, plugin_lock
from bytebrew.plugin_lock import COMMITTED, LOCK, STAGED

CHANGES = "changes.json"


@contextmanager
def changing(folder: Path, *, may_create: bool = False) -> Iterator[Path]:
    """The folder, resolved and safe to write to, for one process at a time; an earlier change is completed first."""
    if may_create:
        _make_folder(folder)
    elif not folder.is_dir():
        raise click.ClickException(f"{folder} is no folder; {plugin_folder.FILL}")
    plugin_folder.check(folder)
    folder = folder.resolve()
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise click.ClickException(f"another bytebrew changes {folder}; wait for its end") from error
        complete(folder)
        shutil.rmtree(folder / STAGED, ignore_errors=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder / STAGED, ignore_errors=True)
    finally:
        os.close(descriptor)


def files_of(folder: Path) -> dict[str, Path]:
    """The files of the folder by relative path, without the lock."""
    return plugin_lock.tree(folder, plugin_folder.check(folder))


def put(folder: Path, new: Mapping[str, bytes], removed: Collection[str]) -> None:
    """Writes files, removes others, and locks what is there then."""
    staged = folder / STAGED
    there = files_of(folder)
    for name in (*there, *new, *removed):
        if link := next((path for path in (folder / name).parents if path != folder and path.is_symlink()), None):
            raise click.ClickException(
                f"{link} is a link to a folder, and nothing was changed; replace it by its files"
            )
    kept = {name: path for name, path in there.items() if name not in removed}
    folders = {str(parent) for name in (*kept, *new) for parent in PurePosixPath(name).parents}
    if both := sorted(folders & (kept.keys() | new.keys())):
        raise click.ClickException(f"{both[0]} would be a file and a folder, and nothing was changed")
    for name, content in new.items():
        _write(staged / "new" / name, content)
    lock = plugin_lock.lock_of({**kept, **{name: staged / "new" / name for name in new}})
    gone = sorted({*removed} - new.keys())
    _write(staged / CHANGES, json.dumps({"removed": gone, "lock": lock.text()}).encode())
    os.sync()  # or the new name of the folder could outlive a power failure that its files do not
    staged.rename(folder / COMMITTED)
    complete(folder)


def complete(folder: Path) -> None:
    """Puts a committed change in place; repeated after a crash, it has the same result."""
    committed = folder / COMMITTED
    if not committed.exists():
        return
    if (changes := committed / CHANGES).exists():
        _apply(folder, committed / "new", json.loads(changes.read_text()))
        changes.unlink()
    shutil.rmtree(committed)


def _apply(folder: Path, new: Path, changes: Mapping[str, Any]) -> None:
    for name in changes["removed"]:
        (folder / name).unlink(missing_ok=True)
        _prune((folder / name).parent, folder)
    for path in sorted(path for path in new.rglob("*") if path.is_file()):
        target = folder / path.relative_to(new)
        _make_folder(target.parent)
        path.replace(target)
    _write(folder / COMMITTED / LOCK, changes["lock"].encode())
    (folder / COMMITTED / LOCK).replace(folder / LOCK)


def _prune(path: Path, folder: Path) -> None:
    """Removes folders that have nothing left but bytecode."""
    while path != folder and path.exists() and all(below.name == "__pycache__" for below in path.iterdir()):
        shutil.rmtree(path)
        path = path.parent


def _write(path: Path, content: bytes) -> None:
    """A file that other users may read: the engine's user may be another than the one that installs."""
    _make_folder(path.parent)
    path.write_bytes(content)
    path.chmod(0o644)


def _make_folder(path: Path) -> None:
    if not path.exists():
        _make_folder(path.parent)
        path.mkdir()
        path.chmod(0o755)
