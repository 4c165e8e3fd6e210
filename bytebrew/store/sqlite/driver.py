"""The driver of the SQLite file."""

import asyncio
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, asynccontextmanager, closing
from pathlib import Path

from bytebrew.base.errors import StorageError
from bytebrew.base.machine import lock
from bytebrew.contract.connection import Connection
from bytebrew.contract.storage.migration import Migration
from bytebrew.contract.storage.store import Between, Driver, Finding, Migrations, ServedDatabase, Transfer
from bytebrew.store.backups import before_migrating
from bytebrew.store.backups.copies import check_space
from bytebrew.store.sqlite import epoch, integrity, migrations, pragmas, storage_errors
from bytebrew.store.sqlite.migrate import migrated
from bytebrew.store.sqlite.pragmas import BUSY_SECONDS
from bytebrew.store.sqlite.transfer import SQLiteTransfer

log = logging.getLogger(__name__)

LOG_SECONDS = 1.0
"""Pause while a reader, such as a backup, is in the log of the database."""


class SQLiteDriver(Driver):
    """The SQLite file at a path, which one engine at a time serves."""

    dialect = "sqlite"
    shared = False
    error = sqlite3.Error
    attempts = 2
    node = None

    def __init__(self, path: Path, synchronous: str = "normal") -> None:
        self.path, self._synchronous = path, synchronous
        self.place = str(path)

    def open(self, *, read_only: bool = False) -> sqlite3.Connection:
        if not self.path.exists():
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        conn = pragmas.connect(self.path, self._synchronous, read_only=read_only)
        if not read_only:
            pragmas.checkpoint_late(conn)
        return conn

    def near(self, is_late: Callable[[], bool]) -> sqlite3.Connection:
        conn = pragmas.connect(self.path, self._synchronous, read_only=True, kind=pragmas.RecallingConnection)
        return pragmas.impatient(conn, is_late)

    def begin(self, conn: Connection, sessions: Collection[str] | None) -> None:
        """Begins a transaction, which alone may write, and waits for other processes as long as necessary."""
        if conn.in_transaction:
            conn.execute("rollback")
        while True:
            try:
                conn.execute("begin immediate")
            except sqlite3.OperationalError as error:
                if storage_errors.code(error) != sqlite3.SQLITE_BUSY:  # busy: a command, a backup or a check uses it
                    raise
                log.warning("another process has been writing to the database for %g s; waiting on", BUSY_SECONDS)
            else:
                return

    def begin_read(self, conn: Connection) -> None:
        conn.execute("begin")

    def commit(self, conn: Connection) -> None:
        if not conn.in_transaction:  # SQLite rolled back, and a work ignored the error
            raise sqlite3.OperationalError("the transaction ended before its commit")
        conn.execute("commit")

    def roll_back(self, conn: Connection) -> None:
        if not conn.in_transaction:  # SQLite has rolled it back already
            return
        try:
            conn.execute("rollback")
        except (sqlite3.Error, MemoryError) as error:
            log.warning("a rollback failed: %r", error)

    def breaks(self, error: Exception) -> bool:
        return storage_errors.breaks(error)

    def fault(self, error: Exception) -> StorageError | None:
        return storage_errors.fault_of(error) if storage_errors.is_known(error) else None

    def may_pass(self, error: Exception) -> bool:
        """Whether the file seems damaged: SQLite reports a failed read of the disk the same way."""
        return isinstance(error, sqlite3.DatabaseError) and storage_errors.is_damage(error)

    def away(self, error: Exception) -> bool:
        return False

    def unsettled(self, error: Exception) -> bool:
        return False

    def is_stored(self, conn: Connection) -> bool:
        raise NotImplementedError("a commit to the file is settled")

    def interrupted(self, error: Exception) -> bool:
        return storage_errors.code(error) == sqlite3.SQLITE_INTERRUPT

    def wrote(self, error: Exception) -> bool:
        return storage_errors.code(error) == sqlite3.SQLITE_READONLY

    def end_stalled(self, conn: Connection) -> int:
        return 0

    def bytes(self, conn: Connection) -> int:
        return pragmas.file_bytes(conn)

    def shrink(self, conn: Connection, spare: int) -> Sequence[object]:
        return pragmas.shrink(conn, spare)

    def checkpoint(self, conn: Connection, *, empty: bool = False) -> None:
        (pragmas.truncate_log if empty else pragmas.checkpoint)(conn)

    def core_migrations(self, sqlite: Sequence[tuple[int, str]]) -> Sequence[tuple[int, str]]:
        return sqlite

    def text(self, migration: Migration) -> str:
        return migrations.text(migration)

    async def restored(self) -> None:
        await integrity.wait_until_intact(self.path)

    def migrated(
        self, owners: Migrations, check: Callable[[Connection], None], beat: Callable[[], None] | None = None
    ) -> AbstractContextManager[Connection]:
        return migrated(self.path, owners, check, beat)

    @asynccontextmanager
    async def served(
        self, db: ServedDatabase, owners: Migrations, check: Callable[[Connection], None]
    ) -> AsyncIterator[int]:
        """The epoch of the history, with the file locked, its tables up to date and the database open.

        An extra connection keeps the database's log at the end, until the file records that the log is not needed.
        """
        async with AsyncExitStack() as stack:
            stack.enter_context(lock.held(self.path))
            log_there = epoch.log_of(self.path).exists()
            keeping = stack.enter_context(ExitStack())
            with self.migrated(owners, check) as conn:
                await stack.enter_async_context(db)
                keeping.enter_context(closing(epoch.keep_log(self.path)))
                number = epoch.begin(conn, self.path, log_there=log_there)
            stack.push_async_callback(_record_end, db, keeping)
            yield number

    async def erase(self, between: Between) -> int:
        copies = await asyncio.to_thread(before_migrating.delete_copies, self.path)
        await asyncio.to_thread(
            check_space, self.path.parent, 2 * self.path.stat().st_size, "writing the database anew"
        )
        await between(pragmas.rewrite)
        while not await between(pragmas.empty_log):  # noqa: ASYNC110 - SQLite gives no notice
            await asyncio.sleep(LOG_SECONDS)
        return copies

    def signals(self) -> None:
        return None

    def examine(self, conn: Connection, owners: Migrations) -> Sequence[Finding]:
        return ()

    def transfer(self, owners: Migrations) -> Transfer:
        return SQLiteTransfer(self.path, owners)


async def _record_end(db: ServedDatabase, keeping: ExitStack) -> None:
    try:
        await db.write(epoch.end)
        keeping.close()
    except StorageError as error:
        log.warning("the end of the engine is not recorded: %s", error)
