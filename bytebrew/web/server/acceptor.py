"""Accepts connections while file descriptors are free; further clients wait in the listen queue."""

import asyncio
import logging
import math
import socket
from collections.abc import Callable
from functools import partial

log = logging.getLogger(__name__)

AT_ONCE = 64
"""Connections accepted per iteration of the event loop."""
PAUSE_SECONDS = 0.1
"""Pause before the next attempt after the system ran out of descriptors."""
LOGGED_SECONDS = 60.0
"""Shortest time between two warnings about missing descriptors."""


class Acceptor:
    """Accepts connections on a listening socket up to a limit; asyncio's own server has no limit.

    `open` counts connections; the owner calls `left` when one ends. Up to `most` are normal, up to `further` more are
    accepted above the limit. `protocol` gets whether the connection is above the limit when it is accepted, as all
    connections of a burst are open before the first is served.
    """

    def __init__(
        self, sock: socket.socket, protocol: Callable[[bool], asyncio.BaseProtocol], most: int, further: int
    ) -> None:
        self.open = 0
        self._sock = sock
        self._protocol = protocol
        self._most = most
        self._all = most + further
        self._loop = asyncio.get_running_loop()
        self._making: set[asyncio.Task[object]] = set()
        self._reading = self._closed = False
        self._logged = -math.inf
        sock.setblocking(False)
        self._read()

    def left(self) -> None:
        """Counts a connection as ended."""
        self.open -= 1
        self._read()

    def close(self) -> None:
        """Stops accepting."""
        self._closed = True
        self._pause()
        self._sock.close()

    def _read(self) -> None:
        if not self._reading and not self._closed and self.open < self._all:
            self._reading = True
            self._loop.add_reader(self._sock, self._accept)

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._sock)

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            if self.open >= self._all:
                self._pause()
                return
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._lacks(error)
                self._pause()
                self._loop.call_later(PAUSE_SECONDS, self._read)
                return
            self.open += 1
            sock.setblocking(False)
            protocol = partial(self._protocol, self.open > self._most)
            making = self._loop.create_task(self._loop.connect_accepted_socket(protocol, sock))
            self._making.add(making)
            making.add_done_callback(self._made)

    def _lacks(self, error: OSError) -> None:
        """Logs that descriptors ran out, at most once a minute."""
        if self._loop.time() - self._logged > LOGGED_SECONDS:
            self._logged = self._loop.time()
            text = "no connection can be accepted for the moment, and clients wait: %s; raise the limit of descriptors"
            log.warning(f"{text} (ulimit -n, LimitNOFILE of systemd), or look for what else takes them", error)

    def _made(self, making: asyncio.Task[object]) -> None:
        self._making.discard(making)
        if making.cancelled() or making.exception() is not None:  # the client has disconnected already
            self.left()
