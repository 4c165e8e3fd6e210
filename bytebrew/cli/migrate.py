"""`bytebrew migrate`: copies the engine's data from SQLite to PostgreSQL, and back."""

import shutil
import sys
from contextlib import ExitStack
from pathlib import Path

import click

from bytebrew.base.errors import BootError, SettingsError
from bytebrew.base.masking import masked_value
from bytebrew.cli.setup import Setup, counted
from bytebrew.engine import Engine
from bytebrew.store.moving.copy import Side
from bytebrew.store.moving.move import Moved, move


@click.command()
@click.option("--to", "target", required=True, metavar="URL", help="URL of an empty database, or a folder for SQLite.")
@click.pass_obj
def migrate(setup: Setup, target: str) -> None:
    """Copy all data from SQLite into PostgreSQL, or back, and compare both; no engine may run.

    With a URL, such as postgresql://user@host/name, the data folder's database is copied into the empty database there.
    With a folder, the database of BYTEBREW_DATABASE_URL is copied into the new file bytebrew.db in it. The same command
    again goes on with a copy that was stopped. What is copied from stays as it is. Exit code 1 if the copy differs.
    """
    if "://" in target:
        old, new = _with_url(setup, "").engine(), _with_url(setup, target).engine(may_create=True)
    else:
        if not setup.core().database_url:
            raise SettingsError("BYTEBREW_DATABASE_URL: it names the database that is copied into a folder")
        old, new = setup.engine(), _engine_on(setup, Path(target))
    with ExitStack() as stack:
        for folder in {engine.data_dir.resolve(): engine.folder for engine in (old, new)}.values():
            stack.enter_context(folder.held())
        moved = move(Side(old.driver, old.migrations), Side(new.driver, new.migrations), old.folder.check_fits)
        uploads = old.data_dir / "files"
        if moved.epoch is not None and new.data_dir != old.data_dir and uploads.exists():
            shutil.copytree(uploads, new.data_dir / "files", dirs_exist_ok=True)
    _report(old, new, moved)
    if moved.epoch is None:
        sys.exit(1)
    where = old.data_dir if "://" in target else new.data_dir
    click.echo(_next(where, str(masked_value(target)) if "://" in target else ""))


def _with_url(setup: Setup, url: str) -> Setup:
    return setup._replace(environment={**setup.environment, "BYTEBREW_DATABASE_URL": url})


def _engine_on(setup: Setup, folder: Path) -> Engine:
    """An engine with SQLite in a folder, which gets the keys of the data folder."""
    keys = setup.core().data_dir / "keys"
    if keys.exists() and not (folder / "keys").exists():
        shutil.copytree(keys, folder / "keys")
    if _key(keys) != _key(folder / "keys"):
        raise BootError(f"{folder / 'keys' / 'secrets.key'} is not the key of {keys.parent}; name a new folder")
    environment = {**setup.environment, "BYTEBREW_DATA_DIR": str(folder), "BYTEBREW_DATABASE_URL": ""}
    return Engine(environment)


def _key(folder: Path) -> bytes:
    file = folder / "secrets.key"
    return file.read_bytes() if file.exists() else b""


def _report(old: Engine, new: Engine, moved: Moved) -> None:
    resumed = f", {moved.resumed:,} of them before" if moved.resumed else ""
    click.echo(f"copied {moved.rows:,} rows from {old.driver.place} to {new.driver.place}{resumed}")
    if moved.altered:
        texts = counted(moved.altered, "texts")
        click.echo(f"warning: {texts} had the character 0, which PostgreSQL lacks: U+FFFD stands for it", err=True)
    for owner in moved.left_behind:
        click.echo(f"warning: the rows of {owner} stay behind, as no plugin of this name is installed", err=True)
    compared = moved.compared
    for difference in compared.differences:
        click.echo(f"DIFFERS {difference}")
    if compared.differences:
        more = f" and {compared.more} more" if compared.more else ""
        click.echo(f"the copy differs in the {len(compared.differences)} points above{more}: begin with an empty one")
        return
    click.echo(
        f"all tables have as many rows, and {counted(compared.sessions, 'sessions')} replay"
        f" {counted(compared.events, 'events')} with the same bytes"
    )
    click.echo(f"{old.driver.place} is as it was; an engine on it would begin history epoch {moved.epoch}")


def _next(data: Path, url: str) -> str:
    """What the operator sets for the next start."""
    if not url:
        return f"next: unset BYTEBREW_DATABASE_URL, set BYTEBREW_DATA_DIR={data}, and run bytebrew serve"
    key = data / "keys" / "secrets.key"
    return (
        f"next: set BYTEBREW_DATABASE_URL={url} (*** stands for what you gave) and run bytebrew serve; every"
        f" further node needs a copy of {key}"
    )
