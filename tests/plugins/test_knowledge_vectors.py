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
TABLES = """create table knowledge_files (id integer primary key, base_id text, name text, metadata text);
create table knowledge_indexes (id integer primary key, file_id integer, state text, model text, signature text);
create table knowledge_chunks (id integer primary key, index_id integer, vector blob);
insert into knowledge_files values (1, 'base', 'a.md', '{}');
insert into knowledge_indexes values (1, 1, 'live', 'm', 's'), (2, 1, 'dead', 'm', 's'), (3, 1, 'live', 'm', 'other')"""
SCOPE = {"bases": '["base"]', "file": "", "metadata": "{}", "model": "m", "signature": "s"}


@pytest.fixture
def directions() -> list[list[float]]:
    """What was embedded: the query first, then the chunks 1 to 100."""
    chance = random.Random(1)
    return [[chance.gauss(0, 1) for _ in range(SIZE)] for _ in range(101)]


@pytest.fixture
def conn(directions: list[list[float]]) -> Iterator[sqlite3.Connection]:
    """An index of 70 chunks, and 30 that are not searched; one has no vector and one that of another length."""
    with closing(sqlite3.connect(":memory:")) as conn:
        conn.row_factory = sqlite3.Row
        conn.executescript(TABLES)
        rows = [(n, 1 if n <= 70 else 2 if n <= 90 else 3, unit(directions[n])) for n in range(1, 101)]
        conn.executemany("insert into knowledge_chunks values (?, ?, ?)", rows)
        other = [(101, 1, None), (102, 1, unit([1.0] * (SIZE + 1)))]
        conn.executemany("insert into knowledge_chunks values (?, ?, ?)", other)
        yield conn


def check(conn: sqlite3.Connection, directions: list[list[float]]) -> None:
    found = cosine_similarities(conn, SCOPE, [*range(11, 200)], unit(directions[0]))
    wanted = {n: cosine(directions[0], directions[n]) for n in range(11, 71)}
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
