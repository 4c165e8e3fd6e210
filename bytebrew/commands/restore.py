"""`bytebrew restore`."""

from pathlib import Path

import click

from bytebrew import restoring
from bytebrew.commands.setup import Setup, counted


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def restore(setup: Setup, file: Path) -> None:
    """Put what is in FILE, a backup, in the place of database, keys and uploads; no engine may run.

    What was there is kept beside it. FILE may be a copy of the database alone. Clients that followed events have to
    read again from the start.
    """
    data = setup.core().data_dir
    done = restoring.restore(file, data, setup.plugins)
    if done.torn:
        click.echo(f"warning: {file} was copied without the log beside it, so what was newest is missing", err=True)
    newest = f", the newest of {done.newest}" if done.newest else ""
    rest = f", keys and {counted(done.files, 'uploads')}" if done.whole else ""
    sessions = counted(done.sessions, "sessions")
    click.echo(f"restored {file} with {sessions}{newest}{rest}; its history epoch is {done.epoch}")
    for kept in done.kept:
        click.echo(f"what was there is {kept} now")
    if not done.whole:
        click.echo(f"put copies of {data / 'keys'} and {data / 'files'} in place too", err=True)
    click.echo("now run bytebrew doctor", err=True)
