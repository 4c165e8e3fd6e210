"""The values of a column of many rows as one parameter: an array in PostgreSQL's binary form (its `array_send`)."""

from collections.abc import Callable
from struct import Struct
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
                data = pack(value)
                parts += (_SIZE(len(data)), data)
        return b"".join(parts)


def _dumper(type_name: str, packs: Callable[[Any], bytes]) -> type[_ArrayDumper]:
    kind = postgres.types[type_name]

    class Made(_ArrayDumper):
        oid, element, pack = kind.array_oid, kind.oid, packs

    return Made


_DUMPERS: tuple[tuple[type[tuple[Any, ...]], str, Callable[[Any], bytes]], ...] = (
    (Integers, "int8", lambda value: _INTEGER(in_range(value))),
    (_Reals, "float8", _REAL),
    (_Texts, "text", lambda value: without_nul(value).encode()),
    (_Blobs, "bytea", bytes),
)
KINDS = {postgres.types[name].oid: Kind(values, f"{name}[]") for values, name, _ in _DUMPERS}
"""By the oid of the column's type."""


def convert(conn: Connection[Any]) -> None:
    """Lets a connection take arrays."""
    for values, name, pack in _DUMPERS:
        conn.adapters.register_dumper(values, _dumper(name, pack))
