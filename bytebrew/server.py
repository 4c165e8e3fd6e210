"""Serves an engine with hypercorn, in this process, until it is told to stop."""

import asyncio
import logging
import os
import socket
import sys

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config

from bytebrew.app import Application
from bytebrew.connections import Connection, Ends
from bytebrew.engine import Engine
from bytebrew.errors import BootError
from bytebrew.routes import every

log = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 75.0
"""How long a client may take for the head of its next request."""
UNREAD_SECONDS = 60.0
"""How long a client may read nothing of what is sent to it, alive or not; where the system can tell."""
CLOSING_SECONDS = 2.0
"""What is still open after the drain has this long to end."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; BootError where the address is taken or not ours."""
    try:
        sock = socket.create_server((host, port), family=_family(host), backlog=1024)
    except OSError as error:
        words = os.strerror(error.errno) if error.errno else error  # strerror has the address a second time
        raise BootError(f"cannot listen on {host}:{port}: {words}; choose another BYTEBREW_PORT") from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it; asyncio leaves it off
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNREAD_SECONDS * 1000))
    return sock


async def serve(engine: Engine, sock: socket.socket, stop: asyncio.Event) -> None:
    """Answers requests on the socket until `stop` is set, then drains and returns."""
    config = Config()
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn")
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    config.keep_alive_max_requests = sys.maxsize  # the last one over HTTP/2 would break off all others
    config.h2_max_concurrent_streams = 1000
    application = ASGIWrapper(Application(engine, every(engine)))  # type: ignore[arg-type]
    context = WorkerContext(None)
    loop = asyncio.get_running_loop()
    connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = loop.create_task(Connection(application, loop, config, context, {}, reader, writer).run())
        connections[connection] = writer
        connection.add_done_callback(end)

    def end(connection: asyncio.Task[None]) -> None:
        del connections[connection]
        if not connection.cancelled() and (error := connection.exception()):
            log.error("a connection failed", exc_info=error)

    server = await loop.create_server(lambda: Ends(asyncio.StreamReader(), connect), sock=sock, backlog=1024)
    await stop.wait()
    seconds = engine.settings.core.drain_seconds
    log.info("draining for up to %g s", seconds)
    await engine.drain(seconds)
    await context.terminated.set()
    server.close()
    if connections:
        await asyncio.wait(connections, timeout=CLOSING_SECONDS)
    for writer in connections.values():
        writer.transport.abort()  # what its client does not read would hold up the end
    if connections:
        await asyncio.wait(connections, timeout=0.1)
    for connection in connections:
        connection.cancel()
    await asyncio.gather(*connections, return_exceptions=True)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
