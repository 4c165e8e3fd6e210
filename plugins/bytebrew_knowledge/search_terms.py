"""Full-text search: BM25 with the inverse document frequency of the searched bases.

One FTS5 index has the chunks of all bases, each with a term for its base. FTS5 computes document frequencies over all
of them, so each term's score is rescaled; otherwise other bases would distort the ranking within a base.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from bytebrew import Connection, dialect

from . import postgres
from .dialect import COUNT, MARKED, OTHERS, RANKED
from .postgres import Terms, rarity
from .vectors import fill_pgvector, install_pgvector

CANDIDATES = 50
"""Best matches of each kind of search that are merged."""
_MARKED = re.compile("\x02([^\x02\x03]+)\x03")
MAX_TERMS = 64
MOST_BASES = 16
"""A search over more bases uses the document frequencies of the whole index."""


def ranked(conn: Connection, params: Mapping[str, str], bases: Sequence[str], text: str) -> list[tuple[float, int]]:
    """The best chunks with any term of the text, with scores; a lower score is better."""
    terms = _terms(text)
    if not terms or not bases:
        return []
    if dialect(conn) == "postgresql":
        return postgres.ranked(conn, params, bases, terms, CANDIDATES)
    if len(bases) > MOST_BASES:
        return _weighed(conn, params, [(_any(terms), 1.0)])
    within = f"base : ({_any([base_term(base) for base in bases])})"
    size = _count(conn, within)
    counts = {word: _count(conn, f'{within} AND "{word}"') for word in terms}
    there = [word for word, count in counts.items() if count]
    rare = [word for word in there if counts[word] <= size / 2]
    anything = f"{within} AND ({_any(there or terms)})"
    if not rare:
        return _weighed(conn, params, [(anything, 1.0)])
    whole: int = conn.execute("select count(*) from knowledge_chunks").fetchone()[0]
    weights = [rarity(counts[word], size) / rarity(_count(conn, f'"{word}"'), whole) for word in rare]
    best = _weighed(conn, params, [(f'{within} AND "{word}"', one) for word, one in zip(rare, weights, strict=True)])
    if len(best) < CANDIDATES:  # chunks with only common terms come last, unordered
        known = {chunk for _, chunk in best}
        others = conn.execute(OTHERS, {**params, "words": anything, "limit": CANDIDATES})
        best += [(0.0, row["id"]) for row in others if row["id"] not in known]
    return best[:CANDIDATES]


def _weighed(
    conn: Connection, params: Mapping[str, str], weights: Sequence[tuple[str, float]]
) -> list[tuple[float, int]]:
    rows = conn.execute(RANKED, {**params, "weights": msgspec.json.encode(weights).decode(), "limit": CANDIDATES})
    return [(row["score"], row["id"]) for row in rows]


def base_term(base_id: str) -> str:
    """The term that marks the chunks of a base in the index."""
    return base_id.replace("-", "")


def term_vectors(conn: Connection, texts: Sequence[tuple[str, str]], base: str) -> Sequence[Terms | None]:
    """The words of chunks of a base, to be stored with them, unless the database divides texts itself."""
    return postgres.term_vectors(texts, base) if dialect(conn) == "postgresql" else [None] * len(texts)


def prepare(conn: Connection) -> None:
    """Prepares the database for searches, at the start."""
    if dialect(conn) == "postgresql":
        install_pgvector(conn)


def complete(conn: Connection) -> bool:
    """Adds what is missing for searches to a batch of chunks; returns whether there may be more."""
    if dialect(conn) != "postgresql":
        return False
    return postgres.complete(conn) or fill_pgvector(conn)


def matching(conn: Connection, ids: Sequence[int], text: str) -> dict[int, list[str]]:
    """The words of chunks that a term of the text matches, in lower case and in the order in which they come."""
    if not (terms := _terms(text)):
        return {}
    rows: Iterable[tuple[int, str, str]]
    if dialect(conn) == "postgresql":
        rows = postgres.marked(conn, ids, terms)
    else:
        params = {"ids": msgspec.json.encode(ids).decode(), "words": f"{{heading text}} : ({_any(terms)})"}
        rows = conn.execute(MARKED, params)
    found = {n: _MARKED.findall(f"{heading} {text}".lower()) for n, heading, text in rows}
    return {n: [*dict.fromkeys(words)] for n, words in found.items() if words}


def _terms(text: str) -> list[str]:
    """The distinct terms of a text."""
    words = re.findall(r"\w+", unicodedata.normalize("NFC", text))  # FTS5 folds case, in a different way from Python
    return list({word.lower(): word for word in words if word.strip("_")}.values())[:MAX_TERMS]


def _any(terms: Sequence[str]) -> str:
    return " OR ".join(f'"{word}"' for word in terms)


def _count(conn: Connection, query: str) -> int:
    count: int = conn.execute(COUNT, (query,)).fetchone()[0]
    return count
