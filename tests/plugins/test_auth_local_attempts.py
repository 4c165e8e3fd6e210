"""Guessing the secret of local sessions is slow, and shuts nobody out who does not guess."""

from collections.abc import AsyncIterator

import httpx
import pytest
from bytebrew_auth_local import attempt_limiter
from bytebrew_auth_local.attempt_limiter import BURST, MOST, SECONDS, AttemptLimiter

from bytebrew.engine import Engine
from bytebrew.testing import served_engine
from tests.local import SESSION, local_session
from tests.tables import check_refusal

SECRET = "open sesame, please"


@pytest.fixture
async def served() -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    """An engine with a secret."""
    async with served_engine(settings={"BYTEBREW_LOCAL_SESSION_SECRET": SECRET}) as (engine, client):
        yield engine, client


async def guess(client: httpx.AsyncClient, secret: str) -> httpx.Response:
    return await client.post(SESSION, headers={"authorization": f"Bearer {secret}"})


async def test_after_a_few_wrong_ones_even_the_right_one_has_to_wait(
    served: tuple[Engine, httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, client = served
    assert [(await guess(client, f"{n}" * 20)).status_code for n in range(BURST)] == [403] * BURST
    for secret in ("again and again, wrong", SECRET):
        refused = await guess(client, secret)
        assert refused.status_code == 429
        assert check_refusal(refused)["error"] == "too_many_attempts"
        assert 0 < int(refused.headers["retry-after"]) <= SECONDS
    assert await local_session(engine, client), "who can read the data folder gets in"
    monkeypatch.setattr(attempt_limiter, "SECONDS", 0.0001)
    assert (await guess(client, SECRET)).status_code == 200


async def test_right_ones_are_never_slow(served: tuple[Engine, httpx.AsyncClient]) -> None:
    _, client = served
    assert [(await guess(client, SECRET)).status_code for _ in range(3 * BURST)] == [200] * 3 * BURST


async def test_tokens_are_guessed_as_slowly() -> None:
    async with served_engine() as (engine, client):
        statuses = [(await guess(client, "A" * 43)).status_code for _ in range(BURST + 2)]
        assert statuses == [403] * BURST + [429] * 2
        assert await local_session(engine, client)


def test_each_further_guess_takes_its_time() -> None:
    known = AttemptLimiter()
    moment, guesses = 1000.0, 0
    while moment < 1000 + 100 * SECONDS:
        if wait := known.wait("192.0.2.1", moment):
            moment += wait
        else:
            known.failed("192.0.2.1", moment)
            guesses += 1
    assert 100 <= guesses <= 100 + BURST
    assert known.wait("192.0.2.1", moment + BURST * SECONDS) == 0


@pytest.mark.parametrize(
    ("guessing", "other"),
    [("192.0.2.1", "192.0.2.2"), ("2001:db8:0:1::1", "2001:db8:0:2::1"), ("127.0.0.1", "192.0.2.2"), ("", "192.0.2.2")],
)
def test_one_address_does_not_slow_another_down(guessing: str, other: str) -> None:
    known = AttemptLimiter()
    for _ in range(1000):
        known.failed(guessing, 0.0)
    assert known.wait(guessing, 0.0) > 0
    assert known.wait(other, 0.0) == 0


@pytest.mark.parametrize(("one", "same"), [("2001:db8::1", "2001:db8::ffff:1"), ("192.0.2.1", "::ffff:192.0.2.1")])
def test_what_one_client_has_counts_as_one(one: str, same: str) -> None:
    known = AttemptLimiter()
    for _ in range(BURST):
        known.failed(one, 0.0)
    assert known.wait(same, 0.0) > 0


def test_many_addresses_take_no_more_memory_and_guess_no_faster() -> None:
    known = AttemptLimiter()
    guesses = 0
    for n in range(20 * MOST):
        address = f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"
        if not known.wait(address, 0.0):
            known.failed(address, 0.0)
            guesses += 1
    assert len(known._wrong) <= MOST + 1
    assert guesses <= MOST + BURST + 1
    assert known.wait("198.51.100.1", 0.0) > 0
    assert known.wait("198.51.100.1", SECONDS * BURST) == 0
