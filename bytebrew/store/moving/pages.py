"""Reads the rows of a table in the order of its key, some megabytes at a time."""

from collections.abc import Iterator, Sequence

from bytebrew.contract.connection import Connection, Row
from bytebrew.contract.storage.store import Table

PAGE_BYTES = 4 * 1024 * 1024
FIRST_ROWS, MOST_ROWS = 16, 4000
GROWTH = 4
"""How many times as many rows the next page may have: large ones may follow small ones."""
Key = Sequence[int | str]


def pages(conn: Connection, table: Table, after: Key = (), through: Key = ()) -> Iterator[tuple[Sequence[Row], bool]]:
    """The rows above a key, and up to another, page by page, and whether there may be more."""
    key, limit = ", ".join(table.key), FIRST_ROWS
    every = f"select {', '.join(table.columns)} from {table.name}"
    if not key:
        yield conn.execute(every).fetchall(), False
        return
    marks = ", ".join("?" * len(table.key))
    while True:
        limits = [f"({key}) > ({marks})"] * bool(after) + [f"({key}) <= ({marks})"] * bool(through)
        within = f"where {' and '.join(limits)}" if limits else ""
        sql = f"{every} {within} order by {key} limit ?"
        rows = conn.execute(sql, (*after, *through, limit)).fetchall()
        more = len(rows) == limit
        yield rows, more
        if not more:
            return
        after = key_of(table, rows[-1])
        size = sum(len(value) for row in rows for value in row if isinstance(value, str | bytes))
        limit = max(1, min(MOST_ROWS, limit * GROWTH, limit * PAGE_BYTES // max(size, 1)))


def key_of(table: Table, row: Row) -> Key:
    """The key of a row."""
    return tuple(row[name] for name in table.key)
