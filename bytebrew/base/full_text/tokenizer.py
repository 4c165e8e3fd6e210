"""The tokenizer of FTS5 (unicode61 without diacritics, then Porter's stemmer), for full-text search on PostgreSQL.

SQLite itself runs it, in memory, so that both stores find the same words: PostgreSQL's parser divides words with
hyphens, numbers and addresses in another way, and its stemmers and stop words are those of one language.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import NamedTuple

_TABLES = """
create virtual table texts using fts5 (heading, body, tokenize = "porter unicode61 remove_diacritics 2");
create virtual table tokens using fts5vocab (texts, 'instance');
"""
_TOKENS = "select doc, term, col, offset from tokens order by doc, col desc, offset"
_MARKED = """select highlight(texts, 0, char(2), char(3)) as heading, highlight(texts, 1, char(2), char(3)) as body
  from texts where texts match ? and rowid = 0"""
_BATCH = 50
_LONGEST = 512
"""Bytes of a word; PostgreSQL takes up to 2,046, and an entry of an index less."""
_LAST_POSITION = 16_383
"""PostgreSQL's largest: further words of a text share it."""
_GAP = 2
"""Keeps a phrase from reaching from the heading into the body."""


class WordVector(NamedTuple):
    """A text as PostgreSQL's `tsvector`, and the number of its words."""

    text: str
    length: int


class Phrase(NamedTuple):
    """A word of a query as PostgreSQL's `tsquery`: the tokens that it is divided into, one behind the other."""

    text: str
    tokens: tuple[str, ...]


class Tokenizer:
    """Divides texts into words, within `with` and in one thread."""

    def __init__(self) -> None:
        self._conn = sqlite3.connect(":memory:", isolation_level=None)
        self._conn.executescript(_TABLES)

    def __enter__(self) -> "Tokenizer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._conn.close()

    def vectors(self, pairs: Iterable[tuple[str, str]], *marks: str) -> list[WordVector]:
        """The vector of each heading and body; words of the heading have the weight A.

        The marks are further words of each vector. They begin with a character that no word of a text has, such as `=`.
        """
        waiting, found = [*pairs], list[WordVector]()
        for start in range(0, len(waiting), _BATCH):
            batch = waiting[start : start + _BATCH]
            positions: list[dict[str, list[str]]] = [{} for _ in batch]
            lengths = [0] * len(batch)
            last = [0] * len(batch)
            for n, token, column, offset in self._tokens(batch):
                place = offset + 1
                if column == "heading":
                    last[n] = place
                else:
                    place += last[n] + _GAP
                weight = "A" if column == "heading" else ""
                positions[n].setdefault(token, []).append(f"{min(place, _LAST_POSITION)}{weight}")
                lengths[n] += 1
            found += [WordVector(_vector(own, marks), length) for own, length in zip(positions, lengths, strict=True)]
        return found

    def phrases(self, terms: Iterable[str]) -> dict[str, Phrase]:
        """The words of a query that have a token, with these."""
        wanted = [*dict.fromkeys(terms)]
        tokens: dict[str, list[str]] = {}
        for n, token, _, _ in self._tokens([("", word) for word in wanted]):
            tokens.setdefault(wanted[n], []).append(token)
        return {word: Phrase(" <-> ".join(map(Tokenizer.quoted, own)), (*own,)) for word, own in tokens.items()}

    def marked(self, heading: str, body: str, terms: Iterable[str]) -> tuple[str, str]:
        """The texts with each word that matches one of the query's between the characters 2 and 3."""
        self._fill([(heading, body)])
        query = " OR ".join('"{}"'.format(word.replace('"', '""')) for word in terms)
        row = self._conn.execute(_MARKED, (query,)).fetchone() if query else None
        return row or (heading, body)

    @staticmethod
    def quoted(word: str) -> str:
        """A word in quotation marks, as in `tsvector` and `tsquery`."""
        escaped = word.replace("\\", "\\\\").replace("'", "''")
        return f"'{escaped}'"

    def _tokens(self, pairs: Sequence[tuple[str, str]]) -> Iterable[tuple[int, str, str, int]]:
        """The tokens of pairs: the number of the pair, the token as it is indexed, its column, its place there."""
        self._fill(pairs)
        return ((n, _short(token), column, offset) for n, token, column, offset in self._conn.execute(_TOKENS))

    def _fill(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._conn.execute("begin")
        self._conn.execute("delete from texts")
        rows = ((n, *pair) for n, pair in enumerate(pairs))
        self._conn.executemany("insert into texts (rowid, heading, body) values (?, ?, ?)", rows)
        self._conn.execute("commit")


def _vector(positions: Mapping[str, Sequence[str]], marks: Iterable[str]) -> str:
    words = (f"{Tokenizer.quoted(word)}:{','.join(places)}" for word, places in positions.items())
    return " ".join((*map(Tokenizer.quoted, marks), *words))


def _short(token: str) -> str:
    """The token, or the digest of one that is too long for an index."""
    return token if len(raw := token.encode()) <= _LONGEST else hashlib.sha256(raw).hexdigest()
