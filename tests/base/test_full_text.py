"""Texts and queries of any kind: PostgreSQL takes them, and finds what FTS5 finds."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bytebrew.base.full_text.tokenizer import Tokenizer
from bytebrew.testing.postgres import shared_server

TABLE = """create virtual table texts using fts5 (heading, body, tokenize = "porter unicode61 remove_diacritics 2")"""
ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
TEXT = st.lists(
    st.sampled_from(["cat", "Cats", "dog's", "pump-house", "a_b", "\u00e9", "'", "\\", ":*", "x" * 600]) | ANY
)


@pytest.fixture(scope="module")
def conn() -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(shared_server().local_url(user="postgres"), autocommit=True) as conn:
        yield conn


def found_by_fts5(heading: str, body: str, word: str) -> bool:
    with closing(sqlite3.connect(":memory:")) as memory:
        memory.execute(TABLE)
        memory.execute("insert into texts values (?, ?)", (heading, body))
        return memory.execute("select 1 from texts where texts match ?", (f'"{word}"',)).fetchone() is not None


@pytest.mark.postgresql
@given(heading=TEXT.map(" ".join), body=TEXT.map(" ".join), query=TEXT.map(" ".join))
@example("Pump", "house", "pump_house")
@example("", "pump-house", "pump_house")
@example("x' & y", "\\\\ ' \\'", "x' | 'y")
def test_postgresql_finds_what_fts5_finds(conn: psycopg.Connection[Any], heading: str, body: str, query: str) -> None:
    terms = re.findall(r"\w+", query)
    with Tokenizer() as tokenizer:
        vector = tokenizer.vectors([(heading, body)], "=mark")[0]
        phrases = tokenizer.phrases(terms)
    for word in terms:
        sql = "select cast(%s as tsvector) @@ cast(%s as tsquery)"
        found = word in phrases and conn.execute(sql, (vector.text, phrases[word].text)).fetchone() == (True,)
        assert found == found_by_fts5(heading, body, word), word
    sql = "select cast(%s as tsvector) @@ cast(%s as tsquery)"
    assert conn.execute(sql, (vector.text, Tokenizer.quoted("=mark"))).fetchone() == (True,)


@given(st.lists(st.tuples(ANY, ANY), max_size=120))
def test_each_text_of_many_has_the_vector_that_it_has_alone(pairs: list[tuple[str, str]]) -> None:
    with Tokenizer() as tokenizer:
        assert tokenizer.vectors(pairs) == [tokenizer.vectors([pair])[0] for pair in pairs]


@pytest.mark.postgresql
def test_a_long_text_keeps_to_the_positions_that_there_are(conn: psycopg.Connection[Any]) -> None:
    with Tokenizer() as tokenizer:
        vector = tokenizer.vectors([("", "word " * 20_000)])[0]
    assert vector.length == 20_000
    assert conn.execute("select length(cast(%s as tsvector))", (vector.text,)).fetchone() == (1,)
