"""Server-Sent Events, written and read."""

import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bytebrew.base.sse_reader import Parser, ServerSentEvent
from bytebrew.store.journal import frame

ENDS = ("\n", "\r", "\r\n")
LINES = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=20)
EVENTS = st.lists(st.tuples(LINES, st.lists(LINES, min_size=1, max_size=3), LINES, st.sampled_from(ENDS)))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc\u2028", max_size=3), inner, max_size=3),
    max_leaves=5,
)


def parsed(*chunks: bytes, limit: int = 8 * 1024 * 1024) -> list[ServerSentEvent]:
    parser = Parser(limit)
    return [event for chunk in chunks for event in parser.feed(chunk)]


@given(EVENTS, st.booleans(), st.data())
def test_a_stream_holds_the_same_events_however_it_is_cut(
    events: list[tuple[str, list[str], str, str]], bom: bool, data: st.DataObject
) -> None:
    text = "\ufeff" if bom else ""
    for name, values, number, end in events:
        values = [f"data: {value}" for value in values]
        text += end.join([f"event: {name}", ": note", *values, f"id:{number and ' ' + number}", "other", "", ""])
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=30)))
    chunks = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert parsed(*chunks) == [
        ServerSentEvent(name or "message", "\n".join(values), number) for name, values, number, _ in events
    ]


@pytest.mark.parametrize("end", ENDS)
def test_an_event_is_complete_with_the_last_byte_of_its_empty_line(end: str) -> None:
    raw = f"data: 1{end}{end}".encode()
    assert parsed(raw[:-2]) == []
    complete = raw[:-1] if end == "\r\n" else raw
    assert parsed(complete) == [ServerSentEvent("message", "1", "")]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\u0085", "\v", "\f", "\x1c", "\x1d", "\x1e", "\ufeff"])
def test_nothing_but_cr_lf_and_crlf_ends_a_line(mark: str) -> None:
    text = f"a{mark}data: b"
    assert parsed(f"data: {text}\n\n".encode()) == [ServerSentEvent("message", text, "")]


@given(st.lists(st.tuples(st.sampled_from(["message", "done"]), JSON)))
def test_what_frame_writes_the_parser_reads(events: list[tuple[str, Any]]) -> None:
    raw = b"".join(frame(n, name, msgspec.json.encode(value)) for n, (name, value) in enumerate(events, 1))
    read = [(event.id, event.event, msgspec.json.decode(event.data)) for event in parsed(raw)]
    assert read == [(str(n), name, value) for n, (name, value) in enumerate(events, 1)]


def test_a_piece_of_nothing_changes_nothing() -> None:
    assert parsed(b"", b"\xef", b"", b"\xbb\xbfdata: a\r", b"", b"\ndata: b\n\n") == [
        ServerSentEvent("message", "a\nb", "")
    ]


@given(st.binary(max_size=200), st.integers(1, 7))
def test_any_bytes_can_be_read_in_pieces_of_any_size(raw: bytes, size: int) -> None:
    assert parsed(*(raw[at : at + size] for at in range(0, len(raw), size))) == parsed(raw)


@given(
    st.lists(
        st.sampled_from(["event: e\n", "data: d\n", "data: \n", "id: 1\n", ": c\n", "data:\r", "\ufeff", "\n", "\n\n"])
    ),
    st.data(),
)
def test_whole_events_in_a_chunk_are_those_that_come_byte_by_byte(lines: list[str], data: st.DataObject) -> None:
    raw = "".join(lines).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=4)))
    chunks = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert parsed(*chunks) == parsed(*(bytes([byte]) for byte in raw))


def test_an_event_without_data_is_none_and_empty_data_is_one() -> None:
    assert parsed(b"event: x\nid: 1\n\n: heartbeat\n\ndata\n\ndata:\n\n") == [ServerSentEvent("message", "", "1")] * 2


def test_one_space_after_the_colon_is_not_part_of_the_value() -> None:
    assert [event.data for event in parsed(b"data:a\n\ndata: b\n\ndata:  c\n\n")] == ["a", "b", " c"]


def test_an_id_with_a_null_is_ignored_and_the_last_id_stays() -> None:
    assert [event.id for event in parsed(b"id: 7\ndata:\n\nid: 8\x009\ndata:\n\n")] == ["7", "7"]


@pytest.mark.parametrize(
    ("raw", "allowed"),
    [
        pytest.param(b"data: 123456\n\n", 6, id="one line"),
        pytest.param(b"data: 12\ndata: 45\n\n", 5, id="several lines"),
        pytest.param(b"data\n" * 6 + b"\n", 5, id="lines without content"),
    ],
)
def test_an_event_may_be_as_long_as_the_limit_and_no_longer(raw: bytes, allowed: int) -> None:
    assert len(parsed(raw, limit=allowed)) == 1
    with pytest.raises(ValueError, match=f"longer than {allowed - 1} bytes"):
        parsed(raw, limit=allowed - 1)


def test_a_long_line_costs_its_length_however_many_pieces_it_comes_in() -> None:
    begun = time.process_time()
    (event,) = parsed(b"data: ", *[b"x" * 100] * 50_000, b"\n\n")
    assert len(event.data) == 5_000_000
    assert time.process_time() - begun < 1


def test_a_line_that_never_ends_is_refused() -> None:
    with pytest.raises(ValueError, match="a line of the event stream is longer than 10 bytes"):
        parsed(*[b"x"] * 11, limit=10)
