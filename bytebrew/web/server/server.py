"""Serves an engine, in this process, until a stop event is set."""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from hypercorn.config import Config

from bytebrew.base.errors import BootError
from bytebrew.base.machine import descriptors
from bytebrew.base.machine.memory import memory
from bytebrew.base.settings import Core
from bytebrew.engine import Engine
from bytebrew.web.app import SECURITY, Application
from bytebrew.web.http_state import http_state
from bytebrew.web.server.connections import Connections, Limit
from bytebrew.web.server.http1 import Http1
from bytebrew.web.server.http1_parser import HEAD_BYTES
from bytebrew.web.server.shedding import Refusal

log = logging.getLogger(__name__)

BACKLOG = 1024
"""Connections that wait to be accepted."""
KEEP_ALIVE_SECONDS = 75.0
"""Keep-alive timeout of an idle connection."""
CONNECTION_BYTES = 65_536
"""Memory to reserve per connection; one with half-sent headers takes 36 KB."""
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
    config.max_app_queue_size = 3  # for HTTP/2, as are the following
    config.h2_max_concurrent_streams = 1000
    config.h2_max_header_list_size = HEAD_BYTES
    admission, core = http_state(engine).admission, engine.settings.core
    application = Application(engine)
    refusal = Refusal(admission, engine.runner, application.routes, SECURITY)
    connections = Connections(application, config, admission, refusal, _limit(core), core.workers)
    connections.accept(sock, partial(Http1, connections))
    await stop.wait()
    log.info("draining for up to %g s", core.drain_seconds)
    await engine.drain(core.drain_seconds)
    admission.close()
    await connections.close(CLOSING_SECONDS)


def _limit(core: Core) -> Limit:
    """The limit of connections."""
    share = descriptors.share()
    bounds = [(share.clients, f"its limit of {share.all} descriptors", "the limit (ulimit -n, LimitNOFILE of systemd)")]
    if core.max_connections:
        bounds.append((core.max_connections, "BYTEBREW_MAX_CONNECTIONS", "it"))
    else:
        room = memory(core.workers) // 4 // CONNECTION_BYTES
        bounds.append((room, "a quarter of its memory", "BYTEBREW_MAX_CONNECTIONS"))
    most, source, cure = min(bounds)
    reason = (
        f"The engine has {most} connections, all that {source} has room for; try again in a moment, or raise {cure}"
    )
    return Limit(most, max(4, most // 4), reason)
