"""The signs of all vectors, in memory, which tell the few hundred most like a query without reading the vectors.

Vectors that point in the same direction have the same signs in most dimensions. All vectors of a model have much in
common, which says nothing: the signs are those of their differences from its mean. They are kept as one integer per
dimension, with a bit for each chunk, so that one operation on integers is done for all chunks: carry-save adders count
the dimensions in which a chunk differs from the query, weighted by the query's values, as binary digits of all counts
at once. 100,000 chunks of 384 dimensions take 6 MB and about 2 ms, of 1,536 dimensions 21 MB and 4 ms.
"""

import asyncio
import heapq
import math
import sys
from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import msgspec

from bytebrew import Connection, Engine, StateKey

from .dialect import numbers

_VECTORS = """select c.id, c.base, i.signature, c.vector from knowledge_chunks c
  join knowledge_indexes i on i.id = c.index_id where c.id > ? and c.vector is not null order by c.id limit ?"""
_FIRST = """select c.vector from knowledge_chunks c join knowledge_indexes i on i.id = c.index_id
  where i.signature = ? and length(c.vector) = ? order by c.id limit ?"""
_LEFT = f"select count(*) from knowledge_chunks where id in ({numbers('?')})"  # noqa: S608
_READ = 500
"""Vectors that are read per transaction."""
_SLAB = 65_536
"""Chunks in one integer: more are appended to it at the cost of a copy."""
_UPPER = 1 if sys.byteorder == "little" else 0
"""Which half of a float, and which of its bytes, has its sign and the most of its value."""
_BELOW = bytes([ord("1")] * 128 + [ord("0")] * 128)
"""The binary digit for each value of a byte whose highest bit is set unless a value is below another."""
_GROWTH = 4
"""How many times more vectors than a mean was computed from make it be computed again, up to _READ."""
_LEVELS = 3
"""Highest weight of a dimension."""
_DIMENSIONS = 512
"""Dimensions that are looked at: those in which the query has its largest values."""
VectorSpace = tuple[str, int]
"""The signature of a model, and the bytes of its vectors."""
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


class Middle:
    """The mean of the first vectors of a space, and how many these are."""

    def __init__(self, vectors: Sequence["array[float]"]) -> None:
        self.mean = array("f", [sum(values) / len(vectors) for values in zip(*vectors, strict=True)])
        self.count = len(vectors)
        self._units = int.from_bytes(b"\1\0" * len(self.mean), "little")
        self._values = self._ordered(self.mean.tobytes())

    def above(self, vector: bytes) -> bytes:
        """A byte for each value of a vector, whose highest bit is set unless the value is below the mean."""
        # a difference of two numbers of 15 bits leaves the 16th bit, unless it is negative
        least = (self._ordered(vector) | self._units << 15) - self._values
        return least.to_bytes(2 * len(self.mean), sys.byteorder)[_UPPER::2]

    def _ordered(self, vector: bytes) -> int:
        """Numbers of 15 bits that have the order of the values, from their upper halves, each in 16 bits."""
        value = int.from_bytes(array("H", vector)[_UPPER::2].tobytes(), sys.byteorder)
        negative = value >> 15 & self._units
        return (value ^ (self._units << 15) ^ (negative << 15) - negative) >> 1 & self._units * 0x7FFF


class Signs:
    """The signs of the vectors of all bases, read from the database as far as they are not yet."""

    def __init__(self) -> None:
        self._last, self._outdated = 0, False
        self._slabs: dict[tuple[str, VectorSpace], list[Slab]] = {}  # by base, too
        self._middles: dict[VectorSpace, Middle] = {}
        self._lock = asyncio.Lock()

    async def load(self, engine: Engine) -> None:
        """Reads the vectors that have come since the last time."""
        await asyncio.shield(self._load(engine))  # a thread would go on reading for a caller that is gone

    async def _load(self, engine: Engine) -> None:
        async with self._lock:
            if self._outdated:
                await self._read_again(engine)
            while await engine.db.read(self.read):
                pass

    async def _read_again(self, engine: Engine) -> None:
        """Searches use what is known meanwhile."""
        self._outdated, known = False, Signs()
        try:
            while await engine.db.read(known.read):
                pass
        except BaseException:
            self._outdated = True
            raise
        self._last, self._slabs, self._middles = known._last, known._slabs, known._middles

    async def forget(self, last: int) -> None:
        """Forgets the chunks above the last one that there is: SQLite will give their ids to others."""
        async with self._lock:
            if last < self._last:
                self._last = last
                self._slabs = {key: [slab.until(last) for slab in slabs] for key, slabs in self._slabs.items()}

    def are_as_long(self, base: str, vector: "array[float]") -> bool:
        """Whether all vectors of a base have the length of one, also those that are deleted or not searched."""
        return all(size == len(vector) * vector.itemsize for name, (_, size) in self._slabs if name == base)

    def nearest(
        self, base: str, signature: str, vector: "array[float]", limit: int, within: Collection[int] | None = None
    ) -> list[int]:
        """About the most similar chunks of a base and a model, in no order, of some chunks if they are given."""
        space = signature, len(vector) * vector.itemsize
        middle, slabs = self._middles.get(space), self._slabs.get((base, space))
        if middle is None or slabs is None:
            return []
        weights = _weights(vector, middle.mean)
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
        batches: dict[tuple[str, VectorSpace], list[tuple[int, bytes]]] = {}
        for chunk, base, signature, vector in rows:
            batches.setdefault((base, (signature, len(vector))), []).append((chunk, vector))
        for key, batch in batches.items():
            slab = _slab(batch, self._middle(conn, key[1]))
            slabs = self._slabs.setdefault(key, [])
            if slabs and len(slabs[-1].chunks) < _SLAB:
                slabs[-1] = slabs[-1].extended(slab)
            else:
                slabs.append(slab)
        if rows:
            self._last = rows[-1][0]
        self._outdated = self._outdated or any(self._is_outgrown(space) for _, space in batches)
        return len(rows) == _READ

    def _middle(self, conn: Connection, space: VectorSpace) -> Middle:
        if space not in self._middles:
            self._middles[space] = Middle([array("f", vector) for (vector,) in conn.execute(_FIRST, (*space, _READ))])
        return self._middles[space]

    def _is_outgrown(self, space: VectorSpace) -> bool:
        known = sum(len(slab.chunks) for key, slabs in self._slabs.items() if key[1] == space for slab in slabs)
        return self._middles[space].count < min(_READ, known / _GROWTH)


def _slab(batch: Sequence[tuple[int, bytes]], middle: Middle) -> Slab:
    dimensions = len(middle.mean)
    signs = b"".join(middle.above(vector) for _, vector in reversed(batch)).translate(_BELOW)
    planes = [int(signs[dimension::dimensions], 2) for dimension in range(dimensions)]
    return Slab(array("q", [chunk for chunk, _ in batch]), planes)


def _weights(vector: "array[float]", mean: "array[float]") -> list[tuple[int, int, bool]]:
    """The dimensions that have a weight, with it and whether the query's value is below the mean."""
    own = [value - middle for value, middle in zip(vector, mean, strict=True)]
    scale = len(own) ** 0.5 / (math.hypot(*own) or 1.0)
    largest = heapq.nlargest(_DIMENSIONS, range(len(own)), key=lambda n: abs(own[n]))
    weights = ((n, min(_LEVELS, int(abs(own[n]) * scale + 0.5)), own[n] < 0) for n in largest)
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
