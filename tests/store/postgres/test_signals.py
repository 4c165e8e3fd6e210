"""Signals of PostgreSQL that are cancelled, as when an engine stops."""

import asyncio

import anyio
import pytest
from bytebrew_postgres.connection import Options
from bytebrew_postgres.signals import PostgresSignals

from bytebrew.testing.postgres import Server

pytestmark = pytest.mark.postgresql
TURNS = 40
"""A statement takes fewer turns of the event loop."""


async def receive(signals: PostgresSignals) -> None:
    async for _ in signals.received():
        pass


@pytest.mark.parametrize("what", ["send", "receive"])
async def test_a_stop_at_any_moment_is_no_complaint(
    what: str, shared: Server, caplog: pytest.LogCaptureFixture
) -> None:
    for turns in range(TURNS):
        signals = PostgresSignals(Options(shared.local_url()))
        async with anyio.create_task_group() as group:
            if what == "send":
                group.start_soon(signals.send, ["events a"])
            else:
                group.start_soon(receive, signals)
            for _ in range(turns):
                await asyncio.sleep(0.0002)
            group.cancel_scope.cancel()
        await signals.close()
    assert caplog.messages == []
