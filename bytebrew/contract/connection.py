"""The database as work functions see it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

Parameters = Sequence[Any] | Mapping[str, Any]


class Row(Protocol):
    """A row of a result: a column by name or by index, and all of them in order."""

    def __getitem__(self, key: int | str, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __len__(self) -> int: ...
    def keys(self) -> Iterable[str]:
        """The names of the columns, in order."""


class Cursor(Protocol):
    """The result of a statement: its rows, each a `Row`, and how many it has changed."""

    @property
    def rowcount(self) -> int:
        """Rows that were inserted, changed or deleted; -1 for a query."""

    def __iter__(self) -> Iterator[Any]: ...
    def fetchone(self) -> Any:
        """The next row, or None."""

    def fetchall(self) -> list[Any]:
        """All rows that are left."""


class Connection(Protocol):
    """A connection within a transaction, which is committed or rolled back by whoever runs the work.

    The contract promises these and nothing else of it, so that another store can stand behind the same functions.
    """

    def execute(self, sql: str, parameters: Parameters = ..., /) -> Cursor:
        """Runs one statement, its values bound to `?`, `?1` or `:name`."""

    def executemany(self, sql: str, parameters: Iterable[Parameters], /) -> Cursor:
        """Runs one statement once for each set of values."""

    @property
    def in_transaction(self) -> bool:
        """Whether changes wait for a commit."""

    @property
    def total_changes(self) -> int:
        """Rows that were inserted, changed or deleted since the connection is open."""
