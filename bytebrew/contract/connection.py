"""The database connection that work functions use, and SQL inserts and updates from structs."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import asdict

T = TypeVar("T")
Parameters = Sequence[Any] | Mapping[str, Any]


class Row(Protocol):
    """A row of a result: a column by name, the first if several have it, or by index, and all of them in order."""

    def __getitem__(self, key: int | str, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __len__(self) -> int: ...
    def keys(self) -> Iterable[str]:
        """The names of the columns, in order."""


class Cursor(Protocol):
    """The result of a statement: its rows, each a `Row`, and the number of changed rows."""

    @property
    def rowcount(self) -> int:
        """Rows that were inserted, changed or deleted; -1 for a query."""

    def __iter__(self) -> Iterator[Any]: ...
    def fetchone(self) -> Any:
        """The next row, or None."""

    def fetchall(self) -> list[Any]:
        """All remaining rows."""


class Connection(Protocol):
    """A connection within a transaction; the caller of the work commits it or rolls it back.

    Work functions use only these members, so that they also run on another database.
    """

    def execute(self, sql: str, parameters: Parameters = ..., /) -> Cursor:
        """Runs one statement with values bound to `?`, `?1` (for a value that is used twice) or `:name`."""

    def executemany(self, sql: str, parameters: Iterable[Parameters], /) -> Cursor:
        """Runs one statement for each set of values."""

    @property
    def in_transaction(self) -> bool:
        """Whether changes wait for a commit."""

    @property
    def total_changes(self) -> int:
        """Rows that were inserted, changed or deleted since the connection was opened."""


def recalled(conn: Connection, work: Callable[[Connection], T]) -> T:
    """The result of a function that only reads, from before if the connection knows that nothing has changed since.

    The result is shared, so it must not be changed.
    """
    recall: Callable[[Callable[[Connection], T]], T] | None = getattr(conn, "recall", None)
    return work(conn) if recall is None else recall(work)


def dialect(conn: Connection) -> str:
    """`sqlite` or `postgresql`, for the few statements that have another text in each."""
    return getattr(conn, "dialect", "sqlite")


Values = Struct | Mapping[str, Any]
"""Columns by name; lists and objects are stored as JSON text, which `struct_of` reads; UNSET is left out."""


def insert(conn: Connection, table: str, values: Values, **more: Any) -> None:
    """Inserts a row; table and column names must come from code, never from a request."""
    columns = {**_columns(values), **_columns(more)}
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    conn.execute(f"insert into {table} ({names}) values ({marks})", tuple(columns.values()))  # noqa: S608


def update(conn: Connection, table: str, changes: Values, **key: Any) -> int:
    """Updates the rows that have all values of a key; returns their number."""
    columns = _columns(changes)
    assignments = ", ".join(f"{name} = ?" for name in columns)
    condition = " and ".join(f"{name} = ?" for name in key)
    sql = f"update {table} set {assignments} where {condition}"  # noqa: S608
    return conn.execute(sql, (*columns.values(), *key.values())).rowcount


def placeholders(values: Collection[object]) -> str:
    """The placeholders in the brackets of `in (...)` for these values."""
    return ", ".join("?" * len(values)) or "null"


def _columns(values: Values) -> dict[str, Any]:
    fields = asdict(values) if isinstance(values, Struct) else values
    return {name: _stored(value) for name, value in fields.items() if value is not UNSET}


def _stored(value: Any) -> Any:
    return msgspec.json.encode(value).decode() if isinstance(value, list | tuple | dict | Struct) else value
