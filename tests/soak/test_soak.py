"""A short soak; `make soak` makes long ones."""

import os
from collections.abc import Callable

import pytest

from tests.soak.run import Plan, run
from tests.soak.samples import Sample
from tests.soak.slopes import verdicts

SECONDS = 60 if "ALL_FAULTS" in os.environ else 20


@pytest.mark.sqlite
@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_nothing_is_lost_under_mixed_traffic_and_kills() -> None:
    lines: list[str] = []
    soak = await run(Plan(seed=11, seconds=SECONDS, rate=30, gap=3, every=1), lines.append)
    assert soak.model.violations == []
    assert soak.bulk.counts["done"] > 5 * SECONDS
    assert len(lines) == len(soak.samples) > SECONDS / 3
    assert {one.engine for one in soak.samples} > {1}


def samples(rss_mb: Callable[[float], float]) -> list[Sample]:
    """Those of an hour with one restart, whose memory goes by the seconds since the start of its process."""
    at = range(10, 3600, 10)
    return [
        Sample(
            one, rss_mb(one % 1800), 60 + one % 7, 150 + one % 11, 56 * one, 8 + one % 3 / 10, 40, 4, 100, one // 1800
        )
        for one in at
    ]


def test_what_goes_up_and_down_grows_by_nothing() -> None:
    lines = [*verdicts(samples(lambda at: 100 + at % 70))]
    assert [grows for _, grows in lines] == [False] * 6
    assert sum("indistinguishable from 0" in words for words, _ in lines) == 5


def test_what_fills_at_the_start_grows_by_nothing() -> None:
    lines = [*verdicts(samples(lambda at: 100 + min(at, 150) / 5 + at % 50))]
    assert "indistinguishable from 0" in next(words for words, _ in lines if words.startswith("rss_mb"))


def test_a_little_is_small_for_a_reason() -> None:
    words, grows = next(one for one in verdicts(samples(lambda at: 100 + at / 360 + at % 50 / 50)) if "rss" in one[0])
    assert not grows
    assert "small, at most 48: caches fill" in words


def test_what_leaks_grows() -> None:
    words, grows = next(one for one in verdicts(samples(lambda at: 100 + at / 36 + at % 50 / 50)) if "rss" in one[0])
    assert grows
    assert "GROWS by more than 48 an hour" in words


def test_few_samples_have_no_slope() -> None:
    assert [*verdicts(samples(float)[:20])] == [("too few samples for slopes", False)]
