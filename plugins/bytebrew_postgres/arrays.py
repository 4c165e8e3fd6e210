"""The values of a column of many rows as one parameter: an array in PostgreSQL's binary form (its `array_send`)."""

from collections.abc import Callable
from struct import Struct, error
from typing import Any, ClassVar, NamedTuple

from psycopg import Connection, postgres
from psycopg.adapt import Dumper
from psycopg.pq import Format

from .values import in_range, without_nul

_HEAD = Struct("!iiiii")
"""Dimensions, whether there are nulls, type of the elements, their number, index of the first."""
_SIZE = Struct("!i").pack
_NULL = _SIZE(-1)
_INTEGER = Struct("!q").pack
_REAL = Struct("!d").pack
_MOST = 1 << 28
"""Bytes of an array, of which the server takes 1 GB."""


class Unfit(Exception):
    """Values that do not go as an array: one is not of the type of the column, or they are too large together."""


class Kind(NamedTuple):
    """How the values of a column go into an array."""

    values: type[tuple[Any, ...]]
    array: str


class Integers(tuple[Any, ...]):
    """The values of an array of integers."""

    __slots__ = ()


class _Reals(tuple[Any, ...]):
    __slots__ = ()


class _Texts(tuple[Any, ...]):
    __slots__ = ()


class _Blobs(tuple[Any, ...]):
    __slots__ = ()


class _ArrayDumper(Dumper):
    format = Format.BINARY
    element: ClassVar[int]
    pack: ClassVar[Callable[[Any], bytes]]

    def dump(self, obj: tuple[Any, ...]) -> bytes:
        pack, parts = type(self).pack, [_HEAD.pack(1, None in obj, self.element, len(obj), 1)]
        for value in obj:
            if value is None:
                parts.append(_NULL)
            else:
                try:
                    data = pack(value)
                except (TypeError, error) as wrong:
                    raise Unfit from wrong
                parts += (_SIZE(len(data)), data)
        data = b"".join(parts)
        if len(data) > _MOST:
            raise Unfit
        return data


def _dumper(type_name: str, packs: Callable[[Any], bytes]) -> type[_ArrayDumper]:
    kind = postgres.types[type_name]

    class Made(_ArrayDumper):
        oid, element, pack = kind.array_oid, kind.oid, packs

    return Made


_DUMPERS: tuple[tuple[type[tuple[Any, ...]], str, Callable[[Any], bytes]], ...] = (
    (Integers, "int8", lambda value: _INTEGER(in_range(value))),
    (_Reals, "float8", _REAL),
    (_Texts, "text", lambda value: without_nul(value).encode()),
    (_Blobs, "bytea", lambda value: bytes(memoryview(value))),  # as bytes() makes some of a number
)
KINDS = {postgres.types[name].oid: Kind(values, f"{name}[]") for values, name, _ in _DUMPERS}
"""By the oid of the column's type."""


def convert(conn: Connection[Any]) -> None:
    """Lets a connection take arrays."""
    for values, name, pack in _DUMPERS:
        conn.adapters.register_dumper(values, _dumper(name, pack))
