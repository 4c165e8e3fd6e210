"""The order of what words find is that of BM25 over all chunks, though few of them are scored."""

import math
import random
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import NamedTuple

import pytest
from bytebrew_knowledge import search_terms, word_ranking
from bytebrew_knowledge.tables import MIGRATIONS
from hypothesis import given, settings
from hypothesis import strategies as st

from bytebrew.store.sqlite import migrations

pytestmark = pytest.mark.sqlite

PARAMS = {"file": "", "metadata": "{}"}
BASES = ("base-1", "base-2", "base-3")


class Text(NamedTuple):
    base: str
    heading: list[str]
    words: list[str]


class Index:
    """A file with chunks; what is deleted of it stays in `texts` as None."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self.conn = conn
        self.texts: dict[int, Text] = {}
        for n, base in enumerate(BASES, 1):
            conn.execute("insert into knowledge_bases values (?, ?, '', null, '', '', null)", (base, base))
            for file in (n, n + 10):
                conn.execute(
                    """insert into knowledge_files
                    values (?, ?, ?, 'txt', 1, '', '', '{}', 1, 'ready', null, '', '', null)""",
                    (f"file-{file}", base, f"{file}.txt"),
                )
                state = "live" if file == n else "building"
                sql = "insert into knowledge_indexes values (?, ?, ?, 1, 1, '', '', 1, 1)"
                conn.execute(sql, (file, f"file-{file}", state))

    def add(self, texts: Sequence[Text], *, searched: bool = True) -> None:
        for text in texts:
            index = BASES.index(text.base) + (1 if searched else 11)
            sql = "select coalesce(max(position), 0) + 1 from knowledge_chunks where index_id = ?"
            position = self.conn.execute(sql, (index,)).fetchone()[0]
            row = self.conn.execute(
                """insert into knowledge_chunks (base, index_id, position, heading, text)
                values (?, ?, ?, ?, ?) returning id""",
                (search_terms.base_term(text.base), index, position, " ".join(text.heading), " ".join(text.words)),
            ).fetchone()
            if searched:
                self.texts[row["id"]] = text

    def delete(self, chunks: Sequence[int]) -> None:
        for chunk in chunks:
            del self.texts[chunk]
            self.conn.execute("delete from knowledge_chunks where id = ?", (chunk,))

    def scores(self, bases: Sequence[str], query: Sequence[str]) -> dict[int, float]:
        """BM25 of every chunk of the bases with a word that at most half of them have."""
        length = sum(1 + len(text.heading) + len(text.words) for text in self.texts.values()) / len(self.texts)
        here = {chunk: text for chunk, text in self.texts.items() if text.base in bases}
        scores: defaultdict[int, float] = defaultdict(float)
        for word in query:
            having = [chunk for chunk, text in here.items() if word in text.heading + text.words]
            if len(having) > len(here) / 2:
                continue
            weight = math.log((len(here) - len(having) + 0.5) / (len(having) + 0.5))
            for chunk in having:
                text = here[chunk]
                often = 1.5 * text.heading.count(word) + text.words.count(word)
                size = 1 + len(text.heading) + len(text.words)
                scores[chunk] += max(weight, 1e-6) * often * 2.2 / (often + 1.2 * (0.25 + 0.75 * size / length))
        return dict(scores)

    def found(self, bases: Sequence[str], query: Sequence[str]) -> list[tuple[float, int]]:
        params = {**PARAMS, "bases": "[" + ",".join(f'"{base}"' for base in bases) + "]"}
        return search_terms.ranked(self.conn, params, bases, " ".join(query))

    def check(self, bases: Sequence[str], query: Sequence[str]) -> None:
        scores, found = self.scores(bases, query), self.found(bases, query)
        assert len({chunk for _, chunk in found}) == len(found)
        if not scores:  # words of more than half of the chunks tell little
            return
        ranked = {chunk: -score for score, chunk in found if score}
        best = sorted(scores.values(), reverse=True)[: search_terms.CANDIDATES]
        assert [*ranked.values()] == pytest.approx(best, abs=1e-5)
        assert ranked == pytest.approx({chunk: scores[chunk] for chunk in ranked}, abs=1e-5)


@contextmanager
def empty() -> Iterator[Index]:
    """An index in memory."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        conn.row_factory = sqlite3.Row
        conn.execute("create table agents (id text primary key) strict, without rowid")
        for migration in MIGRATIONS:
            conn.executescript(migrations.text(migration))
        yield Index(conn)


@pytest.fixture
def index() -> Iterator[Index]:
    with empty() as index:
        yield index


def prose(chance: random.Random, base: str, words: Sequence[str]) -> Text:
    """A text whose words are as frequent as in a language (Zipf 1949)."""
    often = [1 / rank for rank in range(1, len(words) + 1)]
    return Text(base, chance.choices(words, k=1), chance.choices(words, often, k=chance.randint(20, 60)))


WORDS = [f"w{n}" for n in range(30)]
TEXTS = st.builds(
    Text,
    st.sampled_from(BASES),
    st.lists(st.sampled_from(WORDS[:6]), max_size=2),
    st.lists(st.sampled_from(WORDS[:12]), min_size=1, max_size=12),
)


@settings(deadline=None, max_examples=60)
@given(
    texts=st.lists(TEXTS, min_size=1, max_size=40),
    later=st.lists(TEXTS, max_size=10),
    gone=st.sets(st.integers(0, 39)),
    query=st.lists(st.sampled_from(WORDS[:14]), min_size=1, max_size=6, unique=True),
    bases=st.lists(st.sampled_from(BASES), min_size=1, unique=True),
)
def test_few_chunks_are_ranked_as_bm25_does(
    texts: list[Text], later: list[Text], gone: set[int], query: list[str], bases: list[str]
) -> None:
    with empty() as index:
        index.add(texts)
        index.delete([chunk for n, chunk in enumerate([*index.texts]) if n in gone])
        index.add(later)
        if index.texts:
            index.check(bases, query)


@pytest.mark.parametrize("bases", [BASES[:1], BASES[1:2], BASES[:2], BASES])
def test_the_best_of_many_chunks_are_those_of_bm25_over_all(index: Index, bases: tuple[str, ...]) -> None:
    chance = random.Random(1)
    words = [f"w{n}" for n in range(2000)]
    index.add([prose(chance, chance.choices(BASES, (80, 15, 5))[0], words) for _ in range(3000)])
    for length in (1, 2, 4, 8):
        for _ in range(5):
            index.check(bases, [*dict.fromkeys(chance.choices(words[5:], [1 / n for n in range(5, 2000)], k=length))])


def test_what_is_not_searched_takes_no_place(index: Index) -> None:
    chance = random.Random(2)
    index.add([prose(chance, BASES[0], WORDS) for _ in range(100)])
    hidden = [Text(BASES[0], [], ["w20", "w21", "w22"]) for _ in range(400)]
    index.add(hidden, searched=False)
    query = ["w20", "w21", "w22"]
    having = {chunk for chunk, text in index.texts.items() if {*query} & {*text.words, *text.heading}}
    found = {chunk for _, chunk in index.found(BASES[:1], query)}
    assert found <= having
    assert len(found) == search_terms.CANDIDATES < len(having)


def test_with_little_effort_nearly_all_of_the_ten_best_are_found(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(3)
    words = [f"w{n}" for n in range(2000)]
    index.add([prose(chance, BASES[0], words) for _ in range(3000)])
    queries = [chance.choices(words[5:], [1 / n for n in range(5, 2000)], k=15) for _ in range(20)]
    best = [[chunk for _, chunk in index.found(BASES[:1], query)][:10] for query in queries]
    monkeypatch.setattr(word_ranking, "EFFORT", 1000)
    quickly = [[chunk for _, chunk in index.found(BASES[:1], query)][:10] for query in queries]
    assert quickly != best
    assert sum(len({*one} & {*other}) for one, other in zip(best, quickly, strict=True)) >= 190
