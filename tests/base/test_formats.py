"""Times and durations: what is written is read back as the same."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bytebrew.base.formats import Duration, now, parse_time, rfc3339, uptime

UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(min_value=datetime(1000, 1, 2), max_value=datetime(9999, 12, 30), timezones=ZONES)


@given(st.integers(0, 10**9), st.floats(0, 0.99))
def test_an_uptime_is_a_duration_of_the_same_whole_seconds(seconds: int, rest: float) -> None:
    assert Duration.parse(uptime(seconds + rest)) == float(seconds)


@given(st.dictionaries(st.sampled_from(list(UNITS)), st.integers(0, 10**6), min_size=1))
def test_a_duration_is_the_sum_of_its_parts(parts: dict[str, int]) -> None:
    text = "".join(f"{number}{unit}" for unit, number in parts.items())
    assert Duration.parse(text) == float(sum(number * UNITS[unit] for unit, number in parts.items()))


@given(st.decimals(0, 10**9, places=3))
def test_a_bare_number_is_seconds_and_fractions_are_kept(number: object) -> None:
    assert Duration.parse(str(number)) == Duration.parse(f"{number}s") == float(str(number))


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("1h30m", 5400), ("7d", 604800), ("250ms", 0.25), ("1.5h", 5400)]
)
def test_durations_read_as_people_write_them(text: str, seconds: float) -> None:
    assert Duration.parse(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "soon", "-5s", "5 s", "1h30", "m", "1e3", "inf", "nan", "9" * 400, "٣s x", "5s\n"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        Duration.parse(text)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (59.9, "59s"), (60, "1m0s"), (9252, "2h34m12s")])
def test_an_uptime_reads_as_go_prints_it(seconds: float, text: str) -> None:
    assert uptime(seconds) == text


@given(MOMENTS)
def test_a_moment_comes_back_in_utc(moment: datetime) -> None:
    text = rfc3339(moment)
    assert text.endswith("Z")
    assert parse_time(text) == moment
    assert parse_time(text).tzinfo is UTC


@given(MOMENTS, MOMENTS)
def test_the_order_of_texts_is_the_order_of_times(one: datetime, other: datetime) -> None:
    assert (rfc3339(one) < rfc3339(other)) is (one < other)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        parse_time("2026-03-01T09:00:00")


def test_now_is_now() -> None:
    assert abs(datetime.now(UTC) - parse_time(now())) < timedelta(seconds=5)
