"""The command line."""

import asyncio
import gc
import importlib.metadata
import os
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec

from bytebrew import backup as copies
from bytebrew import config_file, descriptors, logs, remote, retention, server, settings
from bytebrew.checking import parse
from bytebrew.config_file import lines
from bytebrew.doctor import examine
from bytebrew.documents import InvalidConfig, contents
from bytebrew.engine import Engine
from bytebrew.errors import BootError, EngineError, SettingsError
from bytebrew.greeting import greeting
from bytebrew.plugins import Plugins
from bytebrew.settings import Core
from bytebrew.store import tokens


def main() -> None:
    """The console script: what goes wrong is told in words; exit code 2 is for bad settings, 1 for the rest."""
    os.umask(0o077)  # what the engine writes is its owner's alone
    while (spare := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # a standard stream that was closed would be the next file or socket
    os.close(spare)
    if sys.stdout:
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        plugins = _plugins()
        plugins.commands(cli)
        cli.main(prog_name="bytebrew", standalone_mode=False, obj=plugins)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except SettingsError as error:
        click.echo(f"bytebrew: {error}", err=True)
        sys.exit(2)
    except UnicodeEncodeError as error:
        click.echo(f"bytebrew: {error.object!a} is no text in UTF-8", err=True)
        sys.exit(2)
    except (BootError, EngineError, OSError, sqlite3.Error) as error:
        click.echo(f"bytebrew: {_words(error)}", err=True)
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(1)


def _words(error: Exception) -> str:
    if isinstance(error, EngineError):
        return "; ".join([error.message, *(one.message for one in error.details if one.message not in error.message)])
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _plugins() -> Plugins:
    early = settings.read(os.environ, [Core], whole=False).core
    plugins = Plugins()
    plugins.load(early.disabled_plugins, early.plugins_dir)
    return plugins


class WithSettings(click.Command):
    """A command whose help lists every setting."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The settings table."""
        with formatter.section("Settings, from the environment"):
            formatter.write_dl(
                [
                    (row.variable, f"{row.help} [{row.default}]" if row.default else row.help)
                    for row in settings.rows(ctx.obj.tables())
                ]
            )


@click.group()
@click.version_option(package_name="bytebrew")
def cli() -> None:
    """A self-hosted engine for AI agents; `bytebrew serve --help` lists every setting.

    Every command works on the data folder that BYTEBREW_DATA_DIR names, ./data if it names none.
    """


@cli.command(cls=WithSettings)
@click.option("--host", help="Address to listen on (BYTEBREW_HOST).")
@click.option("--port", help="Port to listen on (BYTEBREW_PORT).")
@click.option("--data", help="Folder of everything that the engine writes (BYTEBREW_DATA_DIR).")
@click.option("--config", help="Configuration file to take in (BYTEBREW_CONFIG).")
def serve(host: str | None, port: str | None, data: str | None, config: str | None) -> None:
    """Run the engine until SIGTERM or Ctrl-C."""
    flags = {"BYTEBREW_HOST": host, "BYTEBREW_PORT": port, "BYTEBREW_DATA_DIR": data, "BYTEBREW_CONFIG": config}
    environment = {**os.environ, **{name: value for name, value in flags.items() if value is not None}}
    descriptors.raise_limit()
    engine = Engine(environment)
    logs.start(engine.settings.core.log_level, engine.settings.core.log_format)
    with asyncio.Runner(loop_factory=_new_loop()) as runner:
        runner.run(_serve(engine))


def _new_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _serve(engine: Engine) -> None:
    loop = asyncio.get_running_loop()
    core = engine.settings.core
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(1)  # asked twice: everything that was committed is safe in the file
        stop.set()
        loop.call_later(core.drain_seconds + 10, os._exit, 1)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)

    async def end_if_lost() -> None:
        await engine.db.lost.wait()
        click.echo("bytebrew: a thread of the database has ended; what was committed is safe, start again", err=True)
        os._exit(1)  # nothing else can be stored, and what runs would wait for ever

    watch = asyncio.create_task(end_if_lost(), name="watch over the database")
    async with engine:
        sock = server.listen(core.host, core.port)
        url = f"http://{f'[{core.host}]' if ':' in core.host else core.host}:{sock.getsockname()[1]}"
        click.echo(await greeting(engine, url), err=True)
        click.echo(f"ByteBrew {importlib.metadata.version('bytebrew')} is ready at {url}")
        gc.collect()
        gc.freeze()  # what is loaded by now stays, so that no collection walks it again, 20 ms in which no stream moves
        gc.set_threshold(10_000)
        await server.serve(engine, sock, stop)
    watch.cancel()


@cli.command("plugins")
@click.pass_obj
def list_plugins(plugins: Plugins) -> None:
    """List plugins: name, version, distribution, state and hooks."""
    for plugin in plugins.list_all():
        hooks = ", ".join(plugin.hooks) or "-"
        click.echo(f"{plugin.name:<20} {plugin.version:<8} {plugin.distribution:<20} {plugin.state:<9} {hooks}")


@cli.group()
def token() -> None:
    """Create, list and revoke API tokens; the engine may run."""


@token.command("create")
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, required=True, help="A scope; may be given several times.")
@click.option("--schema", "bound", multiple=True, help="Bind a chat token to this schema; may be given several times.")
@click.option("--expires", help="Time at which it expires, such as 2027-01-31T00:00:00Z.")
def create_token(name: str, scopes: tuple[str, ...], bound: tuple[str, ...], expires: str | None) -> None:
    """Create a token and print it, this once."""
    given = {"name": name, "scopes": scopes, "schemas": bound or None, "expires_at": expires}
    try:
        new = msgspec.convert(given, tokens.NewToken)
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from error
    with _opened(_engine(may_make=True)) as conn:
        created = tokens.create(conn, new)
    click.echo(created.token)


@token.command("list")
def list_tokens() -> None:
    """List tokens: id, name, scopes, last use, and where there are any, their end and schemas."""
    with _opened(_engine()) as conn:
        for one in tokens.list_all(conn):
            name = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in one.name)
            end = f"  until {one.expires_at}" if one.expires_at else ""
            bound = f"  for {','.join(one.schemas)}" if one.schemas is not None else ""
            used = one.last_used_at or "never used"
            click.echo(f"{one.id}  {name:<24} {','.join(one.scopes):<40} {used}{end}{bound}")


@token.command("revoke")
@click.argument("key")
def revoke_token(key: str) -> None:
    """End a token, by name or id, at once."""
    with _opened(_engine()) as conn:
        tokens.revoke(conn, key)


@contextmanager
def _opened(engine: Engine) -> Iterator[sqlite3.Connection]:
    with engine.migrated() as conn:
        conn.execute("begin immediate")
        yield conn
        conn.execute("commit")


def _core() -> Core:
    """The core's settings; SettingsError where any setting is wrong."""
    plugins: Plugins = click.get_current_context().obj
    return settings.read(os.environ, plugins.tables()).core


def _engine(*, may_make: bool = False, **others: str) -> Engine:
    """An engine on the data folder, which must have a database unless the command may make one, and says so.

    `others` are settings that the command gives.
    """
    file = _core().data_dir / "bytebrew.db"
    if not file.exists():
        if not may_make:
            raise BootError(f"there is no database at {file}; set BYTEBREW_DATA_DIR to the engine's data folder")
        click.echo(f"bytebrew: {file} is new; BYTEBREW_DATA_DIR names another data folder", err=True)
    return Engine({**os.environ, **others})


@cli.group("config")
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
def export_config(url: str | None, output: Path | None) -> None:
    """Print the configuration as YAML, every credential as ${VAR}."""
    if url:
        text = remote.export(url, _core().token).decode()
    else:
        engine = _engine()
        with _opened(engine) as conn:
            text = config_file.text_of(config_file.export(conn, engine)[0])
    if output:
        output.write_text(text, encoding="utf-8")
    else:
        click.echo(text.encode(), nl=False)


@configuration.command("import")
@_URL
@_REPLACE
@_FILE
def import_config(url: str | None, replace: bool, file: Path) -> None:
    """Merge FILE into the configuration, all of it or nothing.

    Tell an engine that runs on the data folder by POST /api/v1/config/reload, or import with --url.
    """
    _tell(_plan(file, url, replace=replace, dry_run=False))


@configuration.command("diff")
@_URL
@_REPLACE
@_FILE
def diff_config(url: str | None, replace: bool, file: Path) -> None:
    """Print what an import of FILE would change, and change nothing."""
    _tell(_plan(file, url, replace=replace, dry_run=True))


@configuration.command("validate")
@_URL
@_FILE
def validate_config(url: str | None, file: Path) -> None:
    """Check FILE and name every problem with its line and column."""
    plan = _plan(file, url, replace=False, dry_run=True)
    counts = [_counted(count, key) for key, count in plan.imported.items() if count]
    click.echo(f"{file} is valid: {', '.join(counts) or 'there is nothing in it'}")


def _plan(file: Path, url: str | None, *, replace: bool, dry_run: bool) -> config_file.Plan:
    """What an import does; every problem on a line of its own where it cannot be."""
    try:
        if url:
            plan = remote.apply(url, _core().token, file.read_bytes(), replace=replace, dry_run=dry_run)
        else:
            with _planning(file, dry_run) as engine:
                parsed = parse(contents(file, engine.settings.core.max_body_bytes), engine.sections)
                with _opened(engine) as conn:
                    plan = config_file.apply(conn, engine, parsed, replace=replace, dry_run=dry_run)
    except InvalidConfig as error:
        told = f"{file} does not fit" if dry_run else "nothing was changed"
        raise click.ClickException("\n".join([told, *lines(file, error.details)])) from error
    for line in lines(file, plan.warnings):
        click.echo(f"warning: {line}", err=True)
    return plan


@contextmanager
def _planning(file: Path, dry_run: bool) -> Iterator[Engine]:
    """An engine of FILE on the data folder; where a dry run finds none, on a new one, which goes again."""
    if not dry_run or (_core().data_dir / "bytebrew.db").exists():
        yield _engine(may_make=True, BYTEBREW_CONFIG=str(file))
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Engine({**os.environ, "BYTEBREW_DATA_DIR": folder, "BYTEBREW_CONFIG": str(file)})


def _tell(plan: config_file.Plan) -> None:
    signs = {"create": "+", "update": "~", "delete": "-"}
    for change in plan.changes:
        if change.action in signs:
            click.echo(f"{signs[change.action]} {change.section} {change.name}")
        for one in change.fields:
            before, after = (msgspec.json.encode(value).decode() for value in (one.before, one.after))
            click.echo(f"    {one.field or 'value'}: {before} -> {after}")
    click.echo(_counted(sum(change.action in signs for change in plan.changes), "changes"), err=True)


def _counted(count: int, things: str) -> str:
    return f"{count} {things.removesuffix('s') if count == 1 else things}"


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
def backup(file: Path) -> None:
    """Copy the database to a new FILE; the engine may run.

    Not in it are the folders keys/, without which no stored credential opens, and files/, which has what was uploaded:
    keep a copy of both beside it.
    """
    data = _core().data_dir
    copies.backup(data / "bytebrew.db", file)
    click.echo(f"wrote {file}; keep a copy of {data / 'keys'} and {data / 'files'} beside it", err=True)


@cli.command()
@_FILE
@click.pass_obj
def restore(plugins: Plugins, file: Path) -> None:
    """Put a copy of FILE, a backup, in the place of the database; no engine may run.

    The database that was there is kept beside it. Clients that followed events of it have to read again from the start.
    """
    data = _core().data_dir
    done = copies.restore(file, data, plugins)
    if done.torn:
        click.echo(f"warning: {file} was copied without the log beside it, so what was newest is missing", err=True)
    newest = f", the newest of {done.newest}" if done.newest else ""
    click.echo(f"restored {file} with {_counted(done.sessions, 'sessions')}{newest}; its history epoch is {done.epoch}")
    if done.kept:
        click.echo(f"the database that was there is {done.kept} now")
    click.echo(f"put copies of {data / 'keys'} and {data / 'files'} in place too; then run bytebrew doctor", err=True)


@cli.command("gc")
def clear_away() -> None:
    """Clear away what is due and give its space back.

    The settings retention.* say what is due; the engine may run.
    """
    engine = _engine()
    with engine.migrated() as conn:
        swept = retention.sweep(conn, engine.retention)
    click.echo(f"cleared away: {', '.join(f'{count} {what}' for what, count in swept.counts.items())}")
    click.echo(f"{engine.db.path} had {swept.before} bytes and has {swept.after}")


@cli.command()
@click.pass_obj
def doctor(plugins: Plugins) -> None:
    """Check plugins, port, file rights, database and keys."""
    findings = examine(_core(), plugins)
    for finding in findings:
        click.echo(f"{'ok ' if finding.fine else 'BAD'} {finding.what}: {finding.words}")
    if not all(finding.fine for finding in findings):
        sys.exit(1)


if __name__ == "__main__":
    main()
