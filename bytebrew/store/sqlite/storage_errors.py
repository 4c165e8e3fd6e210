"""Maps SQLite's errors to StorageError for operators, and tells faults of the file from faults of a statement."""

import sqlite3

from bytebrew.base.errors import StorageError

_DAMAGED = "The database is damaged: run bytebrew doctor, and restore a backup"
_DISK = "The disk does not do what the database asks of it: see to the disk of the data folder"
_READ_ONLY = "The database cannot be written: see to the rights of the data folder and how its disk is mounted"
_OTHER = "The database has failed: {}"
_MEMORY = "The engine has run out of memory: give it more, or less to do at once"
_FAULTS = {
    sqlite3.SQLITE_FULL: "The disk is full, so nothing can be stored: free some space on it",
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_IOERR: _DISK,
    sqlite3.SQLITE_CANTOPEN: _DISK,
}


def code(error: Exception) -> int:
    """SQLite's primary result code of an error, 0 if it has none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def breaks(error: Exception) -> bool:
    """Whether every write would fail with this error; an error in a work's own SQL concerns that work only."""
    return isinstance(error, MemoryError) or (
        isinstance(error, sqlite3.OperationalError) and code(error) > sqlite3.SQLITE_ERROR
    )


def is_known(error: Exception) -> bool:
    """Whether the file, the disk or the memory is the cause, rather than the statement or an interrupt."""
    return code(error) != sqlite3.SQLITE_INTERRUPT and (breaks(error) or code(error) in _FAULTS)


def is_damage(error: Exception) -> bool:
    """Whether the file is damaged, or not a database."""
    return _FAULTS.get(code(error)) is _DAMAGED


def fault_of(error: Exception) -> StorageError:
    """The error as a StorageError with advice for the operator; damage of the file is lasting."""
    message = _MEMORY if isinstance(error, MemoryError) else _FAULTS.get(code(error), _OTHER.format(error))
    fault = StorageError(message, lasting=message is _DAMAGED)
    fault.__cause__ = error
    return fault
