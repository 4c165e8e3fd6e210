"""What is sent in another way than over plain HTTP/1.1: the answers of HTTP/2, and those to a WebSocket."""

import asyncio
from contextlib import suppress

from starlette.types import Message, Receive, Send


def body_first(receive: Receive, send: Send, seconds: float) -> tuple[Receive, Send]:
    """Sends no answer before the body has come: hypercorn ends an HTTP/2 connection whose answered stream has data."""
    whole = False

    async def receive_noting() -> Message:
        nonlocal whole
        message = await receive()
        whole = not message.get("more_body", False)
        return message

    async def send_after(message: Message) -> None:
        nonlocal whole
        if not whole:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while not whole:
                        await receive_noting()
            whole = True
        await send(message)

    return receive_noting, send_after


def rejecting(send: Send) -> Send:
    """Sends an HTTP answer instead of opening a WebSocket (ASGI's Websocket Denial Response)."""

    async def rejection(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    return rejection
