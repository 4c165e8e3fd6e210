"""What the rows of events hold: one event, the deltas of a session that were committed together, or a packed part.

A row of several consecutive events has the number of the last one.
"""

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from bytebrew.contract.connection import Row
from bytebrew.contract.events import MessageDelta, Thinking

StoredEvent = tuple[int, str, bytes, int | None]
"""Number, name and JSON of an event, and when it happened in milliseconds since 1970; older engines kept no time."""
DELTAS = "deltas"
"""The type of a row with several deltas, which are stored as they are."""
PACKED = "packed"
"""The type of a row with compressed events of a turn that has ended long ago."""
MOST_EVENTS, MOST_BYTES = 256, 256 * 1024
"""A row of several events takes no further one beyond either of these."""
_SMALL = frozenset((MessageDelta.name, Thinking.name))
_CONTENT, _END = b'"content":"', b'"}'


class _Event(Struct, array_like=True, frozen=True):
    """An event that older engines have packed; the first of them kept no time."""

    n: int
    name: str
    data: bytes
    at: int | None = None


class _Columns(Struct, frozen=True):
    """Consecutive events by columns, which compress better.

    The JSON of an event is the first part of its kind, its piece, and the last part of its kind: so the pieces of the
    deltas are the text of the answer. `times` are milliseconds since the event before it.
    """

    kinds: list[tuple[str, bytes, bytes]]
    of_kind: list[int]
    sizes: list[int]
    times: list[int | None]
    pieces: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode_deltas = msgspec.msgpack.Decoder(list[tuple[str, bytes, int | None]]).decode
_decode_packed = msgspec.msgpack.Decoder(list[_Event] | _Columns).decode


def grouped(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The rows that store events of a commit: neighbouring deltas of a session are one."""
    found: list[tuple[Any, ...]] = []
    run: list[tuple[Any, ...]] = []
    owner, size = None, 0
    for row in rows:
        small = row[2] in _SMALL
        if run and not (small and row[0] == owner and len(run) < MOST_EVENTS and size <= MOST_BYTES):
            found.append(_together(run))
            run = []
        if small:
            if not run:
                owner, size = row[0], 0
            run.append(row)
            size += len(row[3])
        else:
            found.append(row)
    if run:
        found.append(_together(run))
    return found


def _together(run: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    session_id, n, _, _, at = run[-1]
    return (session_id, n, DELTAS, _encode([row[2:] for row in run]), at) if len(run) > 1 else run[0]


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
    columns = _Columns([*kinds], of_kind, [*map(len, pieces)], times, b"".join(pieces))
    return zlib.compress(_encode(columns))


def events_of(row: Row, after: int = 0) -> Iterator[StoredEvent]:
    """The events of a row above a number."""
    if row["type"] == DELTAS:
        deltas = _decode_deltas(row["data"])
        first = row["n"] - len(deltas) + 1
        events: Iterator[StoredEvent] = ((n, name, data, at) for n, (name, data, at) in enumerate(deltas, first))
    elif row["type"] == PACKED:
        events = _unpacked(row["n"], _decode_packed(zlib.decompress(row["data"])))
    else:
        events = iter([(row["n"], row["type"], row["data"], row["at"])])
    return (one for one in events if one[0] > after)


def _unpacked(last: int, content: list[_Event] | _Columns) -> Iterator[StoredEvent]:
    if not isinstance(content, _Columns):
        yield from map(astuple, content)
        return
    begin = before = 0
    parts = zip(content.of_kind, content.sizes, content.times, strict=True)
    for n, (kind, size, time) in enumerate(parts, last - len(content.sizes) + 1):
        name, head, tail = content.kinds[kind]
        piece = content.pieces[begin : begin + size]
        begin += size
        before += time or 0
        yield n, name, head + piece + tail, None if time is None else before
