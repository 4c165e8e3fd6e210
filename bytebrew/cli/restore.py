"""`bytebrew restore`: replaces the data folder's contents with those of a backup."""

import logging
from pathlib import Path

import click

from bytebrew.base import logs
from bytebrew.cli.setup import Setup, counted
from bytebrew.store.backups import restore as restoring


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def restore(setup: Setup, file: Path) -> None:
    """Put what is in FILE, a backup, in the place of database, keys and uploads; no engine may run.

    What was there is kept beside it. FILE may be a copy of the database alone. Clients that followed events have to
    read again from the start.
    """
    setup.check_file()
    data, form = setup.core().data_dir, setup.core().log_format
    done = restoring.restore(file, data, setup.migrations())
    if done.torn:
        warning = f"warning: {file} was copied without the log beside it, so what was newest is missing"
        click.echo(logs.printed(form, warning, logging.WARNING), err=True)
    newest = f", the newest of {done.newest}" if done.newest else ""
    rest = f", keys and {counted(done.files, 'uploads')}" if done.whole else ""
    sessions = counted(done.sessions, "sessions")
    summary = f"restored {file} with {sessions}{newest}{rest}; its history epoch is {done.epoch}"
    for line in (summary, *(f"what was there is {kept} now" for kept in done.kept)):
        click.echo(logs.printed(form, line))
    if not done.whole:
        rest = f"{data / 'keys'} and {data / 'files'}"
        warning = f"{rest} stay as they are; if {file} is of another data folder, put its own in their place"
        click.echo(logs.printed(form, warning, logging.WARNING), err=True)
    click.echo(logs.printed(form, "now run bytebrew doctor"), err=True)
