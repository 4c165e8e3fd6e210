"""The database of a data folder as tests look into it, whichever store the tests run on."""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from bytebrew.contract.connection import Connection
from bytebrew.store.sqlite.pragmas import connect

ON_POSTGRESQL = os.environ.get("BYTEBREW_TEST_STORE") == "postgresql"


@contextmanager
def opened(data: Path) -> Iterator[Connection]:
    """A connection of its own to the database, outside of a transaction."""
    if ON_POSTGRESQL:
        from bytebrew_postgres.connection import Options, PostgresConnection  # type: ignore[import-not-found]

        from bytebrew.testing import databases

        with closing(PostgresConnection(Options(databases.url_of(data)))) as conn:
            yield conn
    else:
        with closing(connect(data / "bytebrew.db", "off")) as conn:
            yield conn


@contextmanager
def changed(data: Path) -> Iterator[Connection]:
    """A connection in a transaction that is committed at the end of the block."""
    with opened(data) as conn:
        conn.execute("begin" if ON_POSTGRESQL else "begin immediate")
        yield conn
        conn.execute("commit")


def rows(data: Path, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """What a query returns."""
    with opened(data) as conn:
        return [tuple(row) for row in conn.execute(sql, parameters)]
