"""Rows of a result, with columns by name and by index as SQLite's rows have them."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, ClassVar, overload

from psycopg.errors import InFailedSqlTransaction


class Row(tuple[Any, ...]):
    """The values of a row, with columns also by name; each list of names has a subclass."""

    __slots__ = ()
    names: ClassVar[tuple[str, ...]] = ()
    places: ClassVar[dict[str, int]] = {}

    @overload  # type: ignore[override]  # a tuple has no names
    def __getitem__(self, key: int | str, /) -> Any: ...
    @overload
    def __getitem__(self, key: slice, /) -> tuple[Any, ...]: ...
    def __getitem__(self, key: int | str | slice, /) -> Any:
        if type(key) is str:
            try:
                return _item(self, self.places[key])
            except KeyError:
                raise IndexError(f"no column is named {key}") from None
        return _item(self, key)

    def keys(self) -> list[str]:
        """The names of the columns, in order."""
        return [*self.names]


_item: Callable[[tuple[Any, ...], Any], Any] = tuple.__getitem__


@lru_cache(maxsize=1024)
def row_class(columns: tuple[bytes, ...]) -> type[Row]:
    """The class of rows with these columns; of equal names the first counts."""
    names = tuple(column.decode() for column in columns)
    places = {name: place for place, name in reversed([*enumerate(names)])}
    return type("Row", (Row,), {"__slots__": (), "names": names, "places": places})


class Result:
    """The rows of a statement, and the number of rows that it changed; to ask for either runs it, if it waits."""

    __slots__ = ("_count", "_rows", "_run", "_status")

    def __init__(self, run: Callable[[], None]) -> None:
        self._run = run
        self._rows: Iterator[Any] | None = None

    def arrive(self, rows: Sequence[Any], status: str, count: int) -> None:
        """Takes what the statement has returned: its rows, its command status, and how many rows that is about."""
        self._rows, self._status, self._count = iter(rows), status, count

    @property
    def status(self) -> str:
        """The command status."""
        self._arrived()
        return self._status

    @property
    def rowcount(self) -> int:
        """Rows that were inserted, changed or deleted; -1 for a query."""
        return self._count if self.status.startswith(("INSERT", "UPDATE", "DELETE", "MERGE")) else -1

    def __iter__(self) -> Iterator[Any]:
        return self._arrived()

    def fetchone(self) -> Any:
        """The next row, or None."""
        return next(self._arrived(), None)

    def fetchall(self) -> list[Any]:
        """All remaining rows."""
        return [*self._arrived()]

    def _arrived(self) -> Iterator[Any]:
        if self._rows is None:
            self._run()
            if self._rows is None:  # it waited in a transaction that is gone
                raise InFailedSqlTransaction("the statement was not run")
        return self._rows
