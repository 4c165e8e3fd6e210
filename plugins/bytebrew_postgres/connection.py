"""A connection to PostgreSQL with the members that work functions use: `bytebrew.Connection`."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import psycopg
from psycopg import RawCursor
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGresult

from .rows import Result, rows_of
from .sql import translate
from .values import convert

log = logging.getLogger(__name__)

CANCEL_SECONDS = 2.0
FEW_ROWS = 8
"""Up to so many rows go in one insert; COPY takes a second round trip."""
_PREPARED = 1000
_PREPARE_AFTER = 2
_LOOKS = 8
_PLAIN_INSERT = re.compile(r"\s*insert into (\w+) \(([\w\s,]+)\) values \(([?,\s]+)\)\s*")
_Native = psycopg.Connection[Any]


class Options(NamedTuple):
    """How a connection is opened; behind a `pooler` statements are not prepared, as each may run on another server.

    `session` is SQL with the settings of the session: poolers refuse those in libpq's parameter `options`.
    """

    conninfo: str
    session: str = ""
    pooler: bool = False


class PostgresConnection:
    """Statements are translated and run one by one, outside of a transaction until one is begun.

    A write that returns no rows waits in a transaction for the next statement or the commit, and shares its round trip:
    these are what a transaction costs. Its error is that of the statement that it waits for, so within a savepoint,
    where an error is to be somebody's, none waits.
    A connection that was lost is opened again by the next statement outside of a transaction.
    """

    dialect = "postgresql"

    def __init__(self, options: Options) -> None:
        self._options = options
        self._types = dict[Insert, Sequence[int]]()
        self.total_changes = 0
        self.began = False
        """Whether a transaction was begun and not ended, also if the connection was lost meanwhile."""
        self.writing = False
        """Whether that is a write transaction, whose writes may wait."""
        self.native, self._cursor = _open(options)
        self._waiting: list[_Waiting] = []
        self._savepoints = 0
        self._half_prepared = False

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = (), /) -> Result:
        """Runs one statement with values bound to `?`, `?1` (for a value that is used twice) or `:name`."""
        statement = translate(sql)
        values = statement.values(parameters)
        if self.writing and (kind := _kind(statement.text)):
            if kind == "write" and not self._savepoints:
                waiting = _Waiting(self, statement.text, values)
                self._waiting.append(waiting)
                return waiting
            self._savepoints += {"savepoint": 1, "release": -1}.get(kind, 0)
        cursor = self._usable()
        if self._waiting:
            self._run_with(cursor, statement.text, values)
        else:
            cursor.execute(statement.text, values)
        return self._result(cursor)

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any] | Mapping[str, Any]], /) -> Result:
        """Runs one statement for each set of values; plain inserts go as one."""
        sets = [*parameters]
        if not sets:
            return Result((), 0)
        if len(sets) == 1:
            return self.execute(sql, sets[0])
        self.flush()
        cursor = self._usable()
        if (plain := _plain_insert(sql)) is not None:
            if len(sets) <= FEW_ROWS:
                return self.execute(_values(plain, len(sets)), [*chain.from_iterable(sets)])
            self._copy(cursor, plain, sets)
            self.total_changes += len(sets)
            return Result((), len(sets))
        statement = translate(sql)
        cursor.executemany(statement.text, [statement.values(values) for values in sets])
        changed = max(cursor.rowcount, 0)
        self.total_changes += changed
        return Result((), changed)

    def script(self, sql: str) -> str:
        """Runs statements of PostgreSQL in one round trip; returns the command status of the last."""
        result = self.native.pgconn.exec_(sql.encode())
        _check(self.native, result)
        return (result.command_status or b"").decode()

    def flush(self) -> None:
        """Runs the writes that wait."""
        if self._waiting:
            self._run_with()

    def roll_back(self) -> None:
        """Rolls back the open transaction.

        psycopg takes a statement for prepared as soon as it is sent, also one that the server skipped because another
        of the same pipeline had failed; after `rollback` it prepares all of them anew.
        """
        if self._half_prepared:
            self._half_prepared = False
            self.native.rollback()
        else:
            self.script("rollback")

    def forget(self) -> None:
        """Drops the writes that wait: their transaction is rolled back."""
        self._waiting.clear()
        self._savepoints = 0

    def reopen(self) -> None:
        """Opens the connection anew, unless it is open; an open transaction is gone."""
        self.began = self.writing = False
        self.forget()
        if self.native.closed:
            self.native, self._cursor = _open(self._options)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, an aborted one included."""
        return self.native.pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR)

    def is_pooled(self) -> bool:
        """Whether a pooler runs transactions of this connection and of others on the same processes of the server."""
        if (process := self._process()) == self.native.info.backend_pid:  # a pooler has another number here
            return False
        with closing(PostgresConnection(self._options)) as other:
            other.script("begin; select 1")  # which takes the process that was free last
            return {self._process() for _ in range(_LOOKS)} != {process}

    def _process(self) -> int:
        row = self.native.execute("select pg_backend_pid()", prepare=False).fetchone()
        assert row is not None
        return int(row[0])

    def close(self) -> None:
        """Closes the connection."""
        self.native.close()

    def interrupt(self) -> None:
        """Aborts the running statement, if the server can be reached; called from another thread."""
        try:
            self.native.cancel_safe(timeout=CANCEL_SECONDS)
        except psycopg.Error as error:  # the statement ends with its own connection
            log.debug("a statement could not be interrupted: %s", error)

    def _run_with(self, cursor: RawCursor[Any] | None = None, text: str = "", values: Sequence[Any] = ()) -> None:
        """Runs what waits, and one more statement if there is a cursor for it, in one round trip."""
        waiting, self._waiting = self._waiting, []
        cursors = [_cursor(self.native) for _ in waiting]
        self._half_prepared = True
        with self.native.pipeline():
            for one, own in zip(waiting, cursors, strict=True):
                own.execute(one.text, one.values)
            if cursor is not None:
                cursor.execute(text, values)
        self._half_prepared = False
        for one, own in zip(waiting, cursors, strict=True):
            one.changed = max(own.rowcount, 0)
            self.total_changes += one.changed

    def _usable(self) -> RawCursor[Any]:
        if self.native.closed and not self.began:
            self.reopen()
        return self._cursor

    def _result(self, cursor: RawCursor[Any]) -> Result:
        rows = cursor.fetchall() if cursor.description is not None else ()
        changed = _changed(cursor)
        self.total_changes += max(changed, 0)
        return Result(rows, changed)

    def _copy(self, cursor: RawCursor[Any], plain: "Insert", rows: Sequence[Any]) -> None:
        if (types := self._types.get(plain)) is None:
            cursor.execute(f"select {plain.columns} from {plain.table} limit 0")
            types = self._types[plain] = [column.type_code for column in cursor.description or ()]
        with cursor.copy(f"copy {plain.table} ({plain.columns}) from stdin (format binary)") as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)


class _Waiting(Result):
    """The result of a write that waits: to ask for the number of rows runs it."""

    __slots__ = ("_conn", "changed", "text", "values")

    def __init__(self, conn: PostgresConnection, text: str, values: Sequence[Any]) -> None:
        super().__init__((), -1)
        self._conn, self.text, self.values = conn, text, values
        self.changed = -1

    @property
    def rowcount(self) -> int:
        """Rows that were inserted, changed or deleted."""
        if self.changed < 0:
            self._conn.flush()
        return self.changed

    @rowcount.setter
    def rowcount(self, value: int) -> None:
        """Does nothing: the number is known later."""


_RETURNING = re.compile(r"\breturning\b", re.IGNORECASE)


@lru_cache(maxsize=2048)
def _kind(text: str) -> str:
    """`write` for one that returns no rows, `savepoint`, `release`, else empty."""
    first = text.split(None, 1)[0].lower()
    if first in ("insert", "update", "delete") and not _RETURNING.search(text):
        return "write"
    return first if first in ("savepoint", "release") else ""


class Insert(NamedTuple):
    """An insert of one row of parameters, without further clauses."""

    table: str
    columns: str
    marks: str


@lru_cache(maxsize=512)
def _plain_insert(sql: str) -> Insert | None:
    matched = _PLAIN_INSERT.fullmatch(sql)
    return None if matched is None else Insert(*matched.groups())


@lru_cache(maxsize=512)
def _values(plain: Insert, count: int) -> str:
    rows = ", ".join([f"({plain.marks})"] * count)
    return f"insert into {plain.table} ({plain.columns}) values {rows}"


def _changed(cursor: RawCursor[Any]) -> int:
    """Rows that a statement inserted, changed or deleted; -1 for a query."""
    status = cursor.statusmessage or ""
    return cursor.rowcount if status.startswith(("INSERT", "UPDATE", "DELETE", "MERGE")) else -1


def _open(options: Options) -> tuple[_Native, RawCursor[Any]]:
    native: _Native = psycopg.connect(
        options.conninfo,
        autocommit=True,
        prepare_threshold=None if options.pooler else _PREPARE_AFTER,
        row_factory=rows_of,
    )
    convert(native)
    native.prepared_max = _PREPARED
    if options.session:
        _set(native, options.session)
    return native, _cursor(native)


def _set(native: _Native, session: str) -> None:
    try:
        _check(native, native.pgconn.exec_(session.encode()))
    except BaseException:
        native.close()
        raise


def _cursor(native: _Native) -> RawCursor[Any]:
    cursor = RawCursor(native)
    cursor.format = Format.BINARY
    return cursor


def _check(native: _Native, result: PGresult) -> None:
    """Raises the error of a result."""
    if native.closed:
        raise psycopg.OperationalError("the connection to the database is lost")
    if result.status in (ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE):
        raise error_from_result(result)
