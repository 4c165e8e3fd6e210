"""Applies the numbered migrations of the core and of plugins, forward only."""

import hashlib
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from bytebrew.base.errors import BootError, StorageError
from bytebrew.base.formats import now
from bytebrew.base.progress import Progress
from bytebrew.contract.connection import Connection
from bytebrew.store.backups.before_migrating import keep_copy
from bytebrew.store.sqlite.epoch import log_kept
from bytebrew.store.sqlite.migrations import REVISED
from bytebrew.store.sqlite.pragmas import BEAT


@contextmanager
def migrated(
    path: Path,
    owners: Mapping[str, Sequence[tuple[int, str]]],
    check_key: Callable[[Connection], None],
    beat: Callable[[], None] | None = None,
) -> Iterator[Connection]:
    """A connection to a database, created if it is missing, with the tables of all owners up to date.

    A file that is newer, or whose migrations were edited, is refused as it is; of another a copy is made before tables
    change. `check_key` is called after the migrations, and may raise BootError. In the block `beat` is called
    periodically while statements run. An error of SQLite is a BootError before the block, and a StorageError in it.
    """
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    with ExitStack() as stack:
        try:
            conn = stack.enter_context(log_kept(path))
            check(conn, owners)
            if due := pending(conn, owners):
                keep_copy(path, due)
            with Progress("changing the tables of the database") as progress:
                conn.set_progress_handler(progress.beat, BEAT)
                for owner, steps in owners.items():
                    migrate(conn, owner, steps)
                conn.set_progress_handler(beat, BEAT)
            check_key(conn)
        except (sqlite3.Error, MemoryError) as error:
            raise BootError(f"{path} cannot be opened: {str(error) or 'there is not enough memory'}") from error
        try:
            yield conn
        except sqlite3.Error as error:
            raise StorageError(str(error)) from error


def migrate(conn: sqlite3.Connection, owner: str, migrations: Iterable[tuple[int, str]]) -> None:
    """Applies the missing migrations of one owner (`core` or a plugin), each in a transaction.

    Raises BootError if a migration fails, if the file is newer, or if a migration was edited since it was applied.
    """
    conn.execute(
        "create table if not exists migrations (owner text not null, number integer not null, applied_at text not null,"
        " digest text not null default '', primary key (owner, number)) strict, without rowid"
    )
    if "digest" not in [row[1] for row in conn.execute("pragma table_info(migrations)")]:
        conn.execute("alter table migrations add column digest text not null default ''")
    steps = [*migrations]
    applied = _compared(conn, owner, dict(steps))
    reached = max(applied, default=0)
    newest = 0
    for expected, (number, sql) in enumerate(steps, 1):
        if number != expected:
            raise BootError(f"the migrations of {owner} go from {newest} to {number}; number them 1, 2, 3 without gaps")
        newest = number
        if number <= reached:
            continue
        record = "insert into migrations (digest, owner, number, applied_at) values (?, ?, ?, ?)"
        _apply(conn, owner, number, sql, record, (_digest(sql), owner, number, now()))
    _check_age(owner, reached, newest)


def _apply(
    conn: sqlite3.Connection, owner: str, number: int, sql: str, record: str, values: tuple[str | int, ...]
) -> None:
    """Changes tables and records it, in one transaction; BootError on failure."""
    conn.execute("begin immediate")
    try:
        for statement in _statements(sql):
            conn.execute(statement)
        conn.execute(record, values)
        conn.execute("commit")
    except sqlite3.Error as error:
        if conn.in_transaction:  # SQLite may have rolled it back already
            conn.execute("rollback")
        raise BootError(f"migration {number} of {owner} failed: {error}") from error


def blank(owners: Iterable[tuple[str, Iterable[tuple[int, str]]]]) -> bytes:
    """A database file with all tables and no rows, as bytes."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        conn.execute("pragma auto_vacuum = incremental")
        for owner, migrations in owners:
            migrate(conn, owner, migrations)
        return conn.serialize()


def pending(conn: sqlite3.Connection, owners: Mapping[str, Sequence[tuple[int, str]]]) -> list[str]:
    """The missing migrations of a database, such as `core 12`; none for a new database."""
    if conn.execute("select 1 from sqlite_master where name = 'migrations'").fetchone() is None:
        return []
    reached, digests = _reached(conn), set(_stored(conn))
    revised = [f"{owner} {number} once more" for owner, number, digest in digests & {*REVISED}]
    return revised + [
        f"{owner} {step[0]}" for owner, steps in owners.items() for step in steps if step[0] > reached.get(owner, 0)
    ]


def check(conn: sqlite3.Connection, owners: Mapping[str, Sequence[tuple[int, str]]]) -> None:
    """Raises BootError if the file is newer, or if its earlier migrations were edited; changes nothing."""
    columns = [row[1] for row in conn.execute("pragma table_info(migrations)")]
    digest = "digest" if "digest" in columns else "''"
    for owner, steps in owners.items() if columns else ():
        sql = f"select number, applied_at, {digest} from migrations where owner = ? order by number"
        rows = conn.execute(sql, (owner,)).fetchall()
        _check_texts(owner, rows, dict(steps))
        _check_age(owner, max((row[0] for row in rows), default=0), len(steps))
    if columns and any(digest == "" for _, _, digest in _stored(conn)):
        _check_tables(conn, owners)


def _check_tables(conn: sqlite3.Connection, owners: Mapping[str, Sequence[tuple[int, str]]]) -> None:
    """Raises BootError if a file that stored no digests has other tables than its migrations make."""
    reached, present = _reached(conn), _tables(conn)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        for owner, steps in owners.items():
            migrate(made, owner, steps[: reached.get(owner, 0)])
            if unlike := [name for name, sql in _tables(made).items() if present.get(name) != sql]:
                message = f"the database is of a build in which {owner}'s first tables were not yet settled"
                difference = f"{unlike[0]} is not as migration {reached.get(owner, 0)} makes it"
                raise BootError(f"{message} ({difference}); only that build opens it: begin with an empty data folder")


def _tables(conn: sqlite3.Connection) -> dict[str, str]:
    """The SQL of each table, index and trigger, independent of line breaks."""
    sql = "select name, sql from sqlite_master where sql is not null and name <> 'migrations'"
    return {name: " ".join(sql.split()) for name, sql in conn.execute(sql)}


def _reached(conn: sqlite3.Connection) -> dict[str, int]:
    """The newest migration of each owner."""
    return dict(conn.execute("select owner, max(number) from migrations group by owner").fetchall())


def _stored(conn: sqlite3.Connection) -> list[tuple[str, int, str]]:
    """Owner, number and digest of each applied migration."""
    columns = [row[1] for row in conn.execute("pragma table_info(migrations)")]
    digest = "digest" if "digest" in columns else "''"
    return [tuple(row) for row in conn.execute(f"select owner, number, {digest} from migrations")]


def _compared(conn: sqlite3.Connection, owner: str, steps: Mapping[int, str]) -> list[int]:
    """The numbers of the applied migrations; BootError if the text of one was edited since.

    A file of an engine that stored no digests gets those of the current texts; tables of a revised migration are
    changed to those of its current text.
    """
    sql = "select number, applied_at, digest from migrations where owner = ? order by number"
    rows = conn.execute(sql, (owner,)).fetchall()
    _check_texts(owner, rows, steps)
    record = "update migrations set digest = ? where owner = ? and number = ?"
    for number, _, digest in rows:
        if number in steps and not digest:
            conn.execute(record, (_digest(steps[number]), owner, number))
        elif number in steps and (revision := REVISED.get((owner, number, digest))):
            _apply(conn, owner, number, revision, record, (_digest(steps[number]), owner, number))
    return [number for number, _, _ in rows]


def _check_texts(owner: str, rows: Iterable[tuple[int, str, str]], steps: Mapping[int, str]) -> None:
    for number, applied_at, digest in rows:
        if number in steps and digest not in ("", _digest(steps[number])) and (owner, number, digest) not in REVISED:
            message = f"migration {number} of {owner} was edited after it had been applied to this file on {applied_at}"
            raise BootError(f"{message}; put its text back as it was, and make the change a further migration")


def _check_age(owner: str, reached: int, newest: int) -> None:
    if reached > newest:
        message = f"the database is newer than this {owner}: it has migration {reached}, known is {newest}"
        cure = "install the newer version again, or go back with bytebrew restore bytebrew.db.before-TIME"
        raise BootError(f"{message}; {cure}, the copy from before the change")


def _digest(sql: str) -> str:
    """SHA-256 in hex of a migration's text, independent of line breaks."""
    return hashlib.sha256(" ".join(sql.split()).encode()).hexdigest()


def _statements(sql: str) -> Iterable[str]:
    statement = ""
    for piece in re.split(r"(?<=;)", sql):
        statement += piece
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement
