"""`bytebrew serve`: runs the engine."""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable

import click

from bytebrew.base import logs, settings
from bytebrew.base.errors import Fenced
from bytebrew.base.machine import descriptors
from bytebrew.cli import status_socket
from bytebrew.cli.greeting import greeting
from bytebrew.cli.setup import Setup
from bytebrew.engine import Engine
from bytebrew.version import __version__
from bytebrew.web.server import server


class WithSettings(click.Command):
    """A command whose help lists every setting."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Prints the settings table."""
        with formatter.section("Settings, from the environment"):
            formatter.write_dl(
                [
                    (row.variable, f"{row.help} [{row.default}]" if row.default else row.help)
                    for row in settings.rows(ctx.obj.plugins.tables())
                ]
            )


@click.command(cls=WithSettings)
@click.option("--host", help="Address to listen on (BYTEBREW_HOST).")
@click.option("--port", help="Port to listen on (BYTEBREW_PORT).")
@click.option("--data", help="Folder of everything that the engine writes (BYTEBREW_DATA_DIR).")
@click.option("--config", help="Configuration file to take in (BYTEBREW_CONFIG).")
@click.pass_obj
def serve(setup: Setup, host: str | None, port: str | None, data: str | None, config: str | None) -> None:
    """Run the engine until SIGTERM or Ctrl-C."""
    flags = {"BYTEBREW_HOST": host, "BYTEBREW_PORT": port, "BYTEBREW_DATA_DIR": data, "BYTEBREW_CONFIG": config}
    environment = {**setup.environment, **{name: value for name, value in flags.items() if value is not None}}
    descriptors.raise_limit()
    engine = Engine(environment)
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
            os._exit(1)  # on the second signal: committed data is safe
        stop.set()
        loop.call_later(core.drain_seconds + 10, os._exit, 1)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)

    async def end_if_lost() -> None:
        await engine.db.lost.wait()
        if isinstance(engine.db.fault, Fenced):
            click.echo(logs.printed(core.log_format, f"bytebrew: {engine.db.fault}", logging.WARNING), err=True)
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - the same command
        message = "bytebrew: a thread of the database has ended; what was committed is safe, start again"
        click.echo(logs.printed(core.log_format, message, logging.CRITICAL), err=True)
        os._exit(1)  # without a database running turns would wait for ever

    watch = asyncio.create_task(end_if_lost(), name="watch over the database")
    async with engine, status_socket.serve_status(engine):
        sock = server.listen(core.host, core.port)
        url = f"http://{f'[{core.host}]' if ':' in core.host else core.host}:{sock.getsockname()[1]}"
        text = await greeting(engine, url, to_person=core.log_format == "text" and sys.stderr.isatty())
        click.echo(logs.printed(core.log_format, text), err=True)
        click.echo(logs.printed(core.log_format, f"ByteBrew {__version__} is ready at {url}"))
        gc.collect()
        gc.freeze()  # a full garbage collection of the loaded modules would stop every stream for 20 ms
        gc.set_threshold(10_000)
        await server.serve(engine, sock, stop)
    watch.cancel()
