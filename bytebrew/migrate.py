"""Takes tables up to their newest number, forward only."""

import re
import sqlite3
from collections.abc import Iterable

from bytebrew.errors import BootError
from bytebrew.notation import now
from bytebrew.pragmas import roll_back


def migrate(conn: sqlite3.Connection, owner: str, migrations: Iterable[tuple[int, str]]) -> None:
    """Takes the tables of one owner (`core` or a plugin) up to its newest number, each step in a transaction."""
    conn.execute(
        "create table if not exists migrations (owner text not null, number integer not null, applied_at text not null,"
        " primary key (owner, number)) strict, without rowid"
    )
    reached = conn.execute("select coalesce(max(number), 0) from migrations where owner = ?", (owner,)).fetchone()[0]
    newest = 0
    for expected, (number, sql) in enumerate(migrations, 1):
        if number != expected:
            raise BootError(f"the migrations of {owner} go from {newest} to {number}; number them 1, 2, 3 without gaps")
        newest = number
        if number <= reached:
            continue
        conn.execute("begin immediate")
        try:
            for statement in _statements(sql):
                conn.execute(statement)
            conn.execute("insert into migrations values (?, ?, ?)", (owner, number, now()))
            conn.execute("commit")
        except sqlite3.Error as error:
            roll_back(conn)
            raise BootError(f"migration {number} of {owner} failed: {error}") from error
    if reached > newest:
        raise BootError(f"the database is newer than this {owner}: it has migration {reached}, known is {newest}")


def _statements(sql: str) -> Iterable[str]:
    statement = ""
    for piece in re.split(r"(?<=;)", sql):
        statement += piece
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement
