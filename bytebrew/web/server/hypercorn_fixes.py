"""Patches of hypercorn 0.18: disconnects and timeouts of connections that speak HTTP/2.

The docstring of each class has the reason, the upstream issue, and when to delete the patch.
"""

import asyncio
import logging
import math
from typing import Any

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import AsyncioSingleTask
from hypercorn.events import Closed
from hypercorn.typing import ConnectionState

from bytebrew.web.server.connections import Connections, Terms
from bytebrew.web.server.http2 import Http2

log = logging.getLogger(__name__)


class _Idle(AsyncioSingleTask):
    """The idle timer of a connection; `since` is the time of the event loop at which it was started.

    Why: while the connection limit is reached, the server closes the connections that have been idle longest. Upstream:
    none known. Delete when: hypercorn limits its connections.
    """

    since = math.inf

    async def restart(self, task_group: Any, action: Any) -> None:
        self.since = asyncio.get_running_loop().time()
        await super().restart(task_group, action)

    async def stop(self) -> None:
        self.since = math.inf
        await super().stop()


class Http2Connection(TCPServer):
    """A connection that has turned out to speak HTTP/2, and ends when its client disconnects.

    Why: hypercorn stops reading while a request is being answered, so it detects a disconnect only after the keep-alive
    timeout (75 s here), or never if nobody reads the request's body; the event stream and the descriptor leak.
    Upstream: pgjones/hypercorn#361 (errors while closing), #338 (an idle timer that is never awaited). Delete when:
    tests/web/server/test_connections.py passes with hypercorn's TCPServer.
    """

    def __init__(self, shared: Connections, terms: Terms, transport: asyncio.Transport, data: bytes) -> None:
        reader = asyncio.StreamReader()
        streams = _ClientStreams(reader)
        transport.set_protocol(streams)
        streams.connection_made(transport)
        if data:
            reader.feed_data(data)
        writer = asyncio.StreamWriter(transport, streams, reader, shared.loop)
        application = ASGIWrapper(shared.application)  # type: ignore[arg-type]
        super().__init__(application, shared.loop, terms.config, shared, ConnectionState(terms.state), reader, writer)
        self.idle_task: _Idle = _Idle()
        self._shared = shared
        running = shared.loop.create_task(self.run())
        shared.tasks.add(running)
        running.add_done_callback(self._ended)

    @property
    def idle_since(self) -> float:
        """Time of the event loop since which the connection is idle; infinity during a request."""
        return self.idle_task.since

    def close(self) -> None:
        """Ends the connection once what was written is sent."""
        self.writer.close()

    def abort(self) -> None:
        """Ends the connection at once."""
        self.writer.transport.abort()

    async def run(self) -> None:
        """Serves the client until it disconnects or times out."""
        client, server = (self.writer.get_extra_info(end)[:2] for end in ("peername", "sockname"))
        lost = self.loop.create_task(self.writer.wait_closed())
        try:
            async with TaskGroup(self.loop) as group:
                self._task_group = group
                self.protocol = Http2(  # type: ignore[assignment]
                    *(self.app, self.config, self.context, group, self.state),
                    *(False, client, server, self.protocol_send),
                )
                await self.protocol.initiate()
                reading = self.loop.create_task(self._read_data())
                try:  # the read alone does not end on a disconnect while a request is being answered
                    await asyncio.wait([reading, lost], return_when=asyncio.FIRST_COMPLETED)
                finally:
                    reading.cancel()
                await self.protocol.handle(Closed())
                await self.idle_task.stop()
                await asyncio.wait([reading])
                if not reading.cancelled():
                    reading.result()
        except OSError:
            pass  # the client disconnected at once
        finally:
            await self._close()

    async def _idle_timeout(self) -> None:
        if not self.reader.at_eof() and not self.writer.is_closing():
            await super()._idle_timeout()

    def _ended(self, running: asyncio.Task[None]) -> None:
        self._shared.tasks.discard(running)
        self._shared.remove(self)
        if not running.cancelled() and (error := running.exception()):
            log.error("a connection failed", exc_info=error)


class _ClientStreams(asyncio.StreamReaderProtocol):
    """The reader and writer of a connection; a lost connection is not an error.

    Why: hypercorn does not catch OSErrors other than ConnectionError, such as TCP's timeout (ETIMEDOUT): each is logged
    with a traceback. Upstream: pgjones/hypercorn#361, #202. Delete when: #361 is fixed.
    """

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(None)
