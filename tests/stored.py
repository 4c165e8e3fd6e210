"""The database of a data folder as tests look into it, whichever store the tests run on."""

import atexit
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from bytebrew.contract.connection import Connection
from bytebrew.engine import Engine
from bytebrew.store.queries.event_rows import events_of
from bytebrew.store.sqlite.pragmas import connect
from bytebrew.testing import databases

ON_POSTGRESQL = databases.CHOSEN


def on_store(settings: Mapping[str, str]) -> dict[str, str]:
    """The settings of an engine in a process of its own, with a database for its data folder."""
    if not ON_POSTGRESQL or "BYTEBREW_DATA_DIR" not in settings or "BYTEBREW_DATABASE_URL" in settings:
        return {**settings}
    data = Path(settings["BYTEBREW_DATA_DIR"])
    databases.make(data, repr(_migrations()), lambda: _migrate(data))
    return {**settings, "BYTEBREW_DATABASE_URL": databases.url_of(data)}


@cache
def _migrations() -> dict[str, list[tuple[int, str]]]:
    """Those of the installed plugins."""
    with tempfile.TemporaryDirectory() as folder:
        return _engine(Path(folder), Path(folder)).migrations


def _migrate(data: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:  # an engine makes the data folder, if there is none
        made = _engine(Path(folder), data)
        with made.driver.migrated(made.migrations, lambda conn: None):
            pass


def _engine(folder: Path, data: Path) -> Engine:
    """An engine that does not run, with the database of another data folder."""
    return Engine({"BYTEBREW_DATA_DIR": str(folder), "BYTEBREW_DATABASE_URL": databases.url_of(data)})


def copied(data: Path, to: Path) -> Path:
    """A copy of the data folder of a stopped engine, with its database."""
    if ON_POSTGRESQL:
        databases.copy(data, to)
    return shutil.copytree(data, to)


@contextmanager
def opened(data: Path) -> Iterator[Connection]:
    """A connection of its own to the database, outside of a transaction."""
    if ON_POSTGRESQL:
        from bytebrew_postgres.connection import Options, PostgresConnection

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


@contextmanager
def scratch() -> Iterator[Connection]:
    """A connection to a database with all tables and no rows; what is changed there is rolled back."""
    conn = _scratch()
    conn.execute("begin")
    try:
        yield conn
    finally:
        conn.execute("rollback")


@cache
def _scratch() -> Connection:
    stack = ExitStack()
    atexit.register(stack.close)
    data = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    on_store({"BYTEBREW_DATA_DIR": str(data)})
    if not ON_POSTGRESQL:
        with Engine({"BYTEBREW_DATA_DIR": str(data)}).migrated():
            pass
    return stack.enter_context(opened(data))


def tables(conn: Connection, *, parts: bool = False) -> list[str]:
    """The names of all tables; with `parts` also of those that sums on PostgreSQL are made of, in place of the sums."""
    if not ON_POSTGRESQL:
        return [row[0] for row in conn.execute("select name from sqlite_master where type = 'table'")]
    found = [row[0] for row in conn.execute("select tablename from pg_tables where schemaname = current_schema()")]
    return found if parts else [*dict.fromkeys(re.sub("_(rows|folded)$", "", name) for name in found)]


def rows(data: Path, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """What a query returns."""
    with opened(data) as conn:
        return [tuple(row) for row in conn.execute(sql, parameters)]


def refuse(conn: Connection, event: str, message: str = "no", when: str = "true") -> None:
    """Makes an event, as "insert on turns", fail where `when` holds, until `allow`."""
    name = f"refuse_{event.replace(' ', '_')}"
    trigger = f"create trigger {name} before {event}"
    if ON_POSTGRESQL:
        conn.execute(f"create function {name}() returns trigger language plpgsql as $$ begin raise '{message}'; end $$")
        conn.execute(f"{trigger} for each row when ({when}) execute function {name}()")
    else:
        conn.execute(f"{trigger} when {when} begin select raise(abort, '{message}'); end")


def allow(conn: Connection, event: str) -> None:
    """Ends what `refuse` began."""
    name = f"refuse_{event.replace(' ', '_')}"
    conn.execute(f"drop function {name}() cascade" if ON_POSTGRESQL else f"drop trigger {name}")


def everything(data: Path) -> bytes:
    """All bytes of the database: its files, or what the rows of all tables have."""
    if not ON_POSTGRESQL:
        return b"".join(file.read_bytes() for file in data.glob("bytebrew.db*"))
    with opened(data) as conn:
        names = conn.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
        values = [value for row in names for found in conn.execute(f"select * from {row[0]}") for value in found]
    return b"\n".join(value if isinstance(value, bytes) else str(value).encode() for value in values)


def event_numbers(conn: Any) -> dict[str, list[int]]:
    """The numbers of the events of each session, in the order of their rows."""
    names = ("session_id", "n", "type", "data", "at")
    found: dict[str, list[int]] = {}
    for row in conn.execute(f"select {', '.join(names)} from events order by session_id, n"):
        stored: Any = dict(zip(names, row, strict=True))
        found.setdefault(stored["session_id"], []).extend(n for n, _, _, _ in events_of(stored))
    return found
