"""`bytebrew backup`: writes one archive, or one per interval."""

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
    setup.check_file()
    if every is None:
        if keep is not None:
            raise click.UsageError("--keep goes with --every")
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that the partial archive is removed
        click.echo(logs.printed(setup.core().log_format, _write(setup, file)), err=True)
        return
    try:
        seconds = Duration.parse(every)
    except ValueError as error:
        raise click.UsageError(f"--every: {error}") from error
    if seconds < 1:
        raise click.UsageError("--every takes a second or more, such as 5m")
    _repeat(setup, file, seconds, keep)


def _write(setup: Setup, file: Path) -> str:
    done = archives.backup(setup.core().data_dir, file)
    keys, uploads = counted(done.keys, "keys"), counted(done.files, "uploads")
    return f"wrote {file}, {done.size:,} bytes: the database, {keys} and {uploads}"


def _repeat(setup: Setup, file: Path, seconds: float, keep: int | None) -> None:
    """Writes backups until a signal arrives; a failure is printed and retried at the next interval."""
    form, stop = setup.core().log_format, threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    _remove_partial(file)
    due = time.monotonic()
    while not stop.is_set():
        try:
            stem, suffix = _split(file)
            target = file.with_name(f"{stem}-{stamp()}{suffix}")
            click.echo(logs.printed(form, _write(setup, target)), err=True)
            for old in _written(file)[:-keep] if keep else ():
                old.unlink()
                click.echo(logs.printed(form, f"removed {old}"), err=True)
        except (BootError, OSError) as error:
            if isinstance(error, SettingsError):
                raise
            message = f"bytebrew: {error}; the next backup is in {seconds:g} s"
            click.echo(logs.printed(form, message, logging.ERROR), err=True)
        due = max(due + seconds, time.monotonic())
        stop.wait(due - time.monotonic())


def _split(file: Path) -> tuple[str, str]:
    """Stem and suffix of the file name; `.tar.gz` is one suffix."""
    suffix = ".tar.gz" if file.name.endswith(".tar.gz") else file.suffix
    return file.name.removesuffix(suffix), suffix


def _pattern(file: Path) -> str:
    """A regular expression for the names of this schedule's backups."""
    stem, suffix = map(re.escape, _split(file))
    return rf"{stem}-{STAMP}{suffix}"


def _written(file: Path) -> list[Path]:
    """The backups of this schedule, the oldest first."""
    own = re.compile(_pattern(file))
    folder = file.absolute().parent
    return oldest_first(
        path for path in folder.iterdir() if own.fullmatch(path.name) and path.is_file() and not path.is_symlink()
    )


def _remove_partial(file: Path) -> None:
    """Deletes partial archives of killed backups."""
    partial = re.compile(rf"\.{_pattern(file)}\.part-\w+")
    for path in file.absolute().parent.glob(".*"):
        if partial.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
