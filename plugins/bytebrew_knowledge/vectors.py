"""Vectors: how they are stored, and how like another each of them is, by sqlite-vec where it loads."""

import math
import sqlite3
import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence

from bytebrew import Connection, Row

try:
    import sqlite_vec
except ImportError:  # the extra `vectors` brings it
    sqlite_vec = None

Stretch = tuple[int, int, int]
"""An index, and the positions after the second and up to the third number."""

_WITHIN = "from knowledge_chunks where index_id = ? and position > ? and position <= ? and length(vector) = ?"
_VECTORS = f"select id, vector {_WITHIN}"
_DISTANCES = f"select id, vec_distance_l2(vector, ?) as distance {_WITHIN}"
_LOADED = "select 1 from pragma_function_list where name = 'vec_distance_l2'"


def unit(vector: Sequence[float]) -> "array[float]":
    """The vector at length 1 in float32, as it is stored; zeros stay zeros."""
    length = math.hypot(*vector) or 1.0
    return array("f", [value / length for value in vector])


def likenesses(conn: Connection, stretches: Iterable[Stretch], asked: "array[float]") -> dict[int, float]:
    """The cosine of every chunk there that has a vector: of unit vectors, it is known by their distance."""
    measured = _by_extension if _extended(conn) else _by_python
    return {
        chunk: 1 - distance**2 / 2
        for stretch in stretches
        for chunk, distance in measured(conn, (*stretch, len(asked) * asked.itemsize), asked)
    }


def _extended(conn: Connection) -> bool:
    """Whether the connection has sqlite-vec, which is loaded if the package is there and Python's SQLite lets it in."""
    if conn.execute(_LOADED).fetchone():
        return True
    if sqlite_vec is None or not hasattr(conn, "enable_load_extension"):
        return False
    conn.enable_load_extension(True)
    try:
        sqlite_vec.load(conn)
    except sqlite3.OperationalError:  # it was built for another machine; Python computes the same
        return False
    finally:
        conn.enable_load_extension(False)
    return True


def _by_extension(conn: Connection, within: tuple[int, ...], asked: "array[float]") -> Iterator[Row]:
    return iter(conn.execute(_DISTANCES, (asked.tobytes(), *within)))


def _by_python(conn: Connection, within: tuple[int, ...], asked: "array[float]") -> Iterator[tuple[int, float]]:
    unpack = struct.Struct(f"{len(asked)}f").unpack
    wanted = tuple(asked)
    return ((row["id"], math.dist(wanted, unpack(row["vector"]))) for row in conn.execute(_VECTORS, within))
