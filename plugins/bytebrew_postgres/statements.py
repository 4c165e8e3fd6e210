"""Runs statements over libpq, many in one round trip.

psycopg's own pipeline sends a Flush behind its Sync, after which PostgreSQL ends no idle transaction any more
(`idle_in_transaction_session_timeout`): a process that is stopped in one would keep its locks. Here a Sync comes last.
"""

import select
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGconn, PGresult

from .errors import has_stale_plan
from .rows import Result, row_class

_PREPARED = 1000
_MOST_VALUES = 65535
"""Of a statement, as the protocol counts them."""
_FAILED = (ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE)
_Taker = Callable[[PGresult], None]


class _Plan(NamedTuple):
    """What is prepared: a text, and the types of its parameters."""

    text: str
    types: tuple[int, ...]


class Query(NamedTuple):
    """A statement with its values, as they are sent."""

    plan: _Plan
    parameters: Sequence[Any]
    formats: Sequence[int] | None


class Statements:
    """Those of one connection; one that comes again is prepared, unless each may run on another server."""

    def __init__(self, native: "psycopg.Connection[Any]", *, prepares: bool) -> None:
        self._native, self._prepares = native, prepares
        self._poll = select.poll()  # waits without the GIL, which libpq's own functions hold
        self._values = Transformer(native)
        self._seen = set[_Plan]()
        self._names = dict[_Plan, bytes]()
        self._made = 0

    def query(self, text: str, values: Sequence[Any]) -> Query:
        """A statement with values; raises the error of a value that PostgreSQL cannot store."""
        if len(values) > _MOST_VALUES:
            raise psycopg.ProgrammingError(f"a statement takes {_MOST_VALUES} values at most, {len(values)} given")
        parameters = self._values.dump_sequence(values, [PyFormat.AUTO] * len(values))
        return Query(_Plan(text, self._values.types or ()), parameters, self._values.formats)

    def run(self, queries: Sequence[tuple[Query, Result]]) -> None:
        """Runs statements in one round trip; raises the error of the first that fails, and runs none after it."""
        libpq = self._native.pgconn
        libpq.enter_pipeline_mode()
        try:
            takers = [*self._trimmed(libpq)]
            for query, result in queries:
                takers += self._send(libpq, query, result)
            libpq.pipeline_sync()
            while libpq.flush():
                self._wait(libpq, select.POLLIN | select.POLLOUT)
            error = self._receive(libpq, takers)
        except BaseException:
            self._native.close()  # later statements would take what is still to come for their own results
            raise
        if not self._native.closed:
            libpq.exit_pipeline_mode()
        if error is not None:
            raise error

    def _trimmed(self, libpq: PGconn) -> Iterator[_Taker]:
        """Drops what is prepared before it is too much."""
        if len(self._seen) > _PREPARED:
            self._seen.clear()
            self._names.clear()
            libpq.send_query_params(b"deallocate all", None)
            yield lambda _: None

    def _send(self, libpq: PGconn, query: Query, result: Result) -> Iterator[_Taker]:
        """Sends a statement; what takes each of its results."""
        plan, parameters, formats = query
        name = self._names.get(plan)
        if name is None and plan in self._seen:
            self._made += 1
            name = b"s%d" % self._made
            libpq.send_prepare(name, plan.text.encode(), plan.types)
            yield partial(self._prepared, plan, name)
        if name is None:
            if self._prepares:
                self._seen.add(plan)
            libpq.send_query_params(plan.text.encode(), parameters, plan.types, formats, Format.BINARY)
        else:
            libpq.send_query_prepared(name, parameters, formats, Format.BINARY)
        yield partial(self._arrived, result)

    def _prepared(self, plan: _Plan, name: bytes, _: PGresult) -> None:
        self._names[plan] = name

    def _arrived(self, result: Result, answer: PGresult) -> None:
        rows: Sequence[Any] = ()
        if answer.status == ExecStatus.TUPLES_OK:
            names = tuple([answer.fname(place) or b"" for place in range(answer.nfields)])
            self._values.set_pgresult(answer)
            rows = self._values.load_rows(0, answer.ntuples, row_class(names))
            self._values.set_pgresult(None)
        result.arrive(rows, (answer.command_status or b"").decode(), answer.command_tuples or 0)

    def _receive(self, libpq: PGconn, takers: Sequence[_Taker]) -> Exception | None:
        """Takes all results, and the one of the Sync; the error of the first statement that has failed."""
        error: Exception | None = None
        for take in takers:
            found = self._next(libpq)
            if found.status in _FAILED:
                error = error or error_from_result(found)
                if self._native.closed:
                    break
            elif found.status != ExecStatus.PIPELINE_ABORTED:
                try:
                    take(found)
                except Exception as failure:  # noqa: BLE001 - returned when all results are read
                    error = error or failure
            libpq.get_result()  # None, behind the only result of a statement
        else:
            self._next(libpq)
        if error is not None and has_stale_plan(error):
            self._names.clear()
        return error

    def _next(self, libpq: PGconn) -> PGresult:
        while libpq.is_busy():
            self._wait(libpq, select.POLLIN)
        if (found := libpq.get_result()) is None:
            raise psycopg.OperationalError("the connection to the database is lost")
        return found

    def _wait(self, libpq: PGconn, events: int) -> None:
        """Waits until the socket is ready, and reads what has come."""
        self._poll.register(libpq.socket, events)
        if self._poll.poll()[0][1] & ~select.POLLOUT:
            libpq.consume_input()
