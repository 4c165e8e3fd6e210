"""Serves an engine with hypercorn, in this process, until it is told to stop."""

import asyncio
import logging
import socket

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config

from bytebrew.app import Application
from bytebrew.engine import Engine
from bytebrew.errors import BootError
from bytebrew.routes import every

log = logging.getLogger(__name__)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; BootError where the address is taken or not ours."""
    try:
        sock = socket.create_server((host, port), family=_family(host), backlog=1024)
    except OSError as error:
        raise BootError(f"cannot listen on {host}:{port}: {error.strerror}; choose another BYTEBREW_PORT") from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it; asyncio leaves it off
    return sock


async def serve(engine: Engine, sock: socket.socket, stop: asyncio.Event) -> None:
    """Answers requests on the socket until `stop` is set, then drains and returns."""
    config = Config()
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn")
    config.keep_alive_timeout = 75
    config.keep_alive_max_requests = 100_000
    config.h2_max_concurrent_streams = 1000
    application = ASGIWrapper(Application(engine, every(engine)))  # type: ignore[arg-type]
    context = WorkerContext(None)
    loop = asyncio.get_running_loop()
    connections: set[asyncio.Task[None]] = set()

    def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = loop.create_task(_Connection(application, loop, config, context, {}, reader, writer).run())
        connections.add(connection)
        connection.add_done_callback(connections.discard)

    server = await asyncio.start_server(connect, sock=sock, backlog=1024)
    await stop.wait()
    seconds = engine.settings.core.drain_seconds
    log.info("draining for up to %g s", seconds)
    await engine.drain(seconds)
    await context.terminated.set()
    server.close()
    if connections:
        await asyncio.wait(connections, timeout=2)
    for connection in connections:
        connection.cancel()
    await asyncio.gather(*connections, return_exceptions=True)


class _Connection(TCPServer):
    """A connection that ends when its client leaves; hypercorn's own waits out the keep-alive time, socket and all."""

    async def _read_data(self) -> None:
        await super()._read_data()
        await self.idle_task.stop()

    async def _idle_timeout(self) -> None:
        if not self.reader.at_eof() and not self.writer.is_closing():
            await super()._idle_timeout()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
