"""Ranking by BM25 in FTS5 that scores few of the chunks with common words.

One FTS5 index has the chunks of all bases, each with a term for its base. FTS5 computes document frequencies over all
of them, so each word's score is rescaled; otherwise other bases would distort the ranking within a base.

FTS5 takes about 25 ns to count a chunk with a word, and 600 ns to score it. So the chunks with the rarest words are
scored first, by all words, then those with the next ones, until none of the rest can be among the best (MaxScore,
Turtle and Flood 1995).
"""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from bytebrew import Connection

from .dialect import ALONE, BEST, COUNT, LIVE, OTHERS, RANKED
from .postgres import rarity

MOST_BASES = 16
"""A search over more bases uses the document frequencies of the whole index."""
BOUND = 2.2
"""BM25 gives a word less than this times its inverse document frequency: k1 + 1, of FTS5's k1."""
LIKELY = 0.3
"""Score of the last chunk that is returned, as a part of the highest possible one."""
EFFORT = 20_000
"""Scores of a word in a chunk after which no more chunks are scored, if there are enough."""
BATCH = 100
ALL = 2**31


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
    if len(marks) <= MOST_BASES and not conn.execute(ALONE, params).fetchone():
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
        weighed.append(Term(word, own / total, BOUND * own, (counts if narrow else totals)[word]))
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
    highest = sum(term.highest for term in terms)
    each = 1 + sum(term.chunks for term in terms) / max(size, 1)  # scores per chunk, about
    needed, effort, done = LIKELY * highest, 0.0, 0
    while highest > needed:
        leading: list[Term] = []
        while done < len(terms) and (not leading or highest > needed):
            effort += terms[done].chunks * each
            if effort > EFFORT and (leading or len(best) == limit):
                break
            leading.append(terms[done])
            highest -= terms[done].highest
            done += 1
        if not leading:
            break
        found = {**_searched(conn, params, leading, terms, narrow, limit), **best}
        best = dict(heapq.nsmallest(limit, found.items(), key=lambda scored: (scored[1], scored[0])))
        needed = -max(best.values()) if len(best) == limit else 0.0
    return [(score, chunk) for chunk, score in best.items()]


def _matches(leading: Sequence[Term], terms: Sequence[Term], narrow: str) -> list[tuple[str, float, bool]]:
    """The queries for all chunks with a leading word, whose scores are those of all words."""
    first = any_of(term.text for term in leading)
    others = [term for term in terms if term not in leading]
    matches = [(f'{narrow}"{term.text}"', term.weight, True) for term in leading]
    return matches + [(f'{narrow}"{term.text}" AND ({first})', term.weight, False) for term in others]


def _searched(
    conn: Connection,
    params: Mapping[str, str],
    leading: Sequence[Term],
    terms: Sequence[Term],
    narrow: str,
    limit: int,
) -> dict[int, float]:
    """The scores of the best chunks that are searched, of those with a leading word; some more than the limit."""
    best: dict[int, float] = {}
    for most in (4 * limit, ALL):
        scored = _scored(conn, leading, terms, narrow, most)
        best = {}
        for start in range(0, len(scored), BATCH):
            batch = {chunk: round(score, 9) for score, chunk in scored[start : start + BATCH]}
            live = {row["id"] for row in conn.execute(LIVE, {**params, "ids": _json([*batch])})}
            best |= {chunk: score for chunk, score in batch.items() if chunk in live}
            if len(best) >= limit:
                return best
        if len(scored) < most:
            break
    return best


def _scored(
    conn: Connection, leading: Sequence[Term], terms: Sequence[Term], narrow: str, most: int
) -> list[tuple[float, int]]:
    """The scores and ids of the best chunks with a leading word, best first."""
    weights = {term.weight for term in terms}
    if len(weights) > 1:
        matches = _json(_matches(leading, terms, narrow))
        return [(score, chunk) for score, chunk in conn.execute(RANKED, {"matches": matches, "limit": most})]
    first, others = any_of(term.text for term in leading), any_of(term.text for term in terms if term not in leading)
    scores: dict[int, float] = {}  # by the leading words, or at last by all of them
    for match in [f"{narrow}({first})"] + [f"{narrow}({others}) AND ({first})"] * bool(others):
        scores |= {chunk: score for score, chunk in conn.execute(BEST, {"match": match, "limit": most})}
    return sorted((score * min(weights), chunk) for chunk, score in scores.items())[:most]


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
