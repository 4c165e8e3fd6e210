"""Storage of vectors and cosine similarity, using sqlite-vec if it can be loaded."""

import math
import sqlite3
import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence

from bytebrew import Connection, Row

try:
    import sqlite_vec
except ImportError:  # installed with the extra `vectors`
    sqlite_vec = None

PositionRange = tuple[int, int, int]
"""An index id and a range of positions: from after the second to the third number."""

_WITHIN = "from knowledge_chunks where index_id = ? and position > ? and position <= ? and length(vector) = ?"
_VECTORS = f"select id, vector {_WITHIN}"
_DISTANCES = f"select id, vec_distance_l2(vector, ?) as distance {_WITHIN}"
_LOADED = "select 1 from pragma_function_list where name = 'vec_distance_l2'"


def unit(vector: Sequence[float]) -> "array[float]":
    """The vector normalized to length 1, in float32; a zero vector stays zero."""
    length = math.hypot(*vector) or 1.0
    return array("f", [value / length for value in vector])


def cosine_similarities(conn: Connection, ranges: Iterable[PositionRange], vector: "array[float]") -> dict[int, float]:
    """The cosine similarity of every chunk that has a vector, computed from the distance of unit vectors."""
    measured = _by_extension if _extended(conn) else _by_python
    return {
        chunk: 1 - distance**2 / 2
        for positions in ranges
        for chunk, distance in measured(conn, (*positions, len(vector) * vector.itemsize), vector)
    }


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


def _by_extension(conn: Connection, within: tuple[int, ...], vector: "array[float]") -> Iterator[Row]:
    return iter(conn.execute(_DISTANCES, (vector.tobytes(), *within)))


def _by_python(conn: Connection, within: tuple[int, ...], vector: "array[float]") -> Iterator[tuple[int, float]]:
    unpack = struct.Struct(f"{len(vector)}f").unpack
    wanted = tuple(vector)
    return ((row["id"], math.dist(wanted, unpack(row["vector"]))) for row in conn.execute(_VECTORS, within))
