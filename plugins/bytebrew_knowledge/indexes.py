"""SQL for a file's indexes: the live one, one under construction, and old ones to delete.

File revision, reader version and embedding model of an index determine whether an unfinished one can be resumed after a
crash, and whether the live one is up to date.
"""

from collections.abc import Sequence
from typing import NamedTuple

from bytebrew import Connection, now

from . import bases, postgres
from .files import Waiting
from .postgres import Terms
from .search_terms import base_term

READER = 2
"""Version of the readers and their chunks; incrementing it reindexes every file."""
SWEPT = 200
"""Chunks deleted per transaction."""


class Building(NamedTuple):
    """An index under construction: `done` of `total` chunks are stored; `replaces` is set if there is a live one."""

    id: int
    done: int
    total: int
    replaces: bool


class Chunk(NamedTuple):
    """A chunk of a file as stored."""

    heading: str
    text: str
    vector: bytes | None
    terms: Terms | None
    """What PostgreSQL searches; SQLite's index divides the text itself."""


def begin(conn: Connection, file: Waiting, signature: str, total: int) -> Building | None:
    """The index to resume, or a new one; None if the file was changed or deleted meanwhile."""
    if not _wanted(conn, file):
        return None
    recipe = (file.id, file.revision, READER, file.model or "", signature, total)
    live = conn.execute("select 1 from knowledge_indexes where file_id = ? and state = 'live'", (file.id,)).fetchone()
    row = conn.execute(
        """select id, done from knowledge_indexes where state = 'building' and file_id = ? and revision = ?
        and reader = ? and model = ? and signature = ? and total = ?""",
        recipe,
    ).fetchone()
    if row is None:
        conn.execute("update knowledge_indexes set state = 'dead' where file_id = ? and state = 'building'", (file.id,))
        row = conn.execute(
            """insert into knowledge_indexes (file_id, state, revision, reader, model, signature, done, total)
            values (?, 'building', ?, ?, ?, ?, 0, ?) returning id, done""",
            recipe,
        ).fetchone()
        conn.execute("update knowledge_files set message = null where id = ?", (file.id,))
    return Building(row["id"], row["done"], total, live is not None)


def add(
    conn: Connection, file: Waiting, index: Building, done: int, chunks: Sequence[Chunk], fault: str | None
) -> bool:
    """Stores the chunks after the first `done`; False if the index is obsolete.

    With its last chunks the index goes live. `fault` is the reason why it has no vectors, stored with the chunks.
    """
    if not _wanted(conn, file):
        return False
    until = done + len(chunks)
    moved = conn.execute(
        "update knowledge_indexes set done = ? where id = ? and state = 'building' and done = ?",
        (until, index.id, done),
    )
    if not moved.rowcount:
        return False
    base = base_term(file.base_id)
    rows = [(base, index.id, position, *chunk[:3]) for position, chunk in enumerate(chunks, done + 1)]
    if terms := [chunk.terms for chunk in chunks if chunk.terms is not None]:
        postgres.insert(conn, index.id, rows, terms)
    else:
        sql = "insert into knowledge_chunks (base, index_id, position, heading, text, vector) values (?, ?, ?, ?, ?, ?)"
        conn.executemany(sql, rows)
    if fault:
        conn.execute("update knowledge_files set message = ? where id = ?", (fault, file.id))
    if until == index.total:
        conn.execute("update knowledge_indexes set state = 'dead' where file_id = ? and state = 'live'", (file.id,))
        conn.execute("update knowledge_indexes set state = 'live' where id = ?", (index.id,))
        conn.execute(
            """update knowledge_files set status = case when message is null then 'ready' else 'error' end,
            indexed_at = ? where id = ?""",
            (now(), file.id),
        )
    return True


def fail(conn: Connection, file: Waiting, fault: str) -> bool:
    """Marks a file as failed; its live index stays. False if it was changed or deleted meanwhile."""
    if not _wanted(conn, file):
        return False
    conn.execute("update knowledge_files set status = 'error', message = ? where id = ?", (fault, file.id))
    conn.execute("update knowledge_indexes set state = 'dead' where file_id = ? and state = 'building'", (file.id,))
    return True


def refresh(conn: Connection, base_id: str = "", *, failed: bool = True) -> int:
    """Queues the files of a base, or of all, whose index is out of date; returns their number.

    Includes failed files, unless `failed` is False, but not rejected ones.
    """
    found = 0
    rows = conn.execute("select id, embedding_model from knowledge_bases where ? in ('', id)", (base_id,)).fetchall()
    for row in rows:
        model = row["embedding_model"]
        signature = bases.signature(bases.target(conn, model))
        found += conn.execute(
            """update knowledge_files set status = 'indexing', message = null
            where base_id = ? and status in ('ready', ?) and coalesce(seen, '') <> 'refused'
              and id in (select i.file_id from knowledge_indexes i
              where i.file_id = knowledge_files.id and i.state = 'live'
              and (i.reader, i.model, i.signature) <> (?, ?, ?))""",
            (row["id"], "error" if failed else "ready", READER, model or "", signature),
        ).rowcount
    return found


def sweep(conn: Connection) -> int | None:
    """Deletes a batch of obsolete chunks; returns the last chunk that there is then, and None if none was obsolete."""
    row = conn.execute("select id from knowledge_indexes where state = 'dead' order by id limit 1").fetchone()
    if row is None:
        return None
    gone = conn.execute(
        """delete from knowledge_chunks
        where id in (select id from knowledge_chunks where index_id = ? order by position limit ?)""",
        (row["id"], SWEPT),
    )
    if gone.rowcount < SWEPT:
        conn.execute("delete from knowledge_indexes where id = ?", (row["id"],))
    last: int = conn.execute("select coalesce(max(id), 0) from knowledge_chunks").fetchone()[0]
    return last


def _wanted(conn: Connection, file: Waiting) -> bool:
    sql = "select 1 from knowledge_files where id = ? and revision = ? and status = 'indexing'"
    return conn.execute(sql, (file.id, file.revision)).fetchone() is not None
