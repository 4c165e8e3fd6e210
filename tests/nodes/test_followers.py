"""Clients that follow at one node what another one runs."""

import asyncio

import pytest

from bytebrew.contract.events import MessageDelta
from bytebrew.testing import ScriptedProvider, providing, scripted_schema
from tests.nodes.engines import nodes

pytestmark = pytest.mark.postgresql
URL = "/api/v1/schemas/test/chat"


def say(text: str) -> MessageDelta:
    return MessageDelta(content=text)


async def test_a_chat_of_one_node_is_followed_live_at_another_with_the_same_bytes() -> None:
    gate = asyncio.Event()
    vendor = ScriptedProvider([say("one "), gate, say("two")])
    async with nodes([providing(vendor)], [providing(vendor)]) as (a, b):
        await scripted_schema(a.engine)
        whole: list[bytes] = []
        async with a.http.stream("POST", URL, json={"message": "Hi"}) as chat:
            assert chat.status_code == 200
            session = chat.headers["x-session-id"]
            chunks = chat.aiter_bytes()
            whole.append(await anext(chunks))
            events = f"/api/v1/sessions/{session}/events"
            async with b.http.stream("GET", events) as followed:
                assert followed.status_code == 200
                seen = b""
                async for chunk in followed.aiter_bytes():
                    seen += chunk
                    if b"one " in seen:
                        gate.set()
                    if b"event: done" in seen:
                        break
            async for chunk in chunks:
                whole.append(chunk)
        assert seen == b"".join(whole)
