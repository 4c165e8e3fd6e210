"""Rows of a result, with columns by name and by index as SQLite's rows have them."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Protocol, overload


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
def row_class(names: tuple[str, ...]) -> type[Row]:
    """The class of rows with these columns; of equal names the first counts."""
    places = {name: place for place, name in reversed([*enumerate(names)])}
    return type("Row", (Row,), {"__slots__": (), "names": names, "places": places})


class Described(Protocol):
    """A cursor of psycopg with a result."""

    @property
    def description(self) -> Sequence[Any] | None:
        """The columns of the result."""


def rows_of(cursor: Described) -> Callable[[Sequence[Any]], Any]:
    """Makes the rows of a psycopg cursor's result."""
    return row_class(tuple([column.name for column in cursor.description or ()]))


class Result:
    """The rows of a statement, and the number of rows that it changed."""

    __slots__ = ("_rows", "rowcount")

    def __init__(self, rows: Sequence[Any], rowcount: int) -> None:
        self._rows = iter(rows)
        self.rowcount = rowcount

    def __iter__(self) -> Iterator[Any]:
        return self._rows

    def fetchone(self) -> Any:
        """The next row, or None."""
        return next(self._rows, None)

    def fetchall(self) -> list[Any]:
        """All remaining rows."""
        return [*self._rows]
