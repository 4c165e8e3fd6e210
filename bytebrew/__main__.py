"""The command line."""

import asyncio
import importlib.metadata
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click
import msgspec

from bytebrew import db, logs, server, settings
from bytebrew.doctor import examine
from bytebrew.engine import Engine
from bytebrew.errors import BootError, EngineError, SettingsError
from bytebrew.plugins import Plugins
from bytebrew.settings import Core
from bytebrew.store import schemas, tokens


def main() -> None:
    """The console script: what goes wrong is told in words; exit code 2 is for bad settings, 1 for the rest."""
    os.umask(0o077)  # what the engine writes is its owner's alone
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
    except (BootError, EngineError, OSError, sqlite3.Error) as error:
        click.echo(f"bytebrew: {error}", err=True)
        sys.exit(1)
    except click.Abort:
        sys.exit(1)


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
    """A self-hosted engine for AI agents; `bytebrew serve --help` lists every setting."""


@cli.command(cls=WithSettings)
@click.option("--host", help="Address to listen on (BYTEBREW_HOST).")
@click.option("--port", help="Port to listen on (BYTEBREW_PORT).")
@click.option("--data", help="Folder of everything that the engine writes (BYTEBREW_DATA_DIR).")
def serve(host: str | None, port: str | None, data: str | None) -> None:
    """Run the engine until SIGTERM or Ctrl-C."""
    flags = {"BYTEBREW_HOST": host, "BYTEBREW_PORT": port, "BYTEBREW_DATA_DIR": data}
    environment = {**os.environ, **{name: value for name, value in flags.items() if value is not None}}
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
    async with engine:
        sock = server.listen(core.host, core.port)
        url = f"http://{f'[{core.host}]' if ':' in core.host else core.host}:{sock.getsockname()[1]}"
        click.echo(await _greeting(engine, url), err=True)
        click.echo(f"ByteBrew {importlib.metadata.version('bytebrew')} is ready at {url}")
        sys.stdout.flush()
        await server.serve(engine, sock, stop)


async def _greeting(engine: Engine, url: str) -> str:
    open_to_chat = [schema.name for schema in await engine.db.read(schemas.list_all) if schema.chat_enabled]
    if engine.auth_mode.name != "local" or not open_to_chat:
        return f"The API is at {url}/api/v1"
    session = f"curl -s -X POST {url}/api/v1/auth/local-session"
    token = f"""$({session} | sed 's/.*"access_token":"\\([^"]*\\)".*/\\1/')"""
    return f"""Say hello:

  curl -N {url}/api/v1/schemas/{open_to_chat[0]}/chat \\
    -H "Authorization: Bearer {token}" \\
    -H "Content-Type: application/json" \\
    -d '{{"message": "Hello! What is the current_time?"}}'
"""


@cli.command("plugins")
@click.pass_obj
def list_plugins(plugins: Plugins) -> None:
    """List plugins: name, version, distribution, state and hooks."""
    for plugin in plugins.list_all():
        hooks = ", ".join(plugin.hooks) or "-"
        click.echo(f"{plugin.name:<20} {plugin.version:<8} {plugin.distribution:<20} {plugin.state:<9} {hooks}")


@cli.group()
def token() -> None:
    """Create, list and revoke API tokens, whether the engine runs or not."""


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
    with _database() as conn:
        click.echo(tokens.create(conn, new).token)


@token.command("list")
def list_tokens() -> None:
    """List live tokens: id, name, scopes, last use."""
    with _database() as conn:
        for one in tokens.list_all(conn):
            click.echo(f"{one.id}  {one.name:<24} {','.join(one.scopes):<40} {one.last_used_at or 'never used'}")


@token.command("revoke")
@click.argument("key")
def revoke_token(key: str) -> None:
    """End a token, by name or id, at once."""
    with _database() as conn:
        tokens.revoke(conn, key)


@contextmanager
def _database() -> Iterator[sqlite3.Connection]:
    engine = Engine(os.environ)
    engine.migrate()
    with closing(db.connect(engine.db.path)) as conn:
        conn.execute("begin immediate")
        yield conn
        conn.execute("commit")


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_obj
def backup(plugins: Plugins, file: Path) -> None:
    """Copy the database to FILE while the engine runs; the folder keys/ is yours to keep beside it."""
    db.backup(settings.read(os.environ, plugins.tables()).core.data_dir / "bytebrew.db", file)
    click.echo(f"wrote {file}; stored credentials open only with keys/secrets.key, which is not in it", err=True)


@cli.command()
@click.pass_obj
def doctor(plugins: Plugins) -> None:
    """Check keys, file rights, the database's integrity, plugins and the port."""
    findings = examine(settings.read(os.environ, plugins.tables()).core, plugins)
    for finding in findings:
        click.echo(f"{'ok ' if finding.fine else 'BAD'} {finding.what}: {finding.words}")
    if not all(finding.fine for finding in findings):
        sys.exit(1)


if __name__ == "__main__":
    main()
