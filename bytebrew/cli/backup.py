"""`bytebrew backup`: once, or again and again."""

import logging
import re
import shutil
import signal
import threading
import time
from pathlib import Path
from types import FrameType

import click

from bytebrew.base import logs
from bytebrew.base.errors import BootError, SettingsError
from bytebrew.base.formats import Duration
from bytebrew.cli.setup import Setup, counted
from bytebrew.store.backups import backup as archives
from bytebrew.store.backups.copies import STAMP, oldest_first, stamp


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--every", metavar="TIME", help="Go on: a backup each time that so long has passed, such as 5m or 1h.")
@click.option("--keep", type=click.IntRange(min=1), metavar="N", help="With --every: remove all but the newest N.")
@click.pass_obj
def backup(setup: Setup, file: Path, every: str | None, keep: int | None) -> None:
    """Write database, keys and uploads to a new FILE, which belong together; the engine may run.

    FILE opens every stored credential: keep it where nobody else can read it. With --every, FILE.tar stands for
    FILE-TIME.tar, only such files are removed, and a backup that fails is printed and does not end the command.
    """
    if every is None:
        if keep is not None:
            raise click.UsageError("--keep goes with --every")
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: nothing is left of a part
        click.echo(logs.printed(setup.core().log_format, _once(setup, file)), err=True)
        return
    try:
        seconds = Duration.parse(every)
    except ValueError as error:
        raise click.UsageError(f"--every: {error}") from error
    if seconds < 1:
        raise click.UsageError("--every takes a second or more, such as 5m")
    _repeat(setup, file, seconds, keep)


def _once(setup: Setup, file: Path) -> str:
    done = archives.backup(setup.core().data_dir, file)
    what = f"the database, {counted(done.keys, 'keys')} and {counted(done.files, 'uploads')}"
    return f"wrote {file}, {done.size:,} bytes: {what}"


def _repeat(setup: Setup, file: Path, seconds: float, keep: int | None) -> None:
    """Backs up until a signal comes; what fails is printed, and tried again at the next time."""
    form, stop = setup.core().log_format, threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    _clear(file)
    due = time.monotonic()
    while not stop.is_set():
        try:
            stem, ending = _parts(file)
            target = file.with_name(f"{stem}-{stamp()}{ending}")
            click.echo(logs.printed(form, _once(setup, target)), err=True)
            for old in _own(file)[:-keep] if keep else ():
                old.unlink()
                click.echo(logs.printed(form, f"removed {old}"), err=True)
        except (BootError, OSError) as error:
            if isinstance(error, SettingsError):
                raise
            words = f"bytebrew: {error}; the next backup is in {seconds:g} s"
            click.echo(logs.printed(form, words, logging.ERROR), err=True)
        due = max(due + seconds, time.monotonic())
        stop.wait(due - time.monotonic())


def _parts(file: Path) -> tuple[str, str]:
    """The name without its ending, and the ending, such as `.tar.gz`."""
    ending = ".tar.gz" if file.name.endswith(".tar.gz") else file.suffix
    return file.name.removesuffix(ending), ending


def _names(file: Path) -> str:
    """The regular expression of the names of a schedule's backups."""
    stem, ending = map(re.escape, _parts(file))
    return rf"{stem}-{STAMP}{ending}"


def _own(file: Path) -> list[Path]:
    """The backups that a schedule of this name has written, the oldest first."""
    own = re.compile(_names(file))
    folder = file.absolute().parent
    return oldest_first(
        one for one in folder.iterdir() if own.fullmatch(one.name) and one.is_file() and not one.is_symlink()
    )


def _clear(file: Path) -> None:
    """Removes what backups of this name have left that were killed."""
    left = re.compile(rf"\.{_names(file)}\.part-\w+")
    for one in file.absolute().parent.glob(".*"):
        if left.fullmatch(one.name):
            shutil.rmtree(one, ignore_errors=True)
