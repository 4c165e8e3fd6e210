"""The epoch of the history, part of each event's id: a new one begins if the file may lack events that clients have.

SQLite commits to a log beside the file (WAL), and removes it when the last connection closes. `clean` is 0 in the file
while an engine runs: if it is 0 and there is no log, the commits in that log are lost.
"""

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from bytebrew.base.errors import StorageError
from bytebrew.contract.connection import Connection
from bytebrew.store.sqlite.pragmas import BEAT, connect

log = logging.getLogger(__name__)


def log_of(path: Path) -> Path:
    """The log beside a database; for a symbolic link it is beside the target."""
    real = path.resolve()
    return real.with_name(f"{real.name}-wal")


def uri_to_read(path: Path) -> str:
    """An address for `sqlite3.connect` that neither removes nor creates a log.

    The last connection to close removes the log, unless it is read-only.
    """
    return f"{path.absolute().as_uri()}?mode={'ro' if log_of(path).exists() else 'rw'}"


@contextmanager
def reading(path: Path, beat: Callable[[], None]) -> Iterator[sqlite3.Connection]:
    """A connection that reads a database, which may be in use, and does not change it; StorageError on failure.

    `beat` is called periodically while statements run.
    """
    try:
        with closing(sqlite3.connect(uri_to_read(path), uri=True, timeout=60)) as conn:
            conn.set_progress_handler(beat, BEAT)
            yield conn
    except sqlite3.Error as error:
        raise StorageError(str(error)) from error


def keep_log(path: Path) -> sqlite3.Connection:
    """A connection that keeps the log: the last connection to close would remove it."""
    conn = sqlite3.connect(uri_to_read(path), uri=True)
    try:
        conn.execute("pragma user_version").fetchall()  # opens the log; a query would parse the whole schema
    except BaseException:
        conn.close()
        raise
    return conn


@contextmanager
def log_kept(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-write connection that keeps an existing log, by which the next start detects that an engine was killed.

    At the end the log is copied into the file as far as the disk allows; the rest stays committed in the log.
    """
    with closing(keep_log(path)), closing(connect(path)) as conn:
        yield conn
        try:
            conn.execute("pragma wal_checkpoint(passive)").fetchall()
        except sqlite3.Error as error:
            log.warning("%s keeps what was committed last for now: %s", log_of(path), error)


def begin(conn: Connection, path: Path, *, log_there: bool) -> int:
    """The epoch of an engine that starts; a new one if the log with the last commits is lost.

    `log_there` is whether there was a log before the first connection was opened.
    """
    epoch, lost = next_epoch(conn, log_there=log_there)
    if lost:
        log.error(
            "%s was not closed by its engine, and %s is missing: what was committed last may be lost. The history "
            "epoch is now %d, and cursors from before are refused",
            *(path, log_of(path).name, epoch),
        )
    conn.execute("update history set epoch = ?, clean = 0", (epoch,))
    conn.execute("pragma wal_checkpoint(passive)").fetchall()
    return epoch


def next_epoch(conn: Connection, *, log_there: bool) -> tuple[int, bool]:
    """The epoch of the next engine, and whether it is a new one because the log with the last commits is lost."""
    epoch, clean = conn.execute("select epoch, clean from history").fetchone()
    lost = not clean and not log_there
    return int(epoch) + lost, lost


def end(conn: Connection) -> None:
    """Records a clean shutdown of the engine: its last write."""
    conn.execute("update history set clean = 1")
