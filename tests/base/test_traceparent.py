"""The header `traceparent`: what is a trace, and what is to be ignored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bytebrew.base.traceparent import read_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        (f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01"),
        (f" 00-{TRACE}-{SPAN}-00\t", f"00-{TRACE}-{SPAN}-00"),
        (f"00-{TRACE}-{SPAN}-ff", f"00-{TRACE}-{SPAN}-01"),
        (f"01-{TRACE}-{SPAN}-01-what-comes-later", f"00-{TRACE}-{SPAN}-01"),
        (f"cc-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01"),
    ],
)
def test_a_valid_header_is_kept_in_the_form_of_version_00(header: str, kept: str) -> None:
    assert read_traceparent(header) == kept


@pytest.mark.parametrize(
    "header",
    [
        "",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"01-{TRACE}-{SPAN}-01more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01",
        f"00-{'٣' * 32}-{SPAN}-01",
    ],
)
def test_an_invalid_header_is_ignored(header: str) -> None:
    assert read_traceparent(header) is None


@given(st.text())
def test_whatever_comes_only_the_one_form_is_kept(header: str) -> None:
    kept = read_traceparent(header)
    assert kept is None or read_traceparent(kept) == kept


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8), st.booleans())
def test_every_trace_but_the_empty_one_is_kept(trace: bytes, span: bytes, sampled: bool) -> None:
    header = f"00-{trace.hex()}-{span.hex()}-{sampled:02x}"
    assert read_traceparent(header) == (header if any(trace) and any(span) else None)
