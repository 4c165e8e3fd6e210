"""A load balancer that sends each request to a node at random, and a link whose connections can be cut or held."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

from tests.cluster.wire import LIMIT, read_head

LOOK_SECONDS = 0.5
"""Between two looks at the health of a node."""
SLOW_SECONDS = 2.0
"""A node whose health is not answered within these gets no requests."""
REFUSED = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
GONE = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)


class Listener:
    """A server on a free port whose connections end with it."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Begins to listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=LIMIT, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Ends all connections."""
        if self._server is not None:
            self._server.close()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(task := asyncio.get_running_loop().create_task(self._served(reader, writer)))
        task.add_done_callback(self._serving.discard)

    async def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(*GONE):
                await self._serve(reader, writer)
        finally:
            writer.close()


class Balancer:
    """Passes requests to healthy nodes; a node that stops answering loses its connections, as in HAProxy."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(f"{seed} balancer")
        self._listener = Listener(self._serve)
        self.ports: dict[int, int] = {}
        """The ports of the nodes by their numbers."""
        self.healthy: set[int] = set()
        self._open: dict[asyncio.StreamWriter, int] = {}
        self._looking: list[asyncio.Task[None]] = []

    @property
    def port(self) -> int:
        """Where clients connect."""
        return self._listener.port

    async def start(self, nodes: int) -> None:
        """Begins to listen and to look after so many nodes."""
        await self._listener.start()
        self._looking = [asyncio.create_task(self._look(number)) for number in range(nodes)]

    async def stop(self) -> None:
        """Ends all connections."""
        for task in self._looking:
            task.cancel()
        await asyncio.gather(*self._looking, return_exceptions=True)
        await self._listener.stop()

    def cut(self, share: float) -> int:
        """Cuts some of the clients' connections; how many."""
        chosen = [writer for writer in self._open if self._dice.random() < share]
        for writer in chosen:
            writer.transport.abort()
        return len(chosen)

    async def _look(self, number: int) -> None:
        while True:
            if await self._answers(number):
                self.healthy.add(number)
            elif number in self.healthy:
                self.healthy.discard(number)
                for writer in [one for one, at in self._open.items() if at == number]:
                    writer.transport.abort()
            await asyncio.sleep(LOOK_SECONDS)

    async def _answers(self, number: int) -> bool:
        if (port := self.ports.get(number)) is None:
            return False
        writer = None
        try:
            async with asyncio.timeout(SLOW_SECONDS):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /api/v1/health HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
                head, _ = await read_head(reader)
                return head.status == 200
        except GONE:
            return False
        finally:
            if writer is not None:
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, raw = await read_head(reader)
        raw += await reader.readexactly(int(head.fields.get("content-length", "0")))
        number, back, forth = await self._node()
        if back is None or forth is None:
            writer.write(REFUSED)
            await writer.drain()
            return
        self._open[writer] = number
        watching = asyncio.create_task(self._left(reader, forth))
        try:
            forth.write(raw)
            answered = False
            while piece := await back.read(65536):
                answered = True
                if writer.is_closing():  # the client's connection was cut
                    break
                writer.write(piece)
                await writer.drain()
            if not answered:
                writer.transport.abort()
        finally:
            watching.cancel()
            forth.transport.abort()
            del self._open[writer]

    async def _node(self) -> tuple[int, asyncio.StreamReader | None, asyncio.StreamWriter | None]:
        """A connection to a healthy node: while nothing is sent, any other may have the request."""
        choices = [number for number in self.healthy if number in self.ports]
        self._dice.shuffle(choices)
        for number in choices:
            with suppress(OSError, KeyError):  # it went away since
                return number, *await asyncio.open_connection("127.0.0.1", self.ports[number], limit=LIMIT)
        return -1, None, None

    async def _left(self, reader: asyncio.StreamReader, forth: asyncio.StreamWriter) -> None:
        """Ends the request once its client has gone."""
        with suppress(OSError):
            await reader.read(1)
        forth.transport.abort()


class Link:
    """The way of one node to the database: its connections can be cut, or held without a word."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = Listener(self._serve)
        self._open: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()

    @property
    def port(self) -> int:
        """Where the node connects."""
        return self._listener.port

    async def start(self) -> None:
        """Begins to listen."""
        await self._listener.start()

    async def stop(self) -> None:
        """Ends all connections."""
        await self._listener.stop()

    def cut(self) -> None:
        """Cuts all connections."""
        for writer in list(self._open):
            writer.transport.abort()

    async def hold(self, seconds: float) -> None:
        """Lets nothing through in either direction for a while, and then all of it."""
        self._flows.clear()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._flows.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", self._to)
        self._open |= {writer, forth}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._copy(reader, forth))
                group.create_task(self._copy(back, writer))
        finally:
            self._open -= {writer, forth}
            writer.transport.abort()
            forth.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(65536):
                await self._flows.wait()
                if writer.is_closing():
                    break
                writer.write(piece)
                await writer.drain()
        writer.close()
