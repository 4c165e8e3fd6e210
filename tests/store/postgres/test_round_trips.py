"""What a turn asks of a PostgreSQL server: a round trip costs more than what it does there."""

import pytest
from bytebrew_postgres.connection import PostgresConnection

from bytebrew import MessageDelta
from bytebrew.testing import ScriptedProvider, chat, databases, scripted_schema, served_engine
from bytebrew.testing.engines import providing

pytestmark = pytest.mark.postgresql
MOST = 9
"""Of a turn in a session of its own, with its reads and both commits."""


@pytest.mark.skipif(not databases.CHOSEN, reason="the engine of the test runs on SQLite")
async def test_a_turn_takes_few(monkeypatch: pytest.MonkeyPatch) -> None:
    trips = 0
    flush, script = PostgresConnection.flush, PostgresConnection.script

    def count_flush(self: PostgresConnection) -> None:
        nonlocal trips
        trips += bool(self._waiting)
        flush(self)

    def count_script(self: PostgresConnection, sql: str) -> str:
        nonlocal trips
        trips += 1
        return script(self, sql)

    monkeypatch.setattr(PostgresConnection, "flush", count_flush)
    monkeypatch.setattr(PostgresConnection, "script", count_script)
    async with served_engine(providing(ScriptedProvider(*[[MessageDelta(content="well")] * 50] * 12))) as (
        engine,
        client,
    ):
        await scripted_schema(engine)
        counts = []
        for _ in range(12):
            before = trips
            await chat(client, "test", "hello")
            counts.append(trips - before)
    assert min(counts) <= MOST, counts  # others have those of signs of life and of duties among them
