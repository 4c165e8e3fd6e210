"""A proxy between client and engine that breaks connections off, each after so many bytes of its answers."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress

RESET = struct.pack("ii", 1, 0)
"""Lingering for no time makes closing a reset."""


class Proxy:
    """`url` is where it listens; it takes a length for each connection, the last one again and again.

    Each connection ends with the chunk that has the bytes `behind`, too, if there are any.
    """

    def __init__(self, upstream: str, lengths: Iterable[int], behind: bytes, *, reset: bool) -> None:
        host, port = upstream.removeprefix("http://").split(":")
        self._upstream, self._lengths, self._reset = (host, int(port)), self._each(lengths), reset
        self._behind = behind
        self.url = ""
        self.connections = 0
        self.tasks: set[asyncio.Task[None]] = set()

    @staticmethod
    def _each(lengths: Iterable[int]) -> Iterator[int]:
        last = 0
        for last in lengths:
            yield last
        while True:
            yield last

    def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A new connection."""
        self.connections += 1
        task = asyncio.create_task(self._serve(reader, writer, next(self._lengths)))
        self.tasks.add(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, length: int) -> None:
        engine_reader, engine_writer = await asyncio.open_connection(*self._upstream)
        asking = asyncio.create_task(_pass(reader, engine_writer))
        try:
            while length > 0 and (data := await engine_reader.read(min(length, 65536))):
                writer.write(data)
                await writer.drain()
                length = 0 if self._behind and self._behind in data else length - len(data)
            if not length and not self._behind:
                await engine_reader.read(1)  # the engine has answered: the request counts
            if self._reset:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        except OSError:
            pass
        finally:
            asking.cancel()
            for one in (writer, engine_writer):
                one.close()
            with suppress(OSError, asyncio.CancelledError):
                await asyncio.gather(asking, writer.wait_closed(), engine_writer.wait_closed(), return_exceptions=True)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def cutting(
    upstream: str, lengths: Iterable[int] = (1 << 30,), *, behind: bytes = b"", reset: bool = False
) -> AsyncIterator[Proxy]:
    """A running proxy."""
    proxy = Proxy(upstream, lengths, behind, reset=reset)
    server = await asyncio.start_server(proxy.take, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        for task in proxy.tasks:
            task.cancel()
        await asyncio.gather(*proxy.tasks, return_exceptions=True)
