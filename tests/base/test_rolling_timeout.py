"""Time limits on many short waits at the price of one timer."""

import asyncio
import math
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, closing

import pytest

from bytebrew.base.rolling_timeout import Deadline, ShortWaits, at_most, move_on_within, until, within


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


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
    for _ in range(2):  # the second one meets the timer of the first
        with pytest.raises(TimeoutError), deadline.at(soon(-1)):
            await asyncio.sleep(5)
        with deadline.at(soon(-1)):
            await asyncio.sleep(0)
    with pytest.raises(TimeoutError), deadline.at(soon(-2)):
        await asyncio.sleep(5)


async def test_code_that_goes_on_after_its_cancellation_is_cancelled_again() -> None:
    ends = 0
    task = asyncio.current_task()
    assert task is not None
    with at_most(0.02):
        while ends < 3:
            try:
                await asyncio.sleep(5)
            except asyncio.CancelledError:
                ends += 1
    assert (ends, task.cancelling()) == (3, 0)
    with pytest.raises(TimeoutError), at_most(0.02):
        try:
            await asyncio.sleep(5)
        finally:
            await asyncio.sleep(5)
    assert task.cancelling() == 0
    await asyncio.sleep(0.03)  # nothing is left of them


async def test_what_arrived_while_the_process_stood_still_is_read_before_the_time_is_over(deadline: Deadline) -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    with closing(theirs), closing(writer):
        for n in range(3):
            begun = asyncio.create_task(reader.readline())
            await asyncio.sleep(0)
            with deadline.at(soon(0.02)):
                asyncio.get_running_loop().call_soon(stand_still, theirs, n)
                assert await begun == b"%d\n" % n
        with pytest.raises(TimeoutError), deadline.at(soon(0.02)):
            await reader.readline()


async def test_limits_for_one_wait_read_first_too() -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    with closing(theirs), closing(writer):
        limits: list[AbstractContextManager[object]] = [within(0.02), until(soon(0.02)), move_on_within(0.02)]
        for n, limit in enumerate(limits):
            with limit:
                asyncio.get_running_loop().call_soon(stand_still, theirs, n)
                assert await reader.readline() == b"%d\n" % n
    with pytest.raises(TimeoutError), within(0.01):
        await asyncio.sleep(5)
    with move_on_within(0.01) as scope:
        await asyncio.sleep(5)
    assert scope.cancelled_caught


def stand_still(sender: socket.socket, n: int) -> None:
    """What a pause of the process is to it: time passes, and data arrives."""
    time.sleep(0.1)
    sender.sendall(b"%d\n" % n)


async def test_a_limit_of_infinity_or_none_is_none() -> None:
    for seconds in (math.inf, None):
        with within(seconds), move_on_within(seconds):
            await asyncio.sleep(0.01)


async def test_the_moment_may_move_while_the_wait_is_under_way() -> None:
    with within(60) as deadline:
        deadline.at(soon(0.1))
        await asyncio.sleep(0.05)
        deadline.at(soon(0.3))
        await asyncio.sleep(0.2)
        assert not deadline.over
    with pytest.raises(TimeoutError), within(60) as deadline:
        deadline.at(soon(0))
        await asyncio.sleep(5)
    assert deadline.over


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


async def test_many_waits_set_one_timer() -> None:
    moments = []

    class Counting(Deadline):
        def _set(self, moment: float) -> None:
            moments.append(moment)
            super()._set(moment)

    deadline = Counting()
    for _ in range(100):
        with deadline.at(soon(10)):
            await asyncio.sleep(0)
    assert len(moments) == 1


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


async def test_each_of_many_waits_lasts_as_long_as_the_others() -> None:
    waits = ShortWaits()
    began, first = soon(0), waits.begin(0.05)
    assert not await first
    waits.end(first)
    second, ended, settled = waits.begin(0.05), waits.begin(0.05), waits.begin(0.05)
    waits.end(ended)
    settled.set_result(True)
    await asyncio.sleep(0.02)
    last, later = waits.begin(0.05), soon(0)
    assert not await second
    assert soon(0) - began >= 0.095
    assert not await last
    assert soon(0) - later >= 0.045
    assert settled.result()
    assert not ended.done()
