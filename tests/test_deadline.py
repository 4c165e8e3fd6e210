"""Time limits on many short waits at the price of one timer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import pytest

from bytebrew.deadline import Deadline


@pytest.fixture
async def deadline() -> AsyncIterator[Deadline]:
    with closing(Deadline()) as deadline:
        yield deadline


def soon(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_a_wait_that_is_too_long_is_ended(deadline: Deadline) -> None:
    began = soon(0)
    with pytest.raises(TimeoutError), deadline.at(soon(0.05)):
        await asyncio.sleep(5)
    assert 0.045 < soon(0) - began < 2
    await asyncio.sleep(0)  # nothing is left of the cancellation that ended it
    with deadline.at(soon(1)):
        await asyncio.sleep(0)


async def test_a_moment_that_is_over_ends_a_wait_at_once(deadline: Deadline) -> None:
    with pytest.raises(TimeoutError), deadline.at(soon(-1)):
        await asyncio.sleep(5)


async def test_waits_that_are_short_enough_may_be_many(deadline: Deadline) -> None:
    for _ in range(10):
        with deadline.at(soon(0.1)):
            await asyncio.sleep(0.03)
    with pytest.raises(TimeoutError), deadline.at(soon(0.1)):
        await asyncio.sleep(5)


async def test_a_wait_may_have_to_end_before_the_one_before_it(deadline: Deadline) -> None:
    with deadline.at(soon(60)):
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError), deadline.at(soon(0.02)):
        await asyncio.sleep(5)


async def test_what_is_done_between_waits_has_all_the_time_in_the_world(deadline: Deadline) -> None:
    with deadline.at(soon(0.02)):
        await asyncio.sleep(0)
    await asyncio.sleep(0.1)
    with deadline.at(None):
        await asyncio.sleep(0.05)
    with pytest.raises(TimeoutError), deadline.at(soon(0.02)):
        await asyncio.sleep(5)


async def test_many_waits_set_one_timer(deadline: Deadline, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, set_ = asyncio.get_running_loop(), []

    def call_at(moment: float, *given: Any) -> asyncio.TimerHandle:
        set_.append(moment)
        return type(loop).call_at(loop, moment, *given)

    monkeypatch.setattr(loop, "call_at", call_at)
    for _ in range(100):
        with deadline.at(soon(10)):
            await asyncio.sleep(0)
    assert len(set_) == 1


async def test_a_cancellation_stays_one(deadline: Deadline) -> None:
    async def wait() -> None:
        with deadline.at(soon(0.05)):
            await asyncio.sleep(5)

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.sleep(0.1)  # the timer goes off for nobody


async def test_a_cancellation_in_the_same_moment_is_not_taken_for_the_end_of_the_time(deadline: Deadline) -> None:
    async def wait() -> None:
        with deadline.at(soon(0.02)):
            await asyncio.sleep(5)

    waiting = asyncio.create_task(wait())
    asyncio.get_running_loop().call_later(0.02, waiting.cancel)
    asyncio.get_running_loop().call_at(soon(0.02), waiting.cancel)
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_an_error_in_a_wait_comes_out(deadline: Deadline) -> None:
    with pytest.raises(KeyError), deadline.at(soon(1)):
        raise KeyError
