"""Conversion of values: PostgreSQL's types to and from those that SQLite stores (int, float, str, bytes, None)."""

from decimal import Decimal
from typing import Any

from psycopg import Connection, postgres
from psycopg.abc import Buffer
from psycopg.adapt import Dumper, Loader
from psycopg.pq import Format
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper, NumericBinaryLoader, NumericLoader
from psycopg.types.string import StrBinaryDumper, TextLoader

_LARGEST = 2**63 - 1
_NUL = "\N{REPLACEMENT CHARACTER}"
"""In place of the character 0, which PostgreSQL's text does not have."""


class _Integer(Int8Dumper):
    def dump(self, obj: Any) -> Buffer | None:
        return super().dump(in_range(int(obj)))


class _BinaryInteger(Int8BinaryDumper):
    def dump(self, obj: Any) -> Buffer | None:
        return super().dump(in_range(int(obj)))


class _Text(StrBinaryDumper):
    oid = postgres.types["text"].oid

    def dump(self, obj: str) -> Buffer | None:
        return super().dump(without_nul(obj))


class _Flag(Loader):
    """Loads a boolean as 0 or 1."""

    def load(self, data: Buffer) -> int:
        return int(bytes(data) == b"t")


class _BinaryFlag(Loader):
    format = Format.BINARY

    def load(self, data: Buffer) -> int:
        return bytes(data)[0]


class _Number(NumericLoader):
    def load(self, data: Buffer) -> Any:
        return _plain(super().load(data))


class _BinaryNumber(NumericBinaryLoader):
    def load(self, data: Buffer) -> Any:
        return _plain(super().load(data))


class _BinaryText(TextLoader):
    format = Format.BINARY


class _BinaryJson(TextLoader):
    """Loads jsonb, whose binary form begins with a version."""

    format = Format.BINARY

    def load(self, data: Buffer) -> Any:
        return super().load(bytes(data)[1:])


_DUMPERS: tuple[tuple[type, type[Dumper]], ...] = (
    (int, _Integer),
    (int, _BinaryInteger),
    (bool, _Integer),
    (bool, _BinaryInteger),
    (str, _Text),
)
_LOADERS: tuple[tuple[str, type[Loader]], ...] = (
    ("bool", _Flag),
    ("bool", _BinaryFlag),
    ("numeric", _Number),
    ("numeric", _BinaryNumber),
    ("json", TextLoader),
    ("json", _BinaryText),
    ("jsonb", TextLoader),
    ("jsonb", _BinaryJson),
)


def convert(conn: Connection[Any]) -> None:
    """Sets the conversions of a connection."""
    for kind, dumper in _DUMPERS:
        conn.adapters.register_dumper(kind, dumper)
    for name, loader in _LOADERS:
        conn.adapters.register_loader(name, loader)


def without_nul(text: str) -> str:
    """The text as PostgreSQL can store it."""
    return text.replace("\0", _NUL) if "\0" in text else text


def in_range(number: int) -> int:
    """The number, if PostgreSQL and SQLite can store it; else OverflowError."""
    if not -_LARGEST - 1 <= number <= _LARGEST:
        raise OverflowError("an integer of a column has 64 bits")
    return number


def _plain(number: Any) -> int | float:
    if isinstance(number, Decimal) and number == number.to_integral_value():
        return int(number)
    return float(number)
