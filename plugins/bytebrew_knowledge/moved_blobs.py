"""Blobs that a database brought along that was moved from PostgreSQL: files hold them on SQLite."""

import asyncio
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

from bytebrew import Connection, Engine

_NEXT = "select name from knowledge_blobs order by name limit 1"
_READ = "select data from knowledge_blobs where name = ? and part = ?"
_DELETE = "delete from knowledge_blobs where name = ?"


async def write_files(engine: Engine, folder: Path, spool: Callable[[], Path]) -> None:
    """Writes each blob of the database to a file of its name, and deletes it from the database once it is synced."""
    while (name := await engine.db.read(_next)) is not None:
        path = spool()
        for part in count():
            if (data := await engine.db.read(_part, name, part)) is None:
                break
            await asyncio.to_thread(_append, path, data)
        await asyncio.to_thread(path.replace, folder / name)
        await engine.db.write(_delete, name)


def _next(conn: Connection) -> str | None:
    row = conn.execute(_NEXT).fetchone()
    return None if row is None else row["name"]


def _part(conn: Connection, name: str, part: int) -> bytes | None:
    row = conn.execute(_READ, (name, part)).fetchone()
    return None if row is None else row["data"]


def _delete(conn: Connection, name: str) -> None:
    conn.execute(_DELETE, (name,))


def _append(path: Path, data: bytes) -> None:
    path.touch(0o600)
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
