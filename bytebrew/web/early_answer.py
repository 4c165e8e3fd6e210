"""Sends answers before the request's body is complete, and HTTP answers to WebSocket requests."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import msgspec
from starlette.types import Message, Receive, Scope, Send

from bytebrew.base.errors import EngineError
from bytebrew.base.rolling_timeout import within
from bytebrew.contract.events import ErrorEvent
from bytebrew.contract.route import Face, Reply

REST_SECONDS = 15.0
"""Time limit for the rest of a body once its answer has started."""
SILENCE_SECONDS = 2.0
"""Time limit between two of its chunks."""


class UnreadBody:
    """Reads and discards the rest of a body whose answer has started; the answer ends after the body.

    Many clients do not read the answer while they send, and hypercorn waits without limit to deliver a chunk that
    nobody reads, which keeps the connection open.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._pieces = 0
        self._whole = asyncio.Event()
        self._reading = asyncio.create_task(self._drop())

    async def receive(self) -> Message:
        """Waits until the client has disconnected."""
        await asyncio.wait([self._reading])
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Sends the answer; its end waits until the body has arrived or its time limit has passed."""
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
    """Whether the request may have a body; over HTTP/2 no header needs to announce it."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    return scope["http_version"] == "2" or any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in headers
    )


def denial(send: Send) -> Send:
    """Sends an HTTP answer instead of opening a WebSocket (ASGI's Websocket Denial Response)."""

    async def send_denial(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    return send_denial


def refusal(error: EngineError, face: Face | None) -> Reply:
    """An error before the answer has begun, as the face has it."""
    if face is None:
        return Reply(status=error.status, body=error.body(), headers=error.headers)
    reply = face.refusal(error)
    reply.headers = error.headers | reply.headers
    return reply


def ending(kind: str, headers: Mapping[str, str], error: EngineError, face: Face | None) -> Message:
    """The message that ends an event stream with an error; RuntimeError for another one, which appears incomplete."""
    if not kind.startswith("text/event-stream"):
        raise RuntimeError(error.message)
    body = face.ending(error) if face else error_frame(headers, error.code, error.message)
    return {"type": "http.response.body", "body": body, "more_body": True}


def error_frame(headers: Mapping[str, str], code: str, message: str) -> bytes:
    """The event `error` of a stream with these headers, without an id: the turn may go on."""
    session_id, turn_id = headers.get("x-session-id", ""), headers.get("x-turn-id", "")
    event = ErrorEvent(session_id=session_id, turn_id=turn_id, code=code, message=message)
    return b"event: %s\ndata: %s\n\n" % (event.name.encode(), msgspec.json.encode(event))
