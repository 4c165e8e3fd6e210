"""What the rows of events hold: one event, the deltas of a session that were committed together, or a packed part.

A row of several consecutive events has the number of the last one.
"""

import zlib
from collections.abc import Iterator, Sequence
from itertools import repeat
from operator import sub
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from bytebrew.contract.connection import Row
from bytebrew.contract.events import MessageDelta, Thinking

StoredEvent = tuple[int, str, bytes, int | None]
"""Number, name and JSON of an event, and when it happened in milliseconds since 1970; older engines kept no time."""
DELTAS = "deltas"
"""The type of a row with several deltas of one type, which are not compressed."""
PACKED = "packed"
"""The type of a row with compressed events of a turn that has ended long ago."""
MOST_EVENTS, MOST_BYTES = 256, 256 * 1024
"""A row of several events takes no further one beyond either of these."""
_SMALL = frozenset((MessageDelta.name, Thinking.name))
_CONTENT, _END = b'"content":"', b'"}'


_DICTIONARY = (
    b'"call_id":"call_","has_error":true}{"tool":"","output":"","call_id":"call_","has_error":false}{"tool":"","input":{'
    b'"},"call_id":"call_error_tool_result\xc4\x00\xc4\x00\x93\xa9tool_call\xc4\x00\xc4\x00\x93\xa8thinking\xc4\x0c{"content":"'
    b'{"session_id":"0","turn_id":"turn_0","usage":{"input_tokens":0,"output_tokens":0,"cached_tokens":0,'
    b'"thinking_tokens":0,"cache_write_tokens":0,"cost_usd":null},"status":"completed","finish_reason":"stop"}'
    b'","role":"assistant"}'
    b'\x85\xa5kinds\x93\x93\xadmessage_delta\xc4\x0c{"content":"\xc4\x02"}\x93\xa7message\xc4\x0c{"content":"\xc4\x02"}'
    b"\x93\xa4done\xc4\x00\xc4\x00\xa7of_kind\xdc\x004" + b"\x00" * 50 + b"\x01\x02\xa5sizes\xdc\x004\x04\x04\x04\x04"
    b"\xa5times\xdc\x004\xcf\x00\x00\x01\xa6pieces\xc5"
)
"""What packed rows have in common, for zlib. It never changes: rows that were packed with it are read with it."""


class _Event(Struct, array_like=True, frozen=True):
    """An event that older engines have packed; the first of them kept no time."""

    n: int
    name: str
    data: bytes
    at: int | None = None


class _Columns(Struct, frozen=True):
    """Consecutive events by columns, which are small and compress well.

    The JSON of an event is the first part of its kind, its piece, and the last part of its kind: so the pieces of the
    deltas are the text of the answer. Without `of_kind` all are of the first. `times` are milliseconds since the event
    before it.
    """

    kinds: list[tuple[str, bytes, bytes]]
    of_kind: list[int]
    sizes: list[int]
    times: list[int | None]
    pieces: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_Event] | _Columns).decode


def grouped(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The rows that store events of a commit: neighbouring deltas of a session and of one type are one."""
    found: list[tuple[Any, ...]] = []
    run: list[tuple[Any, ...]] = []
    owner, kind, size = "", "", 0
    for row in rows:
        if row[2] == kind and row[0] == owner and len(run) < MOST_EVENTS and size < MOST_BYTES:
            run.append(row)
            size += len(row[3])
            continue
        found += _together(run)
        run, size = [row], len(row[3])
        owner, kind = (row[0], row[2]) if row[2] in _SMALL else ("", "")
    return found + _together(run)


def _together(run: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The row of some deltas; those that are not alike stay apart."""
    if len(run) < 2:
        return run
    session_ids, numbers, names, data, times = zip(*run, strict=True)
    head = data[0][: data[0].find(_CONTENT) + len(_CONTENT)]
    begin, end = len(head), -len(_END)
    pieces = [one[begin:end] for one in data]
    if head + (_END + head).join(pieces) + _END != b"".join(data):  # a test of each one takes ten times as long
        return run
    since = [times[0], *map(sub, times[1:], times)]
    columns = _Columns([(names[0], head, _END)], [], [*map(len, pieces)], since, b"".join(pieces))
    return [(session_ids[0], numbers[-1], DELTAS, _encode(columns), times[-1])]


def packed(events: Sequence[StoredEvent]) -> bytes:
    """The data of a row with consecutive events of a turn that has ended."""
    kinds: dict[tuple[str, bytes, bytes], int] = {}
    of_kind: list[int] = []
    pieces: list[bytes] = []
    times: list[int | None] = []
    before = 0
    for _, name, data, at in events:
        head, content, piece = data.partition(_CONTENT)
        if content and piece.endswith(_END):
            kind, piece = (name, head + content, _END), piece[: -len(_END)]
        else:
            kind, piece = (name, b"", b""), data
        of_kind.append(kinds.setdefault(kind, len(kinds)))
        pieces.append(piece)
        times.append(None if at is None else at - before)
        before = before if at is None else at
    columns = _Columns([*kinds], of_kind if len(kinds) > 1 else [], [*map(len, pieces)], times, b"".join(pieces))
    compressor = zlib.compressobj(zdict=_DICTIONARY)
    return compressor.compress(_encode(columns)) + compressor.flush()


def events_of(row: Row, after: int = 0) -> Iterator[StoredEvent]:
    """The events of a row above a number."""
    if row["type"] == DELTAS:
        events = _unpacked(row["n"], _decode(row["data"]))
    elif row["type"] == PACKED:
        whole = zlib.decompressobj(zdict=_DICTIONARY).decompress(row["data"])  # older rows do not ask for it
        events = _unpacked(row["n"], _decode(whole))
    else:
        events = iter([(row["n"], row["type"], row["data"], row["at"])])
    return (one for one in events if one[0] > after)


def _unpacked(last: int, content: list[_Event] | _Columns) -> Iterator[StoredEvent]:
    if not isinstance(content, _Columns):
        yield from map(astuple, content)
        return
    begin = before = 0
    kinds = content.of_kind or repeat(0, len(content.sizes))
    parts = zip(kinds, content.sizes, content.times, strict=True)
    for n, (kind, size, time) in enumerate(parts, last - len(content.sizes) + 1):
        name, head, tail = content.kinds[kind]
        piece = content.pieces[begin : begin + size]
        begin += size
        before += time or 0
        yield n, name, head + piece + tail, None if time is None else before
