"""`bytebrew config`: exports, imports, compares and validates the configuration."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec

from bytebrew.base.progress import Progress
from bytebrew.cli import remote_engine
from bytebrew.cli.doctor import nearest
from bytebrew.cli.setup import Setup, counted, opened
from bytebrew.config import import_export
from bytebrew.config.import_export import lines
from bytebrew.config.validate import parse
from bytebrew.config.yaml_tree import InvalidConfig, contents
from bytebrew.engine import Engine


@click.group("config")
def configuration() -> None:
    """Export, import, compare and check the configuration.

    It is the data folder's, or with --url a running engine's.
    """


_URL = click.option("--url", help="Base URL of a running engine; its token is BYTEBREW_TOKEN.")
_FILE = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
_REPLACE = click.option("--replace", is_flag=True, help="What the file's sections leave out goes.")


@configuration.command("export")
@_URL
@click.option("--output", type=click.Path(path_type=Path), help="File to write instead of standard output.")
@click.pass_obj
def export_config(setup: Setup, url: str | None, output: Path | None) -> None:
    """Print the configuration as YAML, every credential as ${VAR}."""
    if url:
        text = remote_engine.export(url, setup.core().token).decode()
    else:
        engine = setup.engine()
        with opened(engine) as conn:
            text = import_export.text_of(import_export.export(conn, engine)[0])
    if output:
        output.write_text(text, encoding="utf-8")
    else:
        click.echo(text.encode(), nl=False)


@configuration.command("import")
@_URL
@_REPLACE
@_FILE
@click.pass_obj
def import_config(setup: Setup, url: str | None, replace: bool, file: Path) -> None:
    """Merge FILE into the configuration, all of it or nothing.

    Tell an engine that runs on the data folder by POST /api/v1/config/reload, or import with --url.
    """
    _print_plan(_plan(setup, file, url, replace=replace, dry_run=False))


@configuration.command("diff")
@_URL
@_REPLACE
@_FILE
@click.pass_obj
def diff_config(setup: Setup, url: str | None, replace: bool, file: Path) -> None:
    """Print what an import of FILE would change, and change nothing."""
    _print_plan(_plan(setup, file, url, replace=replace, dry_run=True))


@configuration.command("validate")
@_URL
@_FILE
@click.pass_obj
def validate_config(setup: Setup, url: str | None, file: Path) -> None:
    """Check FILE and name every problem with its line and column."""
    plan = _plan(setup, file, url, replace=False, dry_run=True)
    counts = [counted(count, key) for key, count in plan.imported.items() if count]
    click.echo(f"{file} is valid: {', '.join(counts) or 'there is nothing in it'}")


def _plan(setup: Setup, file: Path, url: str | None, *, replace: bool, dry_run: bool) -> import_export.Plan:
    """The plan of an import; ClickException with a line for each problem."""
    try:
        if url:
            plan = remote_engine.apply(url, setup.core().token, file.read_bytes(), replace=replace, dry_run=dry_run)
        else:
            with _planning(setup, file, dry_run) as engine:
                parsed = parse(contents(file, engine.settings.core.max_body_bytes), engine.sections, engine.dialects)
                with Progress(f"importing {file.name}") as progress, opened(engine, progress.beat) as conn:
                    plan = import_export.apply(conn, engine, parsed, replace=replace, dry_run=dry_run)
    except InvalidConfig as error:
        summary = f"{file} does not fit" if dry_run else "nothing was changed"
        raise click.ClickException("\n".join([summary, *lines(file, error.details)])) from error
    for line in lines(file, plan.warnings):
        click.echo(f"warning: {line}", err=True)
    return plan


@contextmanager
def _planning(setup: Setup, file: Path, dry_run: bool) -> Iterator[Engine]:
    """An engine on the data folder; a dry run on none that an engine has made gets a temporary folder."""
    if not dry_run or setup.first_file().exists():
        yield setup.engine(may_create=True, BYTEBREW_CONFIG=str(file))
        return
    with tempfile.TemporaryDirectory(prefix=".config-", dir=_scratch(setup.core().data_dir)) as folder:
        yield Engine({**setup.environment, "BYTEBREW_DATA_DIR": folder, "BYTEBREW_CONFIG": str(file)})


def _scratch(data: Path) -> str:
    """The folder for temporary files; the data folder if the system has none that is writable."""
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        return str(nearest(data))


def _print_plan(plan: import_export.Plan) -> None:
    signs = {"create": "+", "update": "~", "delete": "-"}
    for change in plan.changes:
        if change.action in signs:
            click.echo(f"{signs[change.action]} {change.section} {change.name}")
        for field in change.fields:
            before, after = (msgspec.json.encode(value).decode() for value in (field.before, field.after))
            click.echo(f"    {field.field or 'value'}: {before} -> {after}")
    click.echo(counted(sum(change.action in signs for change in plan.changes), "changes"), err=True)
