"""Serves an engine with hypercorn, in this process, until it is told to stop."""

import asyncio
import logging
import socket

from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config

from bytebrew.app import Application
from bytebrew.engine import Engine
from bytebrew.errors import BootError
from bytebrew.routes import CORE

log = logging.getLogger(__name__)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; BootError where the address is taken or not ours."""
    try:
        return socket.create_server((host, port), family=_family(host), backlog=1024)
    except OSError as error:
        raise BootError(f"cannot listen on {host}:{port}: {error.strerror}; choose another BYTEBREW_PORT") from error


async def serve(engine: Engine, sock: socket.socket, stop: asyncio.Event) -> None:
    """Answers requests on the socket until `stop` is set, then drains and returns."""
    config = Config()
    config.bind = [f"fd://{sock.detach()}"]
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn")
    config.keep_alive_timeout = 75
    config.keep_alive_max_requests = 100_000
    config.h2_max_concurrent_streams = 1000
    config.graceful_timeout = 2
    config.backlog = 1024

    async def drained() -> None:
        await stop.wait()
        log.info("draining for up to %g s", engine.settings.core.drain_seconds)
        await engine.drain(engine.settings.core.drain_seconds)

    application = Application(engine, (*CORE, *engine.routes))
    await hypercorn_serve(application, config, shutdown_trigger=drained)  # type: ignore[arg-type]


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
