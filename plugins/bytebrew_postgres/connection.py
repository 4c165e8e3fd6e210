"""A connection to PostgreSQL with the members that work functions use: `bytebrew.Connection`."""

import re
from collections.abc import Iterable, Mapping, Sequence
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

CANCEL_SECONDS = 2.0
FEW_ROWS = 8
"""Up to so many rows go in one insert; COPY takes a second round trip."""
_PREPARED = 1000
_PREPARE_AFTER = 2
_PLAIN_INSERT = re.compile(r"\s*insert into (\w+) \(([\w\s,]+)\) values \(([?,\s]+)\)\s*")
_Native = psycopg.Connection[Any]


class Options(NamedTuple):
    """How a connection is opened; behind a `pooler` statements are not prepared, as each may run on another server."""

    conninfo: str
    pooler: bool = False


class PostgresConnection:
    """Statements are translated and run one by one, outside of a transaction until one is begun.

    A connection that was lost is opened again by the next statement outside of a transaction.
    """

    dialect = "postgresql"

    def __init__(self, options: Options) -> None:
        self._options = options
        self._types = dict[Insert, Sequence[int]]()
        self.total_changes = 0
        self.began = False
        """Whether a transaction was begun and not ended, also if the connection was lost meanwhile."""
        self.native, self._cursor = _open(options)

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = (), /) -> Result:
        """Runs one statement with values bound to `?`, `?1` (for a value that is used twice) or `:name`."""
        statement = translate(sql)
        cursor = self._usable()
        cursor.execute(statement.text, statement.values(parameters))
        return self._result(cursor)

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any] | Mapping[str, Any]], /) -> Result:
        """Runs one statement for each set of values; plain inserts go as one."""
        sets = [*parameters]
        if not sets:
            return Result((), 0)
        if len(sets) == 1:
            return self.execute(sql, sets[0])
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

    def reopen(self) -> None:
        """Opens the connection anew, unless it is open; an open transaction is gone."""
        self.began = False
        if self.native.closed:
            self.native, self._cursor = _open(self._options)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, an aborted one included."""
        return self.native.pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR)

    def close(self) -> None:
        """Closes the connection."""
        self.native.close()

    def interrupt(self) -> None:
        """Aborts the running statement; called from another thread."""
        self.native.cancel_safe(timeout=CANCEL_SECONDS)

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
    cursor = RawCursor(native)
    cursor.format = Format.BINARY
    return native, cursor


def _check(native: _Native, result: PGresult) -> None:
    """Raises the error of a result."""
    if native.closed:
        raise psycopg.OperationalError("the connection to the database is lost")
    if result.status in (ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE):
        raise error_from_result(result)
