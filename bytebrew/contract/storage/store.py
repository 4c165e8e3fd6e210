"""A store: the database that holds the engine's data, the SQLite file or a server that several nodes share."""

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from bytebrew.base.errors import StorageError
from bytebrew.contract.connection import Connection
from bytebrew.contract.engine import Database
from bytebrew.contract.storage.migration import Migration

T = TypeVar("T")
Migrations = Mapping[str, Sequence[tuple[int, str]]]
"""The numbered SQL of each owner, in the dialect of the store."""


COPIED_TABLES = """create table copied_tables (
  name text primary key, position text not null, row_count bigint not null)"""
"""How far a copy into the database is; the table is there until the copy is finished, and no engine starts before."""


class StoreConnection(Connection, Protocol):
    """A connection of a driver, used by one thread at a time; one that was lost is opened again at the next begin."""

    def close(self) -> None:
        """Closes the connection."""

    def interrupt(self) -> None:
        """Aborts the running statement; called from another thread."""


class Signals(Protocol):
    """Short texts between the nodes that share a database; a text may be lost, so receivers also poll."""

    async def send(self, texts: Sequence[str]) -> None:
        """Sends texts to all nodes, after the commit that they are about; a failure is logged and forgotten."""

    def received(self) -> AsyncIterator[str | None]:
        """The texts of other nodes as they arrive; None each time that some may have been missed."""


class Between(Protocol):
    """Runs work in the writer's thread outside of a transaction; writes wait meanwhile."""

    async def __call__(self, work: Callable[[Any], T], /) -> T: ...


class ServedDatabase(Database, AbstractAsyncContextManager[Any], Protocol):
    """The engine's database, which opens its connections when it is entered."""


class Finding(NamedTuple):
    """The result of one check of `bytebrew doctor`; `message` is what was found, or what to do about it."""

    name: str
    passed: bool
    message: str


class Table(NamedTuple):
    """A table that migrations make: the columns of its rows and of their key; `rows` are those of a new database."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    rows: int


class Transfer(Protocol):
    """A database as the source or the target of a copy of all rows; no engine uses it meanwhile."""

    def reading(self) -> AbstractContextManager[Connection]:
        """One snapshot of an existing database; BootError if there is none, or if an engine runs on it."""

    def writing(self) -> AbstractContextManager[Connection]:
        """A connection to a new database with all tables, or to one that has the table `copied_tables` already.

        Raises BootError if an engine runs on it, or if there are other tables.
        """

    def stamp(self, conn: Connection) -> str:
        """A text that is another one after an engine has run on the database."""

    def epoch(self, conn: Connection) -> int:
        """The epoch of the history that the next engine would begin with."""

    def last_keys(self, conn: Connection) -> Mapping[str, int]:
        """The last key of each table whose keys are never used again."""

    def begin(self, conn: Connection) -> None:
        """Removes what prevents inserts of rows in any order, or follows from them: foreign keys, triggers."""

    def end(self, conn: Connection, last_keys: Mapping[str, int]) -> None:
        """Puts back what `begin` removed, and lets new keys begin above those of the rows and above `last_keys`."""

    def leave(self) -> int:
        """Begins a new epoch of the history, as another database goes on with this one; returns it."""


class Driver(Protocol):
    """What differs between kinds of databases; the sync methods run in the threads of the engine's `Database`."""

    dialect: str
    """`sqlite` or `postgresql`, as `dialect` says of its connections."""
    shared: bool
    """Whether other nodes may write to the database at the same time."""
    place: str
    """Where the data is, for messages: the path of a file, or an address without credentials."""
    error: type[Exception]
    """The base class of its errors."""
    node: int | None
    """The node whose lease each write transaction checks; Fenced if another node has ended it. None: no check."""
    attempts: int
    """How often a transaction is run whose error may pass."""

    def open(self, *, read_only: bool = False) -> StoreConnection:
        """A connection; raises an `error`."""

    def near(self, is_late: Callable[[], bool]) -> StoreConnection | None:
        """A read-only connection for short reads in the event loop; None if reads wait for anything but a local disk.

        A statement during which `is_late` becomes true fails with an `error`, and so does one that had to wait.
        """
        return None

    def begin(self, conn: Connection, sessions: Collection[str] | None) -> None:
        """Begins a write transaction, after the rollback of one that is left open.

        `sessions` are all that it writes to; with None it may write anything, alone.
        """

    def begin_read(self, conn: Connection) -> None:
        """Begins a read-only transaction with one snapshot."""

    def commit(self, conn: Connection) -> None:
        """Commits; raises an `error` unless all of it is stored."""

    def roll_back(self, conn: Connection) -> None:
        """Rolls back an open transaction; a failure is only logged."""

    def breaks(self, error: Exception) -> bool:
        """Whether every work of the transaction fails with this error, rather than the one that met it."""

    def fault(self, error: Exception) -> StorageError | None:
        """The error with advice for the operator, if the database or memory is its cause rather than a statement."""

    def may_pass(self, error: Exception) -> bool:
        """Whether the same transaction, run again at once, may succeed: a deadlock, a failed read."""

    def away(self, error: Exception) -> bool:
        """Whether the database cannot be reached or takes no writes for now, so that waiting may help."""

    def unsettled(self, error: Exception) -> bool:
        """Whether a commit failed so that it is not known whether it is stored; `is_stored` tells."""

    def is_stored(self, conn: Connection) -> bool:
        """Whether the commit that was unsettled is stored; raises an `error` while the database cannot tell."""

    def interrupted(self, error: Exception) -> bool:
        """Whether the error is that of an interrupted statement."""

    def wrote(self, error: Exception) -> bool:
        """Whether a read tried to write."""

    def end_stalled(self, conn: Connection) -> int:
        """Ends transactions that keep others from writing while their process sends or takes nothing; their number."""

    def bytes(self, conn: Connection) -> int:
        """The size of the database in bytes."""

    def shrink(self, conn: Connection, spare: int) -> Sequence[object]:
        """Returns some free pages beyond `spare` to the disk, in a transaction; an empty sequence if there are none."""

    def checkpoint(self, conn: Connection, *, empty: bool = False) -> None:
        """Copies the log into the database file, outside of a transaction, and empties it if asked."""

    def core_migrations(self, sqlite: Sequence[tuple[int, str]]) -> Sequence[tuple[int, str]]:
        """The numbered SQL of the core's tables, from that for SQLite."""

    def text(self, migration: Migration) -> str:
        """The SQL of a plugin's migration."""

    async def restored(self) -> None:
        """Returns once a lasting fault is over."""

    def migrated(
        self, owners: Migrations, check: Callable[[Connection], None], beat: Callable[[], None] | None = None
    ) -> AbstractContextManager[Connection]:
        """A connection to the database with the tables of all owners up to date; see `sqlite.migrate.migrated`."""

    def served(
        self, db: "ServedDatabase", owners: Migrations, check: Callable[[Connection], None]
    ) -> AbstractAsyncContextManager[int]:
        """The epoch of the history, with the tables of all owners up to date and the engine's database open."""

    async def erase(self, between: "Between") -> int:
        """Overwrites the bytes that deleted rows have left behind, and deletes copies of them; returns their number."""

    def signals(self) -> Signals | None:
        """The signals between nodes; None for a database that is not `shared`."""

    def examine(self, conn: Connection, owners: Migrations) -> Iterable[Finding]:
        """What `bytebrew doctor` finds about a database on a server; it writes nothing."""

    def transfer(self, owners: Migrations) -> Transfer:
        """The database as the source or the target of a copy of all rows; `owners` have the SQL of its tables."""


@runtime_checkable
class Store(Protocol):
    """A kind of database, chosen by the scheme of BYTEBREW_DATABASE_URL."""

    scheme: str
    """Such as `postgresql`."""

    def driver(self, url: str) -> Driver:
        """A driver for the database at an address; SettingsError if the address is invalid."""
