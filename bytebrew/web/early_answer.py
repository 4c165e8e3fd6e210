"""What is sent in another way than a plain answer: one that comes before its body is whole, and one to a WebSocket."""

import asyncio
from contextlib import suppress

from starlette.types import Message, Receive, Scope, Send

from bytebrew.base.rolling_timeout import within

REST_SECONDS = 15.0
"""How long what is left of a body may come after its answer."""
SILENCE_SECONDS = 2.0
"""How long nothing of it may come."""


class Rest:
    """What is left of a body when its answer begins: it is thrown away, and the answer does not end before it.

    A client in the middle of a body does not hear the answer otherwise, and hypercorn waits for ever to hand on what
    nobody takes, with its connection.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._pieces = 0
        self._whole = asyncio.Event()
        self._reading = asyncio.create_task(self._throw_away())

    async def receive(self) -> Message:
        """Waits until the client has left."""
        await asyncio.wait([self._reading])
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Sends the answer, all of it at once but for its end."""
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._come()
            message = {"type": "http.response.body"}
        await self._send(message)

    def end(self) -> None:
        """Reads no more: the answer has ended."""
        self._reading.cancel()

    async def _throw_away(self) -> None:
        while (message := await self._receive())["type"] != "http.disconnect":
            self._pieces += 1
            if not message.get("more_body", False):
                self._whole.set()
        self._whole.set()

    async def _come(self) -> None:
        pieces = -1
        with suppress(TimeoutError), within(REST_SECONDS):
            while not self._whole.is_set() and pieces != self._pieces:
                pieces = self._pieces
                with suppress(TimeoutError), within(SILENCE_SECONDS):
                    await self._whole.wait()


def announced(scope: Scope) -> bool:
    """Whether a body may come; over HTTP/2 it need not be announced."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    return scope["http_version"] == "2" or any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in headers
    )


def rejecting(send: Send) -> Send:
    """Sends an HTTP answer instead of opening a WebSocket (ASGI's Websocket Denial Response)."""

    async def rejection(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    return rejection
