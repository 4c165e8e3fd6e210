"""The signs of all vectors, in memory, which tell the few hundred most like a query without reading the vectors.

Vectors that point in the same direction have the same signs in most dimensions. The signs are kept as one integer per
dimension, with a bit for each chunk, so that one operation on integers is done for all chunks: carry-save adders count
the dimensions in which a chunk differs from the query, weighted by the query's values, as binary digits of all counts
at once. 100,000 chunks of 384 dimensions take 6 MB and about 2 ms.
"""

import asyncio
import heapq
import sys
from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import msgspec

from bytebrew import Connection, Engine, StateKey

from .dialect import numbers

_VECTORS = """select id, base, vector from knowledge_chunks where id > ? and vector is not null
  order by id limit ?"""
_LEFT = f"select count(*) from knowledge_chunks where id in ({numbers('?')})"  # noqa: S608
_READ = 500
"""Vectors that are read per transaction."""
_SLAB = 65_536
"""Chunks in one integer: more are appended to it at the cost of a copy."""
_NEGATIVE = bytes([ord("0")] * 128 + [ord("1")] * 128)
"""The binary digit for each value of the byte of a float that has its sign."""
_SIGN_BYTE = 3 if sys.byteorder == "little" else 0
_LEVELS = 3
"""Highest weight of a dimension."""
_DIMENSIONS = 512
"""Dimensions that are looked at: those in which the query has its largest values."""
Planes = Sequence[int]
"""One integer per dimension or per binary digit, with a bit for each chunk."""


class Slab(NamedTuple):
    """The signs of some chunks in the order of their ids: bit n of a plane is set if the n-th has a negative value."""

    chunks: "array[int]"
    planes: Planes

    def extended(self, other: "Slab") -> "Slab":
        """With the chunks of another one behind its own."""
        shift = len(self.chunks)
        planes = [own | more << shift for own, more in zip(self.planes, other.planes, strict=True)]
        return Slab(self.chunks + other.chunks, planes)

    def until(self, last: int) -> "Slab":
        """Without the chunks whose ids are above one."""
        chunks = self.chunks[: bisect_right(self.chunks, last)]
        if len(chunks) == len(self.chunks):
            return self
        mask = (1 << len(chunks)) - 1
        return Slab(chunks, [plane & mask for plane in self.planes])

    def distances(self, weights: Sequence[tuple[int, int, bool]]) -> Planes:
        """The binary digits, lowest first, of the sums of weights of the dimensions in which signs differ."""
        every = (1 << len(self.chunks)) - 1
        digits: list[list[int]] = [[] for _ in range(_LEVELS.bit_length())]
        for dimension, weight, negative in weights:
            plane = self.planes[dimension] ^ every if negative else self.planes[dimension]
            for digit, planes in enumerate(digits):
                if weight >> digit & 1:
                    planes.append(plane)
        return _sums(digits)


class Signs:
    """The signs of the vectors of all bases, read from the database as far as they are not yet."""

    def __init__(self) -> None:
        self._last, self._outdated = 0, False
        self._slabs: dict[tuple[str, int], list[Slab]] = {}
        self._lock = asyncio.Lock()

    async def load(self, engine: Engine) -> None:
        """Reads the vectors that have come since the last time."""
        await asyncio.shield(self._load(engine))  # a thread would go on reading for a caller that is gone

    async def _load(self, engine: Engine) -> None:
        async with self._lock:
            if self._outdated:
                self._last, self._slabs, self._outdated = 0, {}, False
            while await engine.db.read(self.read):
                pass

    async def forget(self, last: int) -> None:
        """Forgets the chunks above the last one that there is: SQLite will give their ids to others."""
        async with self._lock:
            if last < self._last:
                self._last = last
                self._slabs = {key: [slab.until(last) for slab in slabs] for key, slabs in self._slabs.items()}

    def are_as_long(self, base: str, vector: "array[float]") -> bool:
        """Whether all vectors of a base have the length of one, also those that are deleted or not searched."""
        return all(size == len(vector) * vector.itemsize for name, size in self._slabs if name == base)

    def nearest(
        self, base: str, vector: "array[float]", limit: int, within: Collection[int] | None = None
    ) -> list[int]:
        """About the most similar chunks of a base, in no order, of some chunks if they are given."""
        slabs = self._slabs.get((base, len(vector) * vector.itemsize), ())
        weights = _weights(vector)
        return [*_lowest([(slab.chunks, slab.distances(weights), _mask(slab, within)) for slab in slabs], limit)]

    def examine(self, conn: Connection, chunks: Sequence[int]) -> None:
        """Has all vectors read again if most of these chunks are deleted, so that others take their places."""
        (left,) = conn.execute(_LEFT, (msgspec.json.encode(chunks).decode(),)).fetchone()
        if left < len(chunks) / 2:
            self.outdate()

    def outdate(self) -> None:
        """Has all vectors read again, because chunks were deleted whose ids SQLite may give to others."""
        self._outdated = True

    def read(self, conn: Connection) -> bool:
        """Adds a batch of vectors; returns whether there may be more."""
        rows = conn.execute(_VECTORS, (self._last, _READ)).fetchall()
        batches: dict[tuple[str, int], list[tuple[int, bytes]]] = {}
        for chunk, base, vector in rows:
            batches.setdefault((base, len(vector)), []).append((chunk, vector))
        for key, batch in batches.items():
            slabs = self._slabs.setdefault(key, [])
            if slabs and len(slabs[-1].chunks) < _SLAB:
                slabs[-1] = slabs[-1].extended(_slab(batch))
            else:
                slabs.append(_slab(batch))
        if rows:
            self._last = rows[-1][0]
        return len(rows) == _READ


def _slab(batch: Sequence[tuple[int, bytes]]) -> Slab:
    dimensions = len(batch[0][1]) // 4
    signs = b"".join(vector[_SIGN_BYTE::4] for _, vector in reversed(batch)).translate(_NEGATIVE)
    planes = [int(signs[dimension::dimensions], 2) for dimension in range(dimensions)]
    return Slab(array("q", [chunk for chunk, _ in batch]), planes)


def _weights(vector: "array[float]") -> list[tuple[int, int, bool]]:
    """The dimensions that have a weight, with it and whether the query's value is negative."""
    scale = len(vector) ** 0.5
    largest = heapq.nlargest(_DIMENSIONS, range(len(vector)), key=lambda n: abs(vector[n]))
    weights = ((n, min(_LEVELS, int(abs(vector[n]) * scale + 0.5)), vector[n] < 0) for n in largest)
    return [one for one in weights if one[1]]


def _sums(digits: list[list[int]]) -> list[int]:
    """The sum of integers of one bit, for each digit, at each bit: full adders make three into a sum and a carry."""
    sums: list[int] = []
    while digits:
        planes = digits.pop(0)
        carries: list[int] = digits[0] if digits else []
        while len(planes) > 1:
            one, other = planes.pop(), planes.pop()
            third = planes.pop() if planes else 0
            either = one ^ other
            planes.insert(0, either ^ third)
            carries.append((one & other) | (either & third))
        if carries and not digits:
            digits.append(carries)
        sums.append(planes[0] if planes else 0)
    return sums


def _mask(slab: Slab, within: Collection[int] | None) -> int:
    if within is None:
        return (1 << len(slab.chunks)) - 1
    return int(bytes(48 + (chunk in within) for chunk in reversed(slab.chunks)) or b"0", 2)


def _lowest(scored: Sequence[tuple["array[int]", Planes, int]], limit: int) -> Iterator[int]:
    """The chunks with the lowest sums; of equal ones some."""
    undecided = [mask for _, _, mask in scored]
    chosen = [0] * len(scored)
    for digit in reversed(range(max((len(sums) for _, sums, _ in scored), default=0))):
        high = [mask & sums[digit] for mask, (_, sums, _) in zip(undecided, scored, strict=True)]
        low = [mask ^ own for mask, own in zip(undecided, high, strict=True)]
        if (count := sum(mask.bit_count() for mask in low)) >= limit:
            undecided = low
        else:
            limit -= count
            chosen = [mask | own for mask, own in zip(chosen, low, strict=True)]
            undecided = high
    for (chunks, _, _), mask in zip(scored, chosen, strict=True):
        yield from _at(chunks, mask)
    equal = (chunk for (chunks, _, _), mask in zip(scored, undecided, strict=True) for chunk in _at(chunks, mask))
    yield from islice(equal, limit)


def _at(chunks: "array[int]", mask: int) -> Iterator[int]:
    bits = f"{mask:b}"[::-1]
    n = bits.find("1")
    while n >= 0:
        yield chunks[n]
        n = bits.find("1", n + 1)


SIGNS = StateKey[Signs]("signs of vectors")
