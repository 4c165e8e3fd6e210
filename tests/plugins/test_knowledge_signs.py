"""What is most like a query is found by the signs of the vectors alone, as deletions and new chunks come."""

import heapq
import math
import random
import sqlite3
import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from types import SimpleNamespace
from typing import cast

import anyio
import pytest
from bytebrew_knowledge import search, signs
from bytebrew_knowledge.signs import SIGNS, Signs
from bytebrew_knowledge.vectors import unit
from hypothesis import given, settings
from hypothesis import strategies as st

from bytebrew import Connection, Engine
from bytebrew.testing import providing, served_engine
from tests.documents import BASES, create, found, put, settled
from tests.plugins.test_knowledge import Meanings, chunks, embedding

TABLES = """
create table knowledge_chunks (id integer primary key, base text, index_id integer, vector blob);
create table knowledge_indexes (id integer primary key, signature text);
insert into knowledge_indexes values (1, 'one'), (2, 'other');
"""
SIZE = 384


@pytest.fixture
def conn() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        conn.executescript(TABLES)
        yield conn


def add(conn: Connection, base: str, vectors: Sequence[Sequence[float]], index: int = 1) -> None:
    rows = [(base, index, unit(one).tobytes()) for one in vectors]
    conn.executemany("insert into knowledge_chunks (base, index_id, vector) values (?, ?, ?)", rows)


def load(conn: sqlite3.Connection, known: Signs) -> None:
    while known.read(conn):
        pass


def clustered(chance: random.Random, count: int, common: float = 0.0) -> list[list[float]]:
    """Vectors in clusters, as those of texts are: the topics of texts differ more than texts of a topic.

    Many models' vectors have a lot in common.
    """
    dice = random.Random(0)
    shared = [dice.gauss(0, common) for _ in range(SIZE)]
    topics = [[dice.gauss(value, 1) for value in shared] for _ in range(4)]
    return [[value + chance.gauss(0, 0.8) for value in chance.choice(topics)] for _ in range(count)]


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(map(float.__mul__, one, other)) / math.hypot(*one) / math.hypot(*other)


@pytest.mark.parametrize("common", [0.0, 3.0])
def test_of_thousands_the_ten_most_similar_are_among_the_300(conn: sqlite3.Connection, common: float) -> None:
    chance, known = random.Random(1), Signs()
    vectors = clustered(chance, 2000, common)
    add(conn, "base", vectors)
    load(conn, known)
    assert hits(known, vectors, clustered(chance, 10, common)) >= 95


def test_models_whose_vectors_are_as_long_have_a_mean_each(conn: sqlite3.Connection) -> None:
    chance, known = random.Random(1), Signs()
    opposite = [[-value for value in one] for one in clustered(chance, 500, 3.0)]
    add(conn, "else", opposite, index=2)
    add(conn, "base", vectors := clustered(chance, 2000, 3.0))
    load(conn, known)
    assert hits(known, vectors, clustered(chance, 10, 3.0), first=501) >= 95
    assert known.nearest("base", "other", unit(opposite[0]), 1) == []


def hits(
    known: Signs, vectors: Sequence[Sequence[float]], queries: Sequence[Sequence[float]], *, first: int = 1
) -> int:
    """How many of the ten most similar vectors of each query are among the 300."""
    found = 0
    for query in queries:
        best = heapq.nlargest(10, range(len(vectors)), key=lambda n: cosine(query, vectors[n]))
        found += len({n + first for n in best} & {*known.nearest("base", "one", unit(query), 300)})
    return found


@settings(deadline=None, max_examples=50)
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    gone=st.lists(st.integers(1, 200), max_size=60),
    limit=st.integers(1, 30),
    slab=st.integers(1, 60),
    batch=st.integers(1, 50),
)
def test_it_is_so_however_chunks_come_and_go(
    counts: list[int], gone: list[int], limit: int, slab: int, batch: int
) -> None:
    """The sums are those that are computed chunk by chunk; the chunks of other bases have no part in it."""
    chance, known = random.Random(sum(counts)), Signs()
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as conn, pytest.MonkeyPatch.context() as patch:
        patch.setattr(signs, "_SLAB", slab)
        patch.setattr(signs, "_READ", batch)
        conn.executescript(TABLES)
        for n, count in enumerate(counts):
            add(conn, f"base-{n % 2}", [[chance.gauss(0, 1) for _ in range(16)] for _ in range(count)])
            load(conn, known)
        query = unit([chance.gauss(0, 1) for _ in range(16)])
        rows = conn.execute("select id, vector from knowledge_chunks where base = 'base-0'").fetchall()
        first = conn.execute("select vector from knowledge_chunks limit ?", (min(batch, counts[0]),)).fetchall()
        mean = [sum(values) / len(first) for values in zip(*(array("f", vector) for (vector,) in first), strict=True)]
        sums = {chunk: differing(query, array("f", vector), array("f", mean)) for chunk, vector in rows}
        nearest = known.nearest("base-0", "one", query, limit)
        assert sorted(sums[chunk] for chunk in nearest) == sorted(sums.values())[:limit]
        assert len({*nearest}) == len(nearest)
        assert {*known.nearest("base-0", "one", query, limit, {*gone})} <= sums.keys() & {*gone}
        assert len(known.nearest("base-0", "one", query, 300, {*gone})) == len(sums.keys() & {*gone})


def differing(query: "array[float]", vector: "array[float]", mean: "array[float]") -> int:
    own = [value - middle for value, middle in zip(query, mean, strict=True)]
    scale = len(own) ** 0.5 / (math.hypot(*own) or 1)
    return sum(
        min(3, int(abs(difference) * scale + 0.5))
        for difference, value, middle in zip(own, vector, mean, strict=True)
        if (difference < 0) != (place(value) < place(middle))
    )


def place(value: float) -> int:
    """The place of a float among those that have the same first bits."""
    bits: int = struct.unpack("I", struct.pack("f", value))[0]
    return ((bits ^ 0xFFFFFFFF) if bits >> 31 else (bits | 0x80000000)) >> 17


@pytest.mark.sqlite
async def test_the_mean_of_few_vectors_is_computed_again_as_more_come() -> None:
    chance = random.Random(1)
    vectors = clustered(chance, 3) + clustered(chance, 2000, 3.0)
    async with served_engine() as (engine, _):
        known = engine.state[SIGNS]
        for some in (vectors[:3], vectors[3:]):
            await engine.db.write(insert, some)
            await known.load(engine)
            await known.load(engine)
        assert hits(known, vectors, clustered(chance, 10, 3.0)) >= 95


async def test_while_all_is_read_again_searches_use_what_is_known(conn: sqlite3.Connection) -> None:
    known = Signs()
    add(conn, "base", [[1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]])
    load(conn, known)
    meanwhile: list[list[int]] = []

    async def reading(work: Callable[[Connection], bool]) -> bool:
        meanwhile.append(known.nearest("base", "one", unit([1, 1, 1]), 1))
        return work(conn)

    conn.execute("delete from knowledge_chunks where id = 1")
    known.outdate()
    await known.load(cast(Engine, SimpleNamespace(db=SimpleNamespace(read=reading))))
    assert meanwhile == [[1], [2]]


def insert(conn: Connection, vectors: Sequence[Sequence[float]]) -> None:
    (last,) = conn.execute("select count(*) from knowledge_chunks").fetchone()
    conn.execute(
        """insert into knowledge_indexes (id, file_id, state, revision, reader, model, signature, done, total)
        values (1, '', 'ready', 1, 1, '', 'one', 0, 0) on conflict do nothing"""
    )
    conn.executemany(
        """insert into knowledge_chunks (base, index_id, position, heading, text, vector)
        values ('base', 1, ?, '', '', ?)""",
        [(n, unit(one).tobytes()) for n, one in enumerate(vectors, last + 1)],
    )


async def test_an_id_that_is_taken_again_is_that_of_the_new_chunk(conn: sqlite3.Connection) -> None:
    known = Signs()
    add(conn, "base", [[1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]])
    load(conn, known)
    conn.execute("delete from knowledge_chunks where id = 2")
    await known.forget(1)
    add(conn, "base", [[-1.0, -1.0, -1.0], [1.0, 1.0, -1.0]])
    load(conn, known)
    queries = ([-1, -1, -1], [1, 1, -1], [1, 1, 1])
    assert [known.nearest("base", "one", unit(query), 1) for query in queries] == [[2], [3], [1]]


class Opposites(Meanings):
    """Makes vectors that differ in their signs."""

    def _vector(self, text: str) -> list[float]:
        return [value - 0.5 for value in super()._vector(text)]


async def test_a_file_that_takes_the_place_of_a_deleted_one_is_found_by_its_meaning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search, "MOST_ALIKE", 1)
    async with served_engine(providing(Opposites())) as (engine, client):
        await embedding(client)
        await create(client, embedding_model="meanings")
        await put(client, "a.md", "A car.")
        await settled(client)
        for name, text, query in (("b.md", "A dog.", "hound"), ("c.md", "A boat.", "vessel")):
            await put(client, name, text)
            await settled(client)
            assert [hit["text"] for hit in await found(client, query)] == [text]
            assert (await client.delete(f"{BASES}/docs/files/{name}")).status_code == 204
            with anyio.fail_after(5):
                while await chunks(engine) > 1:
                    await anyio.sleep(0.02)
            assert [hit["text"] for hit in await found(client, query)] == ["A car."]


@pytest.mark.sqlite
async def test_a_file_that_takes_the_place_of_a_forgotten_persons_is_found_by_its_meaning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search, "MOST_ALIKE", 1)
    async with served_engine(providing(Opposites())) as (engine, client):
        await embedding(client)
        await create(client, embedding_model="meanings")
        await put(client, "a.md", "A car.")
        await settled(client)
        await put(client, "b.md", "A dog.", metadata='{"user_sub": "ann"}')
        await settled(client)
        assert [hit["text"] for hit in await found(client, "hound")] == ["A dog."]
        assert (await client.delete("/api/v1/users/ann")).status_code == 200
        assert await chunks(engine) == 1
        await put(client, "c.md", "A boat.")
        await settled(client)
        assert [hit["text"] for hit in await found(client, "vessel")] == ["A boat."]
