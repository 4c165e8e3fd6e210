"""A file's indexes: one that is searched, one that is being made, and what is left of those before.

What an index is made of, the file's revision, the reader's version and the embedding model, tells whether one that a
crash has left can be gone on with, and whether one that is searched is still right.
"""

from collections.abc import Sequence
from typing import NamedTuple

from bytebrew import Connection, now

from . import bases
from .files import Waiting
from .search_terms import word_of

READER = 2
"""The version of the readers and the chunks that they make; another one has every file indexed again."""
SWEPT = 200
"""Chunks that one transaction removes."""


class Building(NamedTuple):
    """An index that is being made: `done` of `total` chunks are stored; `replaces` says whether one is searched now."""

    id: int
    done: int
    total: int
    replaces: bool


class Chunk(NamedTuple):
    """A piece of a file as it is stored."""

    heading: str
    text: str
    vector: bytes | None


def begin(conn: Connection, file: Waiting, signature: str, total: int) -> Building | None:
    """The index to go on with, or a new one; None where the file has changed or gone meanwhile."""
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
    """Stores the chunks that follow the first `done`; False where the index is not wanted any more.

    The last of them put it in the place of the one that was searched before. A fault, which says why it lacks vectors,
    is kept with the chunks: a stop does not make it forgotten.
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
    conn.executemany(
        "insert into knowledge_chunks (base, index_id, position, heading, text, vector) values (?, ?, ?, ?, ?, ?)",
        [(word_of(file.base_id), index.id, position, *chunk) for position, chunk in enumerate(chunks, done + 1)],
    )
    if fault:
        conn.execute("update knowledge_files set message = ? where id = ?", (fault, file.id))
    if until == index.total:
        conn.execute("update knowledge_indexes set state = 'dead' where file_id = ? and state = 'live'", (file.id,))
        conn.execute("update knowledge_indexes set state = 'live' where id = ?", (index.id,))
        conn.execute(
            "update knowledge_files set status = iif(message is null, 'ready', 'error'), indexed_at = ? where id = ?",
            (now(), file.id),
        )
    return True


def fail(conn: Connection, file: Waiting, fault: str) -> bool:
    """Gives a file up; what was searched before still is. False where it has changed or gone meanwhile."""
    if not _wanted(conn, file):
        return False
    conn.execute("update knowledge_files set status = 'error', message = ? where id = ?", (fault, file.id))
    conn.execute("update knowledge_indexes set state = 'dead' where file_id = ? and state = 'building'", (file.id,))
    return True


def refresh(conn: Connection, base_id: str = "", *, failed: bool = True) -> int:
    """Has the files of a base, or of all, indexed again whose index was made by other means; how many those are.

    Files whose last index failed are tried too, unless `failed` is False; those that a folder has as refused are not.
    """
    found = 0
    rows = conn.execute("select id, embedding_model from knowledge_bases where ? in ('', id)", (base_id,)).fetchall()
    for row in rows:
        model = row["embedding_model"]
        signature = bases.signature(bases.target(conn, model))
        found += conn.execute(
            """update knowledge_files set status = 'indexing', message = null
            where base_id = ? and status in ('ready', ?) and seen is not 'refused'
              and id in (select i.file_id from knowledge_indexes i
              where i.file_id = knowledge_files.id and i.state = 'live'
              and (i.reader, i.model, i.signature) <> (?, ?, ?))""",
            (row["id"], "error" if failed else "ready", READER, model or "", signature),
        ).rowcount
    return found


def sweep(conn: Connection) -> bool:
    """Removes some of what no search sees any more; whether there is more of it."""
    row = conn.execute("select id from knowledge_indexes where state = 'dead' order by id limit 1").fetchone()
    if row is None:
        return False
    gone = conn.execute(
        """delete from knowledge_chunks
        where id in (select id from knowledge_chunks where index_id = ? order by position limit ?)""",
        (row["id"], SWEPT),
    )
    if gone.rowcount < SWEPT:
        conn.execute("delete from knowledge_indexes where id = ?", (row["id"],))
    return True


def _wanted(conn: Connection, file: Waiting) -> bool:
    sql = "select 1 from knowledge_files where id = ? and revision = ? and status = 'indexing'"
    return conn.execute(sql, (file.id, file.revision)).fetchone() is not None
