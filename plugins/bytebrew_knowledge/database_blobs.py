"""Contents of files in the database, in parts: for nodes that share a database on PostgreSQL."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from bytebrew import Connection, now, rfc3339

from .blobs import PART, SharedBlobs, append, read_part

ARRIVAL_SECONDS = 86_400.0
"""Age of an unreferenced blob to which no upload can still be about to refer."""
_WRITE = """insert into knowledge_blobs (name, part, data, written_at) values (?, ?, ?, ?)
  on conflict (name, part) do nothing"""
_READ = "select data from knowledge_blobs where name = ? and part = ?"
_DELETE = "delete from knowledge_blobs where name = ?"
_DELETE_UNREFERENCED = """delete from knowledge_blobs where written_at < ? and not exists (
  select 1 from knowledge_files f where f.blob = knowledge_blobs.name)"""


class DatabaseBlobs(SharedBlobs):
    """Blobs as rows of the table `knowledge_blobs`."""

    async def _put(self, name: str, path: Path) -> None:
        for part in count():
            data = await asyncio.to_thread(read_part, path, part * PART)
            if not data:
                return
            await self._engine.db.write(_write, name, part, data)

    async def _get(self, name: str, path: Path) -> None:
        for part in count():
            data = await self._engine.db.read(_read, name, part)
            if data is None:
                return
            await asyncio.to_thread(append, path, data)

    async def _delete(self, names: list[str]) -> None:
        for name in names:
            await self._engine.db.write(self.forget_in, name)

    def forget_in(self, conn: Connection, name: str) -> None:
        conn.execute(_DELETE, (name,))

    async def _delete_unreferenced(self) -> None:
        await self._engine.db.write(_delete_unreferenced)


def _write(conn: Connection, name: str, part: int, data: bytes) -> None:
    conn.execute(_WRITE, (name, part, data, now()))


def _read(conn: Connection, name: str, part: int) -> bytes | None:
    row = conn.execute(_READ, (name, part)).fetchone()
    return None if row is None else row["data"]


def _delete_unreferenced(conn: Connection) -> None:
    conn.execute(_DELETE_UNREFERENCED, (rfc3339(datetime.now(UTC) - timedelta(seconds=ARRIVAL_SECONDS)),))
