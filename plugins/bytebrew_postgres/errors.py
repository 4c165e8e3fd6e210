"""Maps PostgreSQL's errors to StorageError for operators, and tells faults of the database from other errors."""

import psycopg
from psycopg import errors

from bytebrew import StorageError

_AWAY = (
    "The database cannot be reached, or refuses the connection: see to its server and the network, and to user,"
    " password and name in BYTEBREW_DATABASE_URL"
)
_DISK = "The disk of the database server is full or fails, so nothing can be stored: see to it"
_READ_ONLY = "The database takes no writes, as a standby does: let BYTEBREW_DATABASE_URL name the primary"
_FULL = "The database has too many connections: raise its max_connections, or run fewer nodes"
_MEMORY = "The database server has run out of memory or locks: give it more"
_DAMAGED = "The database reports damage or a fault of its own: see its server's log, and restore a backup if need be"
_ENGINE_MEMORY = "The engine has run out of memory: give it more, or less to do at once"
_STATES = {
    "53300": _FULL,
    "53100": _DISK,
    "53": _MEMORY,
    "25006": _READ_ONLY,
    "58": _DISK,
    "XX": _DAMAGED,
    "08": _AWAY,
    "57P": _AWAY,
    "25P03": _AWAY,
    "25P04": _AWAY,
    "28": "The database refuses the engine's user or password: see to those in BYTEBREW_DATABASE_URL",
    "3D": "The database of BYTEBREW_DATABASE_URL does not exist: create it with createdb",
}
"""Advice by SQLSTATE or its beginning; the longest match counts."""


class UnknownOutcome(psycopg.OperationalError):
    """The connection was lost in a commit: whether it was stored is not known."""


def advice(error: Exception) -> str | None:
    """What the operator can do, if the database or the memory is the cause of an error."""
    if isinstance(error, MemoryError):
        return _ENGINE_MEMORY
    if not isinstance(error, psycopg.Error):
        return None
    state = error.sqlstate
    if state is None:
        return _AWAY if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) else None
    return next((_STATES[state[:size]] for size in (5, 3, 2) if state[:size] in _STATES), None)


def fault(error: Exception) -> StorageError | None:
    """The error with advice for the operator; None for an error of a statement."""
    if (message := advice(error)) is None:
        return None
    made = StorageError(message)
    made.__cause__ = error
    return made


def is_lost(error: Exception) -> bool:
    """Whether the connection is gone, so that another one may do better."""
    return advice(error) is _AWAY and not isinstance(error, UnknownOutcome)


def is_away(error: Exception) -> bool:
    """Whether the server cannot be reached or takes no writes, for now."""
    return advice(error) in (_AWAY, _READ_ONLY, _FULL)


def has_stale_plan(error: Exception) -> bool:
    """Whether a prepared statement's table has other columns than before: a newer node has migrated meanwhile."""
    return isinstance(error, errors.FeatureNotSupported) and error.diag.source_function == "RevalidateCachedQuery"


def may_pass(error: Exception) -> bool:
    """Whether the same transaction, run again at once, may succeed."""
    lost_race = isinstance(error, errors.DeadlockDetected | errors.SerializationFailure)
    return lost_race or is_lost(error) or has_stale_plan(error)
