"""A database on PostgreSQL that several nodes share: transactions with locks and a lease, errors, migrations."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager
from functools import partial
from hashlib import blake2b
from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bytebrew import BootError, Connection, Driver, Fenced, Finding, Migration, SettingsError, StorageError

from . import migrate
from .arrays import Integers
from .checks import examine
from .connection import Options, PostgresConnection
from .errors import UnknownOutcome, advice, fault, is_away, is_lost, may_pass
from .migrate import Migrations
from .signals import PostgresSignals
from .transfer import PostgresTransfer

log = logging.getLogger(__name__)

LOCK = 0x6279746562726577
"""The advisory lock that every write takes: alone, or shared with other writes to sessions of their own."""
MOST_LOCKS = 256
"""A transaction that writes to more sessions takes the lock alone: the server's table of locks is small."""
IDLE_SECONDS = 5
"""After this the server ends a transaction whose node runs no statement, such as a stopped process."""
RETRY_SECONDS = 0.2
_DEFAULTS = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "application_name": "bytebrew",
}
_ALONE = f"select pg_advisory_xact_lock({LOCK})"
_SHARED = f"select pg_advisory_xact_lock_shared({LOCK})"
Statement = tuple[str, Sequence[Any]]
"""The text of a statement, and the values of its parameters."""
_END_STALLED = f"""select pg_terminate_backend(pid) from pg_stat_activity
  where pid in (select pid from pg_locks where locktype = 'advisory' and granted
    and database = (select oid from pg_database where datname = current_database())
    and classid = {LOCK >> 32} and objid = {LOCK & 0xFFFFFFFF} and objsubid = 1)
  and usename = current_user and state = 'active' and wait_event_type = 'Client'
  and state_change < clock_timestamp() - interval '{IDLE_SECONDS} s'"""
_SNAPSHOT = "begin isolation level repeatable read, read only"


class PostgresDriver(Driver):
    """The driver for one database; `node` is the id under which this engine is registered, None before that."""

    dialect = "postgresql"
    shared = True
    error = psycopg.Error
    attempts = 3

    def __init__(self, url: str, *, pooler: bool = False) -> None:
        try:
            given = conninfo_to_dict(url)
        except psycopg.Error:  # which may quote the password
            raise SettingsError("BYTEBREW_DATABASE_URL is no address such as postgresql://user@host/name") from None
        _check_parts(given)
        self._parameters: Mapping[str, Any] = _DEFAULTS | given
        self._pooler = pooler
        self.place = f"postgresql://{given.get('host', 'localhost')}/{given.get('dbname', '')}"
        self._node: int | None = None
        self._commits = self._stored = 0
        self._begun_epoch = False
        self._signals = PostgresSignals(self._options())

    @property
    def node(self) -> int | None:
        """The node whose lease each write transaction checks, None for no check."""
        return self._node

    @node.setter
    def node(self, node: int | None) -> None:
        self._node, self._commits, self._stored, self._begun_epoch = node, 0, 0, False

    def open(self, *, read_only: bool = False) -> PostgresConnection:
        """A connection; a `read_only` one refuses to write."""
        return PostgresConnection(self._options(read_only=read_only))

    def begin(self, conn: Connection, sessions: Collection[str] | None) -> None:
        """Begins a write transaction with its locks and the check of the lease, before the first statement."""
        own = _own(conn)
        if own.in_transaction or own.began:
            self.roll_back(own)
        self._commits += 1
        own.begin([*self._idle_limit(), *_locks(sessions), *self._lease()], partial(self._check, own))

    def begin_read(self, conn: Connection) -> None:
        """Begins a read-only transaction with one snapshot, which its first statement takes."""
        _own(conn).begin_read(_SNAPSHOT)

    def commit(self, conn: Connection) -> None:
        """Commits; raises UnknownOutcome if the connection is lost meanwhile."""
        own = _own(conn)
        own.ensure_begun()
        try:
            status = own.commit()
        except psycopg.Error as error:
            if not (own.native.closed or is_lost(error)):
                raise
            raise UnknownOutcome("the connection was lost in a commit") from error
        finally:
            own.began = own.writing = False
        if status != "COMMIT":  # PostgreSQL rolls back a transaction with a failed statement
            raise errors.InFailedSqlTransaction("the transaction has failed before its commit")
        self._stored = self._commits

    def unsettled(self, error: Exception) -> bool:
        """Whether the error is an UnknownOutcome of a registered node, which `is_stored` can settle."""
        return isinstance(error, UnknownOutcome) and self.node is not None

    def is_stored(self, conn: Connection) -> bool:
        """Whether the last transaction was committed although its connection was lost.

        The lock that is taken waits for the end of the lost connection's transaction. Fenced if another node has ended
        this one.
        """
        own = _own(conn)
        _begun(own, "; ".join(["begin", *(text for text, _ in self._idle_limit()), _ALONE]))
        stored = self._number(own) == self._commits
        if stored:
            self._stored = self._commits
        return stored

    def away(self, error: Exception) -> bool:
        """Whether the server cannot be reached, or is a standby, which a failover makes the primary."""
        return is_away(error)

    def roll_back(self, conn: Connection) -> None:
        """Rolls back an open transaction; a failure is only logged."""
        own = _own(conn)
        own.began = own.writing = False
        own.forget()
        if own.in_transaction:
            try:
                own.roll_back()
            except (psycopg.Error, MemoryError) as error:
                log.warning("a rollback failed: %r", error)

    def breaks(self, error: Exception) -> bool:
        """Whether every work of the transaction fails with this error."""
        return isinstance(error, Fenced) or advice(error) is not None or may_pass(error)

    def fault(self, error: Exception) -> StorageError | None:
        """The error with advice for the operator, if the database or memory is its cause."""
        return fault(error)

    def may_pass(self, error: Exception) -> bool:
        """Whether the same transaction, run again at once, may succeed: a deadlock, a lost connection."""
        return may_pass(error)

    def interrupted(self, error: Exception) -> bool:
        """Whether the error is that of an interrupted statement."""
        return isinstance(error, errors.QueryCanceled)

    def wrote(self, error: Exception) -> bool:
        """Whether a read tried to write."""
        return isinstance(error, errors.ReadOnlySqlTransaction)

    def end_stalled(self, conn: Connection) -> int:
        """Ends transactions with the lock whose process was stopped amid a round trip, which is no idle time."""
        return len(conn.execute(_END_STALLED).fetchall())

    def bytes(self, conn: Connection) -> int:
        """The size of the database in bytes."""
        return int(conn.execute("select pg_database_size(current_database())").fetchone()[0])

    def shrink(self, conn: Connection, spare: int) -> Sequence[object]:
        """Nothing: autovacuum makes the space of deleted rows usable again."""
        return ()

    def checkpoint(self, conn: Connection, *, empty: bool = False) -> None:
        """Nothing: the server does that."""

    def core_migrations(self, sqlite: Sequence[tuple[int, str]]) -> Sequence[tuple[int, str]]:
        """The numbered SQL of the core's tables, from that for SQLite."""
        return migrate.core(sqlite)

    def text(self, migration: Migration) -> str:
        """The SQL of a plugin's migration."""
        return migrate.text(migration)

    async def restored(self) -> None:
        """Returns once the database answers."""
        while not await asyncio.to_thread(self._answers):  # noqa: ASYNC110 - a server gives no notice of its start
            await asyncio.sleep(RETRY_SECONDS)

    @contextmanager
    def migrated(
        self, owners: Migrations, check: Callable[[Connection], None], beat: Callable[[], None] | None = None
    ) -> Iterator[Connection]:
        """A connection to the database with the tables of all owners up to date; see `migrate.migrated`."""
        try:
            conn = self.open()
        except psycopg.Error as error:
            raise BootError(f"{self.place} cannot be opened: {advice(error) or ''}\n{error}") from error
        with closing(conn), migrate.migrated(conn, self.place, owners, check, _ALONE, pooler=self._pooler) as ready:
            yield ready

    @asynccontextmanager
    async def served(
        self, db: AbstractAsyncContextManager[Any], owners: Migrations, check: Callable[[Connection], None]
    ) -> AsyncIterator[int]:
        """The epoch of the history, with the tables of all owners up to date and the engine's database open."""
        epoch = await asyncio.to_thread(self._migrate, owners, check)
        async with db:
            try:
                yield epoch
            finally:
                await self._signals.close()

    def signals(self) -> PostgresSignals:
        """The signals between nodes."""
        return self._signals

    def examine(self, conn: Connection, owners: Migrations) -> Iterator[Finding]:
        """What `bytebrew doctor` finds about the server and the database."""
        return examine(_own(conn), self.place, owners, pooler=self._pooler)

    def transfer(self, owners: Migrations) -> PostgresTransfer:
        """The database as the source or the target of a copy of all rows."""
        return PostgresTransfer(self, LOCK, lambda: self.migrated(owners, lambda conn: None))

    async def erase(self, between: object) -> int:
        """Lets the server use the space of deleted rows again, which overwrites them; there are no copies."""
        await asyncio.to_thread(self._vacuum)
        return 0

    def _migrate(self, owners: Migrations, check: Callable[[Connection], None]) -> int:
        with self.migrated(owners, check) as conn:
            return int(conn.execute("select epoch from history").fetchone()[0])

    def _vacuum(self) -> None:
        with closing(self.open()) as conn:
            conn.script("vacuum")

    def _answers(self) -> bool:
        try:
            with closing(self.open(read_only=True)) as conn:
                conn.script("select 1")  # a pooler lets clients in while its server is away
        except psycopg.Error:
            return False
        return True

    def _options(self, *, read_only: bool = False) -> Options:
        conninfo = make_conninfo(**self._parameters)
        if self._pooler:
            return Options(conninfo, pooler=True)
        return Options(conninfo, f"set {'default_transaction_read_only=on' if read_only else _IDLE_LIMIT}; set jit=off")

    def _idle_limit(self) -> Sequence[Statement]:
        return [(f"set local {_IDLE_LIMIT}", ())] if self._pooler else []

    def _lease(self) -> Sequence[Statement]:
        if self.node is None:
            return []
        sql = "update node_commits set n = $1 where node = $2 and n = $3"
        return [(sql, (self._commits, self.node, self._stored))]

    def _check(self, conn: PostgresConnection, status: str) -> None:
        """Raises Fenced if the node has no lease, by the status of the last statement with which a write begins."""
        if self.node is not None and status != "UPDATE 1":
            self._number(conn)
            raise Fenced

    def _number(self, conn: PostgresConnection) -> int:
        """The number of this node's last commit that the database has; ends the transaction. Fenced if it has none.

        If a failover has lost commits, clients may have seen events that are gone: the history gets a new epoch, and
        this node is fenced as it holds what was lost.
        """
        row = conn.execute("select n from node_commits where node = ?", (self.node,)).fetchone()
        self.roll_back(conn)
        if row is None:
            raise Fenced
        if row[0] < self._stored:
            self._begin_epoch(conn)
            raise Fenced("The database has lost commits, as after a failover; this node starts anew")
        return int(row[0])

    def _begin_epoch(self, conn: PostgresConnection) -> None:
        """Begins a new epoch of the history, once: works that wait fail after this, one transaction after the other."""
        if not self._begun_epoch:
            _begun(conn, f"begin; {_ALONE}")
            epoch = conn.execute("update history set epoch = epoch + 1 returning epoch").fetchone()[0]
            conn.script("commit")
            log.error("the database lacks commits of this node, as after a failover; the history's epoch is %d", epoch)
            self._begun_epoch = True


_IDLE_LIMIT = f"idle_in_transaction_session_timeout={IDLE_SECONDS * 1000}"


def _check_parts(parts: Mapping[str, Any]) -> None:
    """SettingsError if parts of a password became other parts, which messages would show."""
    ports = str(parts.get("port") or "").split(",")
    names = str(parts.get("dbname") or "") + str(parts.get("host") or "").removeprefix("@")  # a socket may begin so
    if "@" in names or not all(port == "" or port.isdecimal() for port in ports):
        raise SettingsError(
            "BYTEBREW_DATABASE_URL: write the signs / ? # : @ % of a user or password in percent-encoding, such as %2F"
        )


def _own(conn: Connection) -> PostgresConnection:
    assert isinstance(conn, PostgresConnection)
    return conn


def _begun(conn: PostgresConnection, script: str) -> str:
    """Begins a transaction, on a new connection if the old one is lost; the command status of the last statement."""
    conn.reopen()
    try:
        status = conn.script(script)
    except psycopg.Error:
        if not conn.native.closed:
            raise
        conn.reopen()
        status = conn.script(script)
    conn.began = True
    return status


def _locks(sessions: Collection[str] | None) -> Sequence[Statement]:
    if sessions is None or len(sessions) > MOST_LOCKS:
        return [(_ALONE, ())]
    if not sessions:
        return [(_SHARED, ())]
    keys = Integers(sorted({*map(session_key, sessions)}))
    return [(_SHARED, ()), ("select pg_advisory_xact_lock(key) from unnest($1::int8[]) k (key)", (keys,))]


def session_key(session_id: str) -> int:
    """The key of a session's advisory lock."""
    return int.from_bytes(blake2b(session_id.encode(), digest_size=8).digest(), signed=True)
