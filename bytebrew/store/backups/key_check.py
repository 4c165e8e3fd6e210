"""Checks that the key file fits the stored credentials: columns whose names begin with `sealed_`.

Each value is one encrypted credential: as bytes, or in base64 as text.
"""

import sqlite3
from base64 import b64decode
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from bytebrew.base.errors import BootError, EngineError
from bytebrew.base.secrets import Secrets
from bytebrew.contract.connection import Connection, dialect
from bytebrew.store.sqlite.epoch import uri_to_read

_COLUMNS = {
    "sqlite": """select m.name, c.name from sqlite_master m join pragma_table_info(m.name) c
  where m.type in ('table', 'view') and c.name glob 'sealed_*'""",
    "postgresql": """select c.relname, a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid
  where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'v')
    and not a.attisdropped and starts_with(a.attname::text, 'sealed_')""",
}


def count(conn: Connection) -> int:
    """The number of stored credentials."""
    sql = 'select count(*) from "{}" where length("{}") > 0'
    return sum(conn.execute(sql.format(table, column)).fetchone()[0] for table, column in _columns(conn))


def every(conn: Connection) -> Iterator[bytes]:
    """All stored credentials, encrypted; text that is not base64 is returned unchanged."""
    for table, column in _columns(conn):
        for (value,) in conn.execute(f'select "{column}" from "{table}" where length("{column}") > 0'):
            try:
                yield b64decode(value, validate=True) if isinstance(value, str) else value
            except ValueError:
                yield value.encode()


def _columns(conn: Connection) -> list[tuple[str, str]]:
    return conn.execute(_COLUMNS[dialect(conn)]).fetchall()


def check_key(key: Path, database: Path) -> None:
    """Raises BootError if the key file is missing and there are stored credentials, which a new key cannot decrypt."""
    if key.exists() or not database.exists():
        return
    try:
        with closing(sqlite3.connect(uri_to_read(database), uri=True, timeout=60)) as conn:
            lost = count(conn)
    except sqlite3.Error:  # reported when the database is opened
        return
    if lost:
        raise _lost(key, lost)


def check_new_key(key: Path, conn: Connection) -> None:
    """As `check_key`, after migrations, which may reveal more credentials; deletes the key that was just created."""
    if lost := count(conn):
        key.unlink()
        if dialect(conn) != "sqlite":
            raise BootError(
                f"keys/{key.name} is missing in the data folder: copy it from a node that has run on this database"
            )
        raise _lost(key, lost)


def check_fits(key: Path, secrets: Secrets, conn: Connection) -> None:
    """Raises BootError if the key decrypts none of the stored credentials."""
    credentials = 0
    for credential in every(conn):
        with suppress(EngineError):
            secrets.open(credential)
            return
        credentials += 1
    if credentials:
        raise BootError(
            f"{key} opens none of the {credentials} stored credentials: put the keys/secrets.key of a node in its place"
            " that has run on this database"
        )


def _lost(key: Path, count: int) -> BootError:
    return BootError(
        f"{key} is missing, and {count} stored credentials cannot be opened without it: put it back from your "
        f"backup. If it is lost for good, write a new one (openssl rand -hex 32 > {key}) and set them anew"
    )
