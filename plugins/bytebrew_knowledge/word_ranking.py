"""Ranking by BM25 in FTS5 that scores few of the chunks with common words.

One FTS5 index has the chunks of all bases, each with a term for its base. FTS5 computes document frequencies over all
of them, so each word's score is rescaled; otherwise other bases would distort the ranking within a base.

FTS5 takes about 25 ns to count a chunk with a word, and 600 ns to score it. So the chunks with the rarest words are
scored first, by all words, then those with the next ones, until none of the rest can be among the best (MaxScore,
Turtle and Flood 1995).
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import msgspec

from bytebrew import Connection

from .dialect import COUNT, LIVE, OTHERS, RANKED
from .postgres import rarity

MOST_BASES = 16
"""A search over more bases uses the document frequencies of the whole index."""
BOUND = 2.2
"""BM25 gives a word less than this times its inverse document frequency: k1 + 1, of FTS5's k1."""
TOGETHER = 1 / 25
"""Chunks of rare words that are scored in one query, of those of all words, which it has to count."""
EFFORT = 20_000
"""Scores of a word in a chunk after which no more chunks are scored, if there are enough."""
BATCH = 100


class Term(NamedTuple):
    """A word of a query: the factor of FTS5's scores, its highest score, and how many chunks FTS5 finds."""

    text: str
    weight: float
    highest: float
    chunks: int


def ranked(
    conn: Connection, params: Mapping[str, str], marks: Sequence[str], terms: Sequence[str], limit: int
) -> list[tuple[float, int]]:
    """The best chunks with any of the terms in the bases of these marks, with scores; a lower score is better."""
    whole: int = conn.execute("select count(*) from knowledge_chunks").fetchone()[0]
    totals = _counts(conn, terms)
    size, counts, within = whole, totals, ""
    if len(marks) <= MOST_BASES:
        bases = f"base : ({any_of(marks)})"
        size, within = _count(conn, bases), f"{bases} AND "
    if size < whole:
        counts = _counts(conn, totals, within)
    rare = [word for word in counts if counts[word] <= size / 2]
    narrow = within if size < whole / 4 else ""  # it makes each query count the chunks of the bases
    weighed = []
    for word in sorted(rare or counts, key=lambda word: counts[word]):
        total = rarity(totals[word], whole)
        own = rarity(counts[word], size) if rare else total
        weighed.append(Term(f'"{word}"', own / total, BOUND * own, (counts if narrow else totals)[word]))
    best = _best(conn, params, weighed, narrow, size if narrow else whole, limit)
    if rare and len(best) < limit:  # chunks with only common terms come last, unordered
        known = {chunk for _, chunk in best}
        others = conn.execute(OTHERS, {**params, "words": f"{within}({any_of(counts)})", "limit": limit})
        best += [(0.0, row["id"]) for row in others if row["id"] not in known]
    return best[:limit]


def any_of(terms: Iterable[str]) -> str:
    """The query for texts with any of some words."""
    return " OR ".join(f'"{term}"' for term in terms)


def _counts(conn: Connection, terms: Iterable[str], within: str = "") -> dict[str, int]:
    """How many chunks have each word, without those that none has."""
    counts = {word: _count(conn, f'{within}"{word}"') for word in terms}
    return {word: count for word, count in counts.items() if count}


def _count(conn: Connection, query: str) -> int:
    count: int = conn.execute(COUNT, (query,)).fetchone()[0]
    return count


def _best(
    conn: Connection, params: Mapping[str, str], terms: Sequence[Term], narrow: str, size: int, limit: int
) -> list[tuple[float, int]]:
    """The best chunks with any of the words, which are in the order of their highest scores."""
    best: dict[int, float] = {}
    effort, done, every = 0.0, 0, sum(term.chunks for term in terms)
    while done < len(terms):
        leading = [*_together(terms[done:], every * TOGETHER)]
        others = [*terms[:done], *terms[done + len(leading) :]]
        effort += sum(term.chunks for term in leading) * (1 + sum(term.chunks for term in others) / size)
        enough = len(best) == limit
        if enough and (effort > EFFORT or sum(term.highest for term in terms[done:]) <= -max(best.values())):
            break
        any_leading = " OR ".join(term.text for term in leading)
        matches = [(f"{narrow}{term.text}", term.weight, True) for term in leading]
        matches += [(f"{narrow}{term.text} AND ({any_leading})", term.weight, False) for term in others]
        found = {**_searched(conn, params, matches, limit), **best}
        best = dict(heapq.nsmallest(limit, found.items(), key=lambda scored: (scored[1], scored[0])))
        done += len(leading)
    return [(score, chunk) for chunk, score in best.items()]


def _together(terms: Sequence[Term], most: float) -> Iterator[Term]:
    """The first words, as many as have few chunks together."""
    count = 0
    for n, term in enumerate(terms):
        count += term.chunks
        if n and count > most:
            return
        yield term


def _searched(
    conn: Connection, params: Mapping[str, str], matches: Sequence[tuple[str, float, bool]], limit: int
) -> dict[int, float]:
    """The scores of the best chunks that are searched, of those with a leading word; some more than the limit."""
    best: dict[int, float] = {}
    scored = iter(conn.execute(RANKED, {"matches": _json(matches)}))
    while len(best) < limit and (batch := {row["id"]: row["score"] for row in islice(scored, BATCH)}):
        rows = conn.execute(LIVE, {**params, "ids": _json([*batch])})
        live = {row["id"] for row in rows}
        best |= {chunk: score for chunk, score in batch.items() if chunk in live}
    return best


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
