"""How like the query each stored vector is on PostgreSQL: the same by pgvector and by Python."""

import logging
import math
import random
import secrets
from collections.abc import Iterator
from contextlib import closing

import pytest
from bytebrew_knowledge import vectors
from bytebrew_knowledge.vectors import cosine_similarities, fill_pgvector, has_pgvector, install_pgvector, unit
from bytebrew_postgres.connection import Options, PostgresConnection
from bytebrew_postgres.functions import FUNCTIONS

from bytebrew.testing.postgres import USER, shared_server

SIZE = 48
TABLES = (
    "create table knowledge_files (id text primary key, base_id text, name text, metadata text)",
    "create table knowledge_indexes (id bigint primary key, file_id text, state text, model text, signature text)",
    "create table knowledge_chunks (id bigint primary key, index_id bigint, vector bytea)",
    "insert into knowledge_files values ('1', 'base', 'a.md', '{}')",
    "insert into knowledge_indexes values (1, '1', 'live', 'm', 's'), (2, '1', 'dead', 'm', 's')",
)
SCOPE = {"bases": '["base"]', "file": "", "metadata": "{}", "model": "m", "signature": "s"}


@pytest.fixture
def database() -> Iterator[str]:
    server, name = shared_server(), f"vectors_{secrets.token_hex(6)}"
    server.execute(f"create database {name} owner {USER}")
    yield name
    server.execute(f"drop database {name} with (force)")


@pytest.fixture
def conn(database: str) -> Iterator[PostgresConnection]:
    """An index of 30 chunks, and 20 that are not searched; one has no vector and one that of another length."""
    with closing(PostgresConnection(Options(shared_server().local_url(database)))) as conn:
        for sql in (*FUNCTIONS, *TABLES):
            conn.execute(sql)
        rows = [(n, 1 if n <= 30 else 2, unit(direction(n)).tobytes()) for n in range(1, 51)]
        other = [(51, 1, None), (52, 1, unit([1.0] * (SIZE + 1)).tobytes())]
        for row in (*rows, *other):
            conn.execute("insert into knowledge_chunks values (?, ?, ?)", row)
        yield conn


def direction(n: int) -> list[float]:
    chance = random.Random(n)
    return [chance.gauss(0, 1) for _ in range(SIZE)]


def check(conn: PostgresConnection) -> None:
    wanted = {n: cosine(n) for n in range(11, 31)}
    found = cosine_similarities(conn, SCOPE, [*range(11, 100)], unit(direction(0)))
    assert found == pytest.approx(wanted, abs=1e-5)


def cosine(n: int) -> float:
    one, other = direction(0), direction(n)
    return sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other)


@pytest.mark.postgresql
def test_it_is_the_same_by_python_by_pgvector_and_while_the_column_is_filled(
    conn: PostgresConnection, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(conn)
    shared_server().execute("create extension vector", database)  # which takes a superuser
    conn.execute("begin")
    install_pgvector(conn)
    conn.execute("commit")
    assert has_pgvector(conn)
    check(conn)
    monkeypatch.setattr(vectors, "FILLED", 20)
    assert fill_pgvector(conn)
    check(conn)
    while fill_pgvector(conn):
        pass
    conn.execute("update knowledge_chunks set vector = null where index_id = 1 and embedding is null")
    check(conn)
    count = "select count(*) from knowledge_chunks where embedding is not null"
    assert conn.execute(count).fetchone()[0] == 51


@pytest.mark.postgresql
def test_without_the_right_to_create_the_extension_python_goes_on_and_the_log_says_why(
    conn: PostgresConnection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    conn.execute("begin")
    install_pgvector(conn)
    conn.execute("commit")
    assert not has_pgvector(conn)
    assert not fill_pgvector(conn)
    [record] = [one.getMessage() for one in caplog.records if one.name == "bytebrew_knowledge.vectors"]
    assert "compared by Python" in record
    assert "permission denied" in record
    check(conn)
