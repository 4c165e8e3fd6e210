"""A wall clock that is set while the engine runs: nothing is deleted because of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from bytebrew import MessageDelta
from bytebrew.base.machine.clock import WallClock
from bytebrew.engine import Engine
from bytebrew.testing import ScriptedProvider, providing, scripted_schema, served_engine
from tests.store.test_retention import LONG_AGO, age, execute, keep_days, talk

DAY = 86400.0


class Time:
    """Two clocks that a test moves."""

    wall = 1e9
    monotonic = 100.0

    def go(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def clock(time: Time) -> WallClock:
    return WallClock(lambda: time.wall, lambda: time.monotonic)


def test_a_clock_that_runs_on_is_trusted(time: Time, clock: WallClock) -> None:
    for _ in range(100):
        time.go(60)
        time.wall += 1  # it is slewed
        assert clock.trusted()
    time.go(90 * DAY)
    assert clock.trusted()


@pytest.mark.parametrize("days", [400, -400])
def test_a_clock_that_was_set_is_trusted_after_an_hour(time: Time, clock: WallClock, days: float) -> None:
    time.wall += days * DAY
    assert not clock.trusted()
    time.go(3599)
    assert not clock.trusted()
    time.wall -= days * DAY
    assert not clock.trusted()
    time.go(3599)
    assert not clock.trusted()
    time.go(2)
    assert clock.trusted()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    provider = ScriptedProvider([MessageDelta(content="hello")])
    async with served_engine(providing(provider), data=tmp_path) as (engine, client):
        await scripted_schema(engine)
        yield engine, client


async def test_nothing_goes_for_its_age_while_the_clock_is_not_trusted(
    served: tuple[Engine, httpx.AsyncClient], time: Time, clock: WallClock, caplog: pytest.LogCaptureFixture
) -> None:
    engine, client = served
    await keep_days(client, "sessions", 30)
    await age(engine, await talk(client))
    await client.post("/api/v1/agents", json={"name": "a"}, headers={"Idempotency-Key": "old"})
    await execute(engine, "update idempotency set created_at = ?", LONG_AGO)
    engine.retention.clock = clock
    time.wall += 400 * DAY
    await engine.retention.run_once()
    assert await execute(engine, "select count(*) from sessions") == [(1,)]
    assert await execute(engine, "select count(*) from idempotency where key = 'old'") == [(1,)]
    assert "the clock was set by +34560000 s" in caplog.text
    time.go(3601)
    await engine.retention.run_once()
    assert await execute(engine, "select count(*) from sessions") == [(0,)]
    assert await execute(engine, "select count(*) from idempotency where key = 'old'") == [(0,)]
