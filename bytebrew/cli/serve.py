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
from bytebrew.cli import status_socket, workers
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
@click.option("--workers", "count", help="Processes that share the port, with PostgreSQL (BYTEBREW_WORKERS).")
@click.pass_obj
def serve(
    setup: Setup, host: str | None, port: str | None, data: str | None, config: str | None, count: str | None
) -> None:
    """Run the engine until SIGTERM or Ctrl-C."""
    flags = {
        "BYTEBREW_HOST": host,
        "BYTEBREW_PORT": port,
        "BYTEBREW_DATA_DIR": data,
        "BYTEBREW_CONFIG": config,
        "BYTEBREW_WORKERS": count,
    }
    environment = {**setup.environment, **{name: value for name, value in flags.items() if value is not None}}
    descriptors.raise_limit()
    core = settings.read(environment, setup.plugins.tables()).core
    worker = workers.supervise(core) if core.workers > 1 else None
    if worker is not None:
        logs.start(core.log_level, core.log_format, f"worker-{worker.number}")
    engine = Engine(environment, worker=worker.number if worker else 0)
    with asyncio.Runner(loop_factory=_new_loop()) as runner:
        runner.run(_serve(engine, worker))


def _new_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _serve(engine: Engine, worker: workers.Worker | None) -> None:
    loop = asyncio.get_running_loop()
    core = engine.settings.core
    stop = asyncio.Event()
    signaled = False

    def begin_end() -> None:
        if not stop.is_set():
            stop.set()
            loop.call_later(core.drain_seconds + 10, os._exit, 1)

    def on_signal() -> None:
        nonlocal signaled
        if signaled:
            os._exit(1)  # on the second signal: committed data is safe
        signaled = True
        begin_end()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    if worker is not None:
        life = worker.life

        def on_end_of_life() -> None:
            loop.remove_reader(life)
            begin_end()

        loop.add_reader(life, on_end_of_life)  # Ctrl-C and systemd signal the workers too: that is one signal to each

    async def end_if_lost() -> None:
        await engine.db.lost.wait()
        if engine.draining:
            return  # it ends as it is
        if isinstance(engine.db.fault, Fenced):
            click.echo(logs.printed(core.log_format, f"bytebrew: {engine.db.fault}", logging.WARNING), err=True)
            await engine.driver.restored()  # a start needs the database
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - the same command
        message = "bytebrew: a thread of the database has ended; what was committed is safe, start again"
        click.echo(logs.printed(core.log_format, message, logging.CRITICAL), err=True)
        os._exit(1)  # without a database running turns would wait for ever

    watch = asyncio.create_task(end_if_lost(), name="watch over the database")
    async with engine, status_socket.serve_status(engine):
        sock = worker.listen() if worker else server.listen(core.host, core.port)
        url = server.url(core.host, sock)
        text = await greeting(engine, url, to_person=core.log_format == "text" and sys.stderr.isatty())
        if worker:
            worker.report_ready(text)
        else:
            click.echo(logs.printed(core.log_format, text), err=True)
            click.echo(logs.printed(core.log_format, f"ByteBrew {__version__} is ready at {url}"))
        gc.collect()
        gc.freeze()  # a full garbage collection of the loaded modules would stop every stream for 20 ms
        gc.set_threshold(10_000)
        await server.serve(engine, sock, stop)
    watch.cancel()
