"""Streams are split into events as the specification says, however they are split into chunks."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bytebrew.base import sse_reader
from bytebrew_client.event_stream import Frame, Parser

TEXT = st.text(st.sampled_from("ab:\u00fc\u2028\u0085\x1c \t"), max_size=6)
ENDS = st.sampled_from(["\n", "\r", "\r\n"])
LINE = st.one_of(
    st.tuples(st.sampled_from(["data: ", "data:", "id: ", "event: ", ":", "retry: ", "other: "]), TEXT).map("".join),
    st.just(""),
    st.just("data"),
)
STREAM = st.tuples(st.sampled_from(["", "\ufeff"]), st.lists(st.tuples(LINE, ENDS).map("".join), max_size=14)).map(
    lambda parts: (parts[0] + "".join(parts[1])).encode()
)


def parsed(*chunks: bytes) -> list[Frame]:
    parser = Parser()
    return [frame for chunk in chunks for frame in parser.feed(chunk)]


@given(STREAM, st.lists(st.integers(0, 90)))
def test_any_split_of_a_stream_gives_the_same_events(stream: bytes, places: list[int]) -> None:
    edges = [0, *sorted(min(place, len(stream)) for place in places), len(stream)]
    chunks = [stream[start:end] for start, end in pairwise(edges)]
    assert parsed(*chunks) == parsed(stream)


@given(STREAM)
def test_the_engines_own_reader_agrees(stream: bytes) -> None:
    theirs = sse_reader.Parser().feed(stream)
    assert [(one.event, one.data) for one in parsed(stream)] == [(one.event, one.data) for one in theirs]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
def test_what_only_looks_like_the_end_of_a_line_is_none(mark: str) -> None:
    assert parsed(f"data: a{mark}b\n\n".encode()) == [Frame("", "message", f"a{mark}b")]


def test_an_event_without_an_id_does_not_have_that_of_the_one_before() -> None:
    frames = parsed(b": ok\n\nid: 7\nevent: a\ndata: 1\n\n: ping\n\nevent: b\ndata: 2\n\n")
    assert frames == [Frame("7", "a", "1"), Frame("", "b", "2")]
