"""A short seed of the chaos; `make chaos` runs long ones."""

import asyncio
import os

import pytest

from tests.chaos.seed import run
from tests.chaos.vendor import vendor

SECONDS = 30 if "ALL_FAULTS" in os.environ else 10


@pytest.mark.kills
@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_no_promise_is_broken_while_the_world_is_hostile() -> None:
    model = await run(11, SECONDS)
    assert model.violations == []
    assert len(model.chats) > SECONDS


async def test_the_vendor_closes_its_connections_at_the_end() -> None:
    async with vendor(11) as upstream:
        host, port = upstream.url.removeprefix("http://").removesuffix("/v1").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        await asyncio.sleep(0.1)
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
