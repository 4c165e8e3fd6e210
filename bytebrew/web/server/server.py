"""Serves an engine with hypercorn, in this process, until a stop event is set."""

import asyncio
import logging
import math
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from functools import partial

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config

from bytebrew.base.errors import BootError
from bytebrew.base.machine import descriptors
from bytebrew.base.machine.memory import memory
from bytebrew.base.settings import Core
from bytebrew.engine import Engine
from bytebrew.web.app import CROWDED, SECURITY, Application
from bytebrew.web.http_state import http_state
from bytebrew.web.server.acceptor import Acceptor
from bytebrew.web.server.hypercorn_fixes import ClientStreams, Connection, ServerState
from bytebrew.web.server.shedding import Refusal

log = logging.getLogger(__name__)

BACKLOG = 1024
"""Connections that wait to be accepted."""
KEEP_ALIVE_SECONDS = 75.0
"""Keep-alive timeout of an idle connection."""
CROWDED_SECONDS = 2.0
"""Keep-alive timeout of a connection above the limit."""
REAP_SECONDS = 0.5
FREE = 0.9
"""Fraction of the limit below which connections count as normal again."""
OVER_SECONDS = 60.0
"""The limit is logged again after this time without a connection above it."""
CONNECTION_BYTES = 65_536
"""Memory to reserve per connection; one with half-sent headers takes 32 KB."""
UNREAD_SECONDS = 60.0
"""Time limit of a client that reads nothing (TCP_USER_TIMEOUT, if the system has it)."""
CLOSING_SECONDS = 2.0
"""Time limit to close connections after the drain."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; BootError if the address is in use or not local."""
    sock = bind(host, port)
    with _refusing(host, port):
        sock.listen(BACKLOG)
    return sock


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket that is bound and does not listen yet; BootError if the address is in use or not local.

    Sockets that are `shared` may have one address; the kernel gives a connection to one of those that listen.
    """
    with _refusing(host, port):
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            if os.name == "posix":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, port))
        except BaseException:
            sock.close()
            raise
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it; asyncio leaves it off
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNREAD_SECONDS * 1000))
    return sock


@contextmanager
def _refusing(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error  # str(error) repeats the address
        raise BootError(f"cannot listen on {host}:{port}: {reason}; choose another BYTEBREW_PORT") from error


def url(host: str, sock: socket.socket) -> str:
    """The address at which clients reach a socket that is bound to this host."""
    return f"http://{f'[{host}]' if ':' in host else host}:{sock.getsockname()[1]}"


async def serve(engine: Engine, sock: socket.socket, stop: asyncio.Event) -> None:
    """Serves requests on the socket until `stop` is set, then drains and returns."""
    config = Config()
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn")
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    config.keep_alive_max_requests = sys.maxsize  # over HTTP/2 the last request would abort all others
    config.max_app_queue_size = 3
    config.h2_max_concurrent_streams = 1000
    config.h2_max_header_list_size = 32_768  # per request; HTTP/1.1 takes half of that
    admission, core = http_state(engine).admission, engine.settings.core
    application = Application(engine)
    served = ASGIWrapper(application)  # type: ignore[arg-type]
    shared = ServerState(admission, Refusal(admission, engine.runner, application.routes, SECURITY), core.workers)
    loop = asyncio.get_running_loop()
    connections: dict[asyncio.Task[None], Connection] = {}
    brief = copy(config)
    brief.keep_alive_timeout = CROWDED_SECONDS
    share = descriptors.share()
    last_full, reaping = -math.inf, False
    most, full = _most(share, core)

    def connect(crowded: bool, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal last_full, reaping
        if crowded:
            if loop.time() - last_full > OVER_SECONDS:
                log.warning(full)
            if not reaping:
                loop.call_later(REAP_SECONDS, reap)
            reaping = True
            admission.crowd, last_full = full, loop.time()
        state, times = ({CROWDED: full}, brief) if crowded else ({}, config)
        connection = Connection(served, loop, times, shared, state, reader, writer)
        running = loop.create_task(connection.run())
        connections[running] = connection
        running.add_done_callback(end)

    def reap() -> None:
        """Closes idle connections, the oldest first, while clients wait for a connection."""
        nonlocal reaping
        if reaping := bool(admission.crowd):
            before = loop.time() - CROWDED_SECONDS
            idle = [connection for connection in connections.values() if connection.idle_since < before]
            for connection in sorted(idle, key=lambda connection: connection.idle_since)[:further]:
                connection.writer.close()
            loop.call_later(REAP_SECONDS, reap)

    def end(running: asyncio.Task[None]) -> None:
        del connections[running]
        acceptor.left()
        if acceptor.open < most * FREE:
            admission.crowd = ""
        if not running.cancelled() and (error := running.exception()):
            log.error("a connection failed", exc_info=error)

    further = max(4, most // 4)  # above the limit: enough to answer with the reason
    acceptor = Acceptor(
        sock, lambda crowded: ClientStreams(asyncio.StreamReader(), partial(connect, crowded)), most, further
    )
    await stop.wait()
    seconds = core.drain_seconds
    log.info("draining for up to %g s", seconds)
    await engine.drain(seconds)
    admission.close()
    await shared.terminated.set()
    acceptor.close()
    if connections:
        await asyncio.wait(connections, timeout=CLOSING_SECONDS)
    for connection in connections.values():
        connection.writer.transport.abort()  # does not wait for clients that do not read
    if connections:
        await asyncio.wait(connections, timeout=0.1)
    for running in connections:
        running.cancel()
    await asyncio.gather(*connections, return_exceptions=True)


def _most(share: descriptors.Share, core: Core) -> tuple[int, str]:
    """The limit of connections, and the error message above it."""
    bounds = [(share.clients, f"its limit of {share.all} descriptors", "the limit (ulimit -n, LimitNOFILE of systemd)")]
    if core.max_connections:
        bounds.append((core.max_connections, "BYTEBREW_MAX_CONNECTIONS", "it"))
    else:
        room = memory(core.workers) // 4 // CONNECTION_BYTES
        bounds.append((room, "a quarter of its memory", "BYTEBREW_MAX_CONNECTIONS"))
    most, source, cure = min(bounds)
    return (
        most,
        f"The engine has {most} connections, all that {source} has room for; try again in a moment, or raise {cure}",
    )
