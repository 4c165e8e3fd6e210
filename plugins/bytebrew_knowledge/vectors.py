"""Cosine similarity of vectors, by sqlite-vec or pgvector if the database has it, or else by Python.

Vectors are stored as bytes. On PostgreSQL with pgvector, a column of its type has them too.
"""

import logging
import math
import sqlite3
import struct
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from bytebrew import Connection, Row, dialect

from .dialect import SCOPE, numbers

try:
    import sqlite_vec
except ImportError:  # installed with the extra `vectors`
    sqlite_vec = None

log = logging.getLogger(__name__)

_WITHIN = f"""from knowledge_chunks c where c.id in ({numbers(":ids")}) and length(c.vector) = :size
  and exists (select 1 from {SCOPE} and i.id = c.index_id and i.model = :model and i.signature = :signature)"""  # noqa: S608
_VECTORS = f"select c.id, c.vector {_WITHIN}"
_DISTANCES = f"select c.id, vec_distance_l2(c.vector, :vector) as distance {_WITHIN}"
_LOADED = "select 1 from pragma_function_list where name = 'vec_distance_l2'"

_INSTALL = """do $$ begin
  create extension if not exists vector;
exception when others then
  perform set_config('bytebrew.refused', sqlerrm, true);
end $$"""
_COLUMN = "alter table knowledge_chunks add column if not exists embedding vector"
_HAS_COLUMN = """select 1 from pg_attribute where attrelid = to_regclass('knowledge_chunks') and attname = 'embedding'
  and not attisdropped"""
_EMBEDDINGS = f"""select c.id, c.embedding <-> cast(:vector as vector) as distance,
  case when c.embedding is null then c.vector end as vector {_WITHIN}"""
_UNFILLED = "select id, vector from knowledge_chunks where vector is not null and embedding is null limit ?"
_FILL = "update knowledge_chunks set embedding = cast(? as vector) where id = ?"
FILLED = 200
"""Vectors that are copied into pgvector's column per transaction."""


def unit(vector: Sequence[float]) -> "array[float]":
    """The vector normalized to length 1, in float32; a zero vector stays zero."""
    length = math.hypot(*vector) or 1.0
    return array("f", [value / length for value in vector])


def cosine_similarities(
    conn: Connection, scope: Mapping[str, str], ids: Sequence[int], vector: "array[float]"
) -> dict[int, float]:
    """The cosine similarity of those of some chunks that are searched, computed from the distance of unit vectors."""
    within = {**scope, "ids": msgspec.json.encode(ids).decode(), "size": len(vector) * vector.itemsize}
    return {chunk: 1 - distance**2 / 2 for chunk, distance in _measure(conn)(conn, within, vector)}


def _measure(conn: Connection) -> Callable[..., Iterator[Row] | Iterator[tuple[int, float]]]:
    if dialect(conn) == "postgresql":
        return _by_pgvector if has_pgvector(conn) else _by_python
    return _by_extension if _extended(conn) else _by_python


def _extended(conn: Connection) -> bool:
    """Loads sqlite-vec if it is installed and Python's SQLite allows extensions; returns whether it is loaded."""
    if conn.execute(_LOADED).fetchone():
        return True
    if sqlite_vec is None or not hasattr(conn, "enable_load_extension"):
        return False
    conn.enable_load_extension(True)
    try:
        sqlite_vec.load(conn)
    except sqlite3.OperationalError:  # built for another platform; Python computes the same
        return False
    finally:
        conn.enable_load_extension(False)
    return True


def _by_extension(conn: Connection, within: dict[str, Any], vector: "array[float]") -> Iterator[Row]:
    return iter(conn.execute(_DISTANCES, {**within, "vector": vector.tobytes()}))


def _by_python(conn: Connection, within: dict[str, Any], vector: "array[float]") -> Iterator[tuple[int, float]]:
    unpack = struct.Struct(f"{len(vector)}f").unpack
    wanted = tuple(vector)
    return ((row["id"], math.dist(wanted, unpack(row["vector"]))) for row in conn.execute(_VECTORS, within))


def has_pgvector(conn: Connection) -> bool:
    """Whether vectors of a database on PostgreSQL are also in a column of pgvector's type."""
    return conn.execute(_HAS_COLUMN).fetchone() is not None


def pgvector(vector: bytes) -> str:
    """A stored vector as pgvector reads it."""
    return msgspec.json.encode(array("f", vector).tolist()).decode()


def install_pgvector(conn: Connection) -> None:
    """Creates the extension and its column where the server has it and the role may; logs why not."""
    if has_pgvector(conn):
        return
    if not conn.execute("select 1 from pg_available_extensions where name = 'vector'").fetchone():
        reason: str = "the server does not have it"
    else:
        conn.execute(_INSTALL)
        reason = conn.execute("select current_setting('bytebrew.refused', true)").fetchone()[0] or ""
    if reason:
        log.info("vectors are compared by Python, without the extension pgvector: %s", reason)
    else:
        conn.execute(_COLUMN)


def fill_pgvector(conn: Connection) -> bool:
    """Copies a batch of vectors into pgvector's column; returns whether there may be more."""
    if not has_pgvector(conn):
        return False
    rows = conn.execute(_UNFILLED, (FILLED,)).fetchall()
    conn.executemany(_FILL, [(pgvector(row["vector"]), row["id"]) for row in rows])
    return len(rows) == FILLED


def _by_pgvector(conn: Connection, within: dict[str, Any], vector: "array[float]") -> Iterator[tuple[int, float]]:
    wanted = tuple(vector)
    for row in conn.execute(_EMBEDDINGS, {**within, "vector": pgvector(vector.tobytes())}):
        own = row["vector"]
        yield row["id"], row["distance"] if own is None else math.dist(wanted, array("f", own))
