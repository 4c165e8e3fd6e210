"""How like the query each stored vector is: the same whoever computes it."""

import math
import random
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing

import pytest
from bytebrew_knowledge import vectors
from bytebrew_knowledge.vectors import cosine_similarities, unit

pytestmark = pytest.mark.sqlite

SIZE = 48
CHUNKS = "create table knowledge_chunks (id integer primary key, index_id integer, position integer, vector blob)"


@pytest.fixture
def directions() -> list[list[float]]:
    """What was embedded: the query first, then the chunks 1 to 100."""
    chance = random.Random(1)
    return [[chance.gauss(0, 1) for _ in range(SIZE)] for _ in range(101)]


@pytest.fixture
def conn(directions: list[list[float]]) -> Iterator[sqlite3.Connection]:
    """Two indexes of 50 chunks each; of a third, one chunk has no vector and one that of another model."""
    with closing(sqlite3.connect(":memory:")) as conn:
        conn.row_factory = sqlite3.Row
        conn.execute(CHUNKS)
        rows = [(id, 1 + id // 51, (id - 1) % 50 + 1, unit(directions[id])) for id in range(1, 101)]
        conn.executemany("insert into knowledge_chunks values (?, ?, ?, ?)", rows)
        other = [(101, 3, 1, None), (102, 3, 2, unit([1.0] * (SIZE + 1)))]
        conn.executemany("insert into knowledge_chunks values (?, ?, ?, ?)", other)
        yield conn


def check(conn: sqlite3.Connection, directions: list[list[float]]) -> None:
    asked, stretches = unit(directions[0]), [(1, 0, 50), (2, 10, 20), (3, 0, 2)]
    found = cosine_similarities(conn, stretches, asked)
    wanted = {id: cosine(directions[0], directions[id]) for id in (*range(1, 51), *range(61, 71))}
    assert found == pytest.approx(wanted, abs=1e-5)


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other)


def test_python_computes_it_where_there_is_no_extension(
    conn: sqlite3.Connection, directions: list[list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "sqlite_vec", None)
    check(conn, directions)


def test_the_function_of_sqlite_vec_is_used_where_the_connection_has_it(
    conn: sqlite3.Connection, directions: list[list[float]]
) -> None:
    asked = []

    def distance(one: bytes, other: bytes) -> float:
        asked.append(other)
        return math.dist(struct.unpack(f"{SIZE}f", one), struct.unpack(f"{SIZE}f", other))

    conn.create_function("vec_distance_l2", 2, distance, deterministic=True)
    check(conn, directions)
    assert set(asked) == {unit(directions[0]).tobytes()}


def test_sqlite_vec_is_loaded_once_where_pythons_sqlite_takes_extensions(
    conn: sqlite3.Connection, directions: list[list[float]]
) -> None:
    pytest.importorskip("sqlite_vec", reason="the extra `vectors` is not installed")
    if not hasattr(conn, "enable_load_extension"):
        pytest.skip("this Python's SQLite takes no extensions")
    for _ in range(2):
        check(conn, directions)
    assert conn.execute("select vec_version()").fetchone()
    with pytest.raises(sqlite3.OperationalError, match="not authorized"):  # nobody else may load anything
        conn.execute("select load_extension('vec0')")
