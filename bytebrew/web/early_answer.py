"""Answers that are sent in another way than others: before the request's body is whole, and to a WebSocket."""

import asyncio
from contextlib import suppress

from starlette.types import Message, Receive, Scope, Send

from bytebrew.base.rolling_timeout import within

REST_SECONDS = 15.0
"""Time limit for the rest of a body once its answer has begun."""
SILENCE_SECONDS = 2.0
"""Time limit between two pieces of it."""


class UnreadBody:
    """The rest of a body whose answer has begun: it is read and dropped, and the answer does not end before it.

    A client does not read an answer while it sends, and hypercorn waits for ever to hand on a piece that nobody reads,
    with its connection.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._pieces = 0
        self._whole = asyncio.Event()
        self._reading = asyncio.create_task(self._drop())

    async def receive(self) -> Message:
        """Waits until the client has left."""
        await asyncio.wait([self._reading])
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Sends the answer; its end is held back until the body has come or its time is over."""
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._wait()
            message = {"type": "http.response.body"}
        await self._send(message)

    def close(self) -> None:
        """Stops reading."""
        self._reading.cancel()

    async def _drop(self) -> None:
        while (message := await self._receive())["type"] != "http.disconnect":
            self._pieces += 1
            if not message.get("more_body", False):
                self._whole.set()
        self._whole.set()

    async def _wait(self) -> None:
        pieces = -1
        with suppress(TimeoutError), within(REST_SECONDS):
            while not self._whole.is_set() and pieces != self._pieces:
                pieces = self._pieces
                with suppress(TimeoutError), within(SILENCE_SECONDS):
                    await self._whole.wait()


def may_have_body(scope: Scope) -> bool:
    """Whether a body may come; over HTTP/2 it need not be announced."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    return scope["http_version"] == "2" or any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in headers
    )


def denial(send: Send) -> Send:
    """Sends an HTTP answer instead of opening a WebSocket (ASGI's Websocket Denial Response)."""

    async def send_denial(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    return send_denial
