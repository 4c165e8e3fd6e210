"""Full-text search of chunks on either store: the words of queries and of chunks."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from bytebrew import Connection, dialect

from . import postgres, word_ranking
from .dialect import MARKED
from .postgres import Terms
from .vectors import fill_pgvector, install_pgvector
from .word_ranking import any_of

CANDIDATES = 50
"""Best matches of each kind of search that are merged."""
_MARKED = re.compile("\x02([^\x02\x03]+)\x03")
MAX_TERMS = 64


def ranked(conn: Connection, params: Mapping[str, str], bases: Sequence[str], text: str) -> list[tuple[float, int]]:
    """The best chunks with any term of the text, with scores; a lower score is better."""
    terms = _terms(text)
    if not terms or not bases:
        return []
    if dialect(conn) == "postgresql":
        return postgres.ranked(conn, params, bases, terms, CANDIDATES)
    return word_ranking.ranked(conn, params, [base_term(base) for base in bases], terms, CANDIDATES)


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
        params = {"ids": msgspec.json.encode(ids).decode(), "words": f"{{heading text}} : ({any_of(terms)})"}
        rows = conn.execute(MARKED, params)
    found = {n: _MARKED.findall(f"{heading} {text}".lower()) for n, heading, text in rows}
    return {n: [*dict.fromkeys(words)] for n, words in found.items() if words}


def _terms(text: str) -> list[str]:
    """The distinct terms of a text."""
    words = re.findall(r"\w+", unicodedata.normalize("NFC", text))  # FTS5 folds case, in a different way from Python
    return list({word.lower(): word for word in words if word.strip("_")}.values())[:MAX_TERMS]
