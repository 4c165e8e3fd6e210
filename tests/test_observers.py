"""A hook that takes long is in the log, with its plugin, its name and how long it took."""

import asyncio
import re
import time
from typing import Any

import httpx
import pytest

from bytebrew import Sample
from bytebrew.observers import PAUSE, SlowHooks
from bytebrew.testing import engine, plugin, served_engine


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "bytebrew.observers"]


async def test_an_observer_that_takes_long_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async def startup() -> None:
        await asyncio.sleep(1.05)

    async def shutdown() -> None:
        await asyncio.sleep(1.05)

    async with engine(plugin("duck", startup=startup, shutdown=shutdown)):
        pass
    first, second = warnings(caplog)
    assert re.match(r"plugin duck took \d+\.\d s in startup, while others waited", first)
    assert re.match(r"plugin duck took \d+\.\d s in shutdown, while others waited", second)


async def test_a_plain_function_that_everybody_waits_for_is_named_sooner(caplog: pytest.LogCaptureFixture) -> None:
    def collect_metrics() -> list[Sample]:
        time.sleep(0.3)  # as a plugin might that reads a file
        return []

    def record(conn: Any, action: Any) -> None:
        time.sleep(0.3)

    def register_recorders(register: Any) -> None:
        register(record)

    hooks = {"collect_metrics": collect_metrics, "register_recorders": register_recorders}
    async with served_engine(plugin("duck", **hooks)) as (_, client):
        assert (await client.get("/metrics")).status_code == 200
        made: httpx.Response = await client.post("/api/v1/agents", json={"name": "swan"})
        assert made.status_code == 201
    places = [re.fullmatch(r"plugin duck took \d+\.\d s in (.*?), .*", words) for words in warnings(caplog)]
    assert [place and place[1] for place in places] == ["collect_metrics", "its recorder"]


async def test_a_declaring_hook_that_takes_long_is_told_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    def register_options(register: Any) -> None:
        time.sleep(1.05)

    async with engine(plugin("duck", register_options=register_options)) as running:
        [told] = running.plugins.warnings
    assert re.match(r"plugin duck \(of handed in 0\) took \d+\.\d s in register_options, and the engine starts", told)
    assert told in caplog.messages


def test_a_hook_that_is_slow_all_the_time_is_in_the_log_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    slow = SlowHooks()
    for _ in range(1000):
        slow.look("duck", "turn_started", time.monotonic() - 2)
        slow.look("duck", "turn_finished", time.monotonic() - 0.5)
    slow._warned["duck", "turn_started"] -= PAUSE
    slow.look("duck", "turn_started", time.monotonic() - 3)
    first, second = warnings(caplog)
    assert first == "plugin duck took 2.0 s in turn_started, while others waited for it"
    assert second == (
        "plugin duck took 3.0 s in turn_started, while others waited for it, and was slow 999 times more since the last"
        " warning"
    )
