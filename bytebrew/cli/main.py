"""Entry point of the command line."""

import logging
import os
import sys
from functools import partial
from typing import NoReturn

import click

from bytebrew.base import logs, settings
from bytebrew.base.errors import BootError, EngineError, SettingsError
from bytebrew.base.settings import Core
from bytebrew.cli import backup, config, doctor, gc, migrate, plugins, replay, restore, serve, status
from bytebrew.cli.setup import Setup
from bytebrew.plugins import Plugins
from bytebrew.version import __version__, commit


def main() -> None:
    """The console script; prints an error as one sentence, exit code 2 for wrong settings, 1 for others."""
    os.umask(0o077)  # new files are readable by their owner only
    while (spare := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # otherwise the next file or socket would get the number of a closed standard stream
    os.close(spare)
    if sys.stdout:
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    early = settings.read(os.environ, [Core], whole=False).core
    logs.start(early.log_level, early.log_format)
    fail = partial(_fail, early.log_format)
    try:
        setup = Setup(os.environ, Plugins())
        if not (sys.argv[1:2] == ["plugins"] and sys.argv[2:3]):  # those commands work on plugins that do not load
            setup.plugins.load(early.disabled_plugins, early.plugins_dir)
            setup.plugins.commands(cli, setup.opened)
        cli.main(prog_name="bytebrew", standalone_mode=False, obj=setup)
    except click.ClickException as error:
        if early.log_format == "json":
            fail(error.format_message(), error.exit_code)
        error.show()
        sys.exit(error.exit_code)
    except SettingsError as error:
        fail(str(error), 2)
    except UnicodeEncodeError as error:
        fail(f"{error.object!a} is no text in UTF-8", 2)
    except (BootError, EngineError, OSError) as error:
        fail(_message(error), 1)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(1)


def _fail(form: str, message: str, code: int) -> NoReturn:
    click.echo(logs.printed(form, f"bytebrew: {message}", logging.ERROR), err=True)
    sys.exit(code)


def _message(error: Exception) -> str:
    if isinstance(error, EngineError):
        details = [detail.message for detail in error.details if detail.message not in error.message]
        return "; ".join([error.message, *details])
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


@click.group()
@click.version_option(__version__, message="%(prog)s, version %(version)s" + (commit() and f", commit {commit()}"))
def cli() -> None:
    """A self-hosted engine for AI agents; `bytebrew serve --help` lists every setting.

    Every command works on the data folder that BYTEBREW_DATA_DIR names, ./data if it names none.
    """


for _command in (
    serve.serve,
    plugins.plugins,
    config.configuration,
    backup.backup,
    restore.restore,
    migrate.migrate,
    gc.collect_garbage,
    doctor.doctor,
    status.show_status,
    replay.replay,
):
    cli.add_command(_command)
