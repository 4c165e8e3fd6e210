"""A connection to PostgreSQL with the members that work functions use: `bytebrew.Connection`."""

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from functools import lru_cache
from typing import Any, NamedTuple

import psycopg
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult

from . import arrays, values
from .arrays import KINDS, Kind, Unfit
from .rows import Result
from .sql import translate
from .statements import Query, Statements

log = logging.getLogger(__name__)

CANCEL_SECONDS = 2.0
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

    In a write transaction they wait until the result of one is asked for, or the commit: all that wait go in one round
    trip, and these are what a transaction costs. The error of one is raised where they are run, so within a savepoint,
    where an error is to be somebody's, none waits.
    A connection that was lost is opened again by the next statement outside of a transaction.
    """

    dialect = "postgresql"

    def __init__(self, options: Options) -> None:
        self._options = options
        self._arrays = dict[Insert, Sequence[Kind] | None]()
        self.total_changes = 0
        self.began = False
        """Whether a transaction was begun and not ended, also if the connection was lost meanwhile."""
        self.writing = False
        """Whether that is a write transaction, whose statements wait."""
        self.native, self._statements = _open(options)
        self._waiting: list[tuple[Query, Result]] = []
        self._check: Callable[[], None] | None = None
        self._refusal: Exception | None = None
        self._savepoints = 0

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = (), /) -> Result:
        """Runs one statement with values bound to `?`, `?1` (for a value that is used twice) or `:name`."""
        statement = translate(sql)
        result = self._put(statement.text, statement.values(parameters))
        opens = _opens_savepoint(statement.text) if self.writing else 0
        if self.writing and not opens and not self._savepoints:
            return result
        self._savepoints += max(opens, 0)
        self.flush()
        self._savepoints += min(opens, 0)  # unless the release has failed
        return result

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any] | Mapping[str, Any]], /) -> Result:
        """Runs one statement for each set of values; plain inserts go as one."""
        sets = [*parameters]
        if len(sets) == 1:
            return self.execute(sql, sets[0])
        if sets and (plain := _plain_insert(sql)) is not None and (kinds := self._kinds(plain)) is not None:
            columns = [kind.values(column) for kind, column in zip(kinds, zip(*sets, strict=True), strict=True)]
            with suppress(Unfit):  # then they go one by one, and the server converts or refuses what is of another type
                return self.execute(_of_arrays(plain, kinds), columns)
        results = [self.execute(sql, values) for values in sets]
        total = Result(self.flush)
        total.arrive((), "UPDATE", sum(result.rowcount for result in results))
        return total

    def begin(self, statements: Iterable[tuple[str, Sequence[Any]]], check: Callable[[str], None]) -> None:
        """Begins a write transaction, with more statements, in the round trip of the first whose result is asked for.

        `check` is called with the command status of the last one, before anything is committed.
        """
        self.reopen()
        last = [self._put(text, values) for text, values in (("begin", ()), *statements)][-1]
        self._check = lambda: check(last.status)
        self.began = self.writing = True

    def begin_read(self, sql: str) -> None:
        """Begins a transaction that reads, in the round trip of its first statement."""
        self.reopen()
        self._put(sql, ())
        self.began = True

    def script(self, sql: str) -> str:
        """Runs statements of PostgreSQL in one round trip; returns the command status of the last."""
        return (_exec(self.native, sql).command_status or b"").decode()

    def flush(self) -> None:
        """Runs the statements that wait, in one round trip."""
        if self._refusal is not None:  # a work may have gone on after it
            raise self._refusal
        waiting, self._waiting = self._waiting, []
        check, self._check = self._check, None
        if not waiting:
            return
        if self.native.closed and not self.began:
            self.reopen()
        self._statements.run(waiting)
        self.total_changes += sum(max(result.rowcount, 0) for _, result in waiting)
        if check is not None:
            try:
                check()
            except Exception as error:
                self._refusal = error
                raise

    def ensure_begun(self) -> None:
        """Runs that with which the transaction begins, if no result was asked for yet; raises what refuses it."""
        if self._check is not None or self._refusal is not None:
            self.flush()

    def commit(self) -> str:
        """Commits, in one round trip with the statements that wait; returns the command status."""
        if not self._waiting:
            return self.script("commit")
        return self._put("commit", ()).status

    def roll_back(self) -> None:
        """Rolls back the open transaction."""
        self.script("rollback")

    def forget(self) -> None:
        """Drops the statements that wait: their transaction is rolled back."""
        self._waiting.clear()
        self._check = self._refusal = None
        self._savepoints = 0

    def reopen(self) -> None:
        """Opens the connection anew, unless it is open; an open transaction is gone."""
        self.began = self.writing = False
        self.forget()
        if self.native.closed:
            self.native, self._statements = _open(self._options)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, an aborted one and one that is lost included."""
        return self.began or self.native.pgconn.transaction_status in (
            TransactionStatus.INTRANS,
            TransactionStatus.INERROR,
        )

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

    def _put(self, text: str, values: Sequence[Any]) -> Result:
        result = Result(self.flush)
        self._waiting.append((self._statements.query(text, values), result))
        return result

    def _kinds(self, plain: "Insert") -> Sequence[Kind] | None:
        """How the columns of an insert go into arrays; None if one of them does not."""
        if plain not in self._arrays:
            self.flush()
            found = _exec(self.native, f"select {plain.columns} from {plain.table} limit 0")
            kinds = [KINDS.get(found.ftype(place)) for place in range(found.nfields)]
            self._arrays[plain] = None if None in kinds else [*filter(None, kinds)]
        return self._arrays[plain]


@lru_cache(maxsize=2048)
def _opens_savepoint(text: str) -> int:
    """1 for a statement that opens a savepoint, -1 for one that closes it, else 0."""
    return {"savepoint": 1, "release": -1}.get(text.split(None, 1)[0].lower(), 0)


class Insert(NamedTuple):
    """An insert of one row of parameters, without further clauses."""

    table: str
    columns: str
    marks: str


@lru_cache(maxsize=512)
def _plain_insert(sql: str) -> Insert | None:
    matched = _PLAIN_INSERT.fullmatch(sql)
    return None if matched is None else Insert(*matched.groups())


def _of_arrays(plain: Insert, kinds: Sequence[Kind]) -> str:
    arrays = ", ".join(f"?::{kind.array}" for kind in kinds)
    return f"insert into {plain.table} ({plain.columns}) select * from unnest({arrays})"


def _open(options: Options) -> tuple[_Native, Statements]:
    native: _Native = psycopg.connect(options.conninfo, autocommit=True)
    values.convert(native)
    arrays.convert(native)
    if options.session:
        _set(native, options.session)
    return native, Statements(native, prepares=not options.pooler)


def _set(native: _Native, session: str) -> None:
    try:
        _exec(native, session)
    except BaseException:
        native.close()
        raise


def _exec(native: _Native, sql: str) -> PGresult:
    """The result of the last of some statements."""
    found = native.pgconn.exec_(sql.encode())
    if native.closed:
        raise psycopg.OperationalError("the connection to the database is lost")
    if found.status in (ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE):
        raise error_from_result(found)
    return found
