"""`bytebrew backup` and `bytebrew restore`."""

from pathlib import Path

import click

from bytebrew import backup as copies
from bytebrew.commands.setup import Setup, counted


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_obj
def backup(setup: Setup, file: Path) -> None:
    """Copy the database to a new FILE; the engine may run.

    Not in it are the folders keys/, without which no stored credential opens, and files/, which has what was uploaded:
    keep a copy of both beside it.
    """
    data = setup.core().data_dir
    copies.backup(data / "bytebrew.db", file)
    click.echo(f"wrote {file}; keep a copy of {data / 'keys'} and {data / 'files'} beside it", err=True)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def restore(setup: Setup, file: Path) -> None:
    """Put a copy of FILE, a backup, in the place of the database; no engine may run.

    The database that was there is kept beside it. Clients that followed events of it have to read again from the start.
    """
    data = setup.core().data_dir
    done = copies.restore(file, data, setup.plugins)
    if done.torn:
        click.echo(f"warning: {file} was copied without the log beside it, so what was newest is missing", err=True)
    newest = f", the newest of {done.newest}" if done.newest else ""
    click.echo(f"restored {file} with {counted(done.sessions, 'sessions')}{newest}; its history epoch is {done.epoch}")
    if done.kept:
        click.echo(f"the database that was there is {done.kept} now")
    click.echo(f"put copies of {data / 'keys'} and {data / 'files'} in place too; then run bytebrew doctor", err=True)
