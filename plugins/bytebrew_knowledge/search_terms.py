"""The search for words: BM25 by how rare a word is in the bases that are searched.

One FTS5 index holds the chunks of every base, each with a word for its base. How rare a word is, FTS5 counts over all
of them, so each word's score is weighed anew; otherwise what is in other bases would hide the best chunks of a base.
"""

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence

import msgspec

from bytebrew import Connection

CANDIDATES = 50
"""The best that are put in one order with those of another kind."""
MOST_WORDS = 64
MOST_BASES = 16
"""Bases in which it is counted how rare a word is; where a search is of more, what counts is the whole index."""
SCOPE = """knowledge_indexes i join knowledge_files f on f.id = i.file_id
  where i.state = 'live' and f.base_id in (select value from json_each(:bases))
  and (:file in ('', f.name) or f.id = lower(:file))
  and not exists (select 1 from json_each(:metadata) w
    where w.value is not (select h.value from json_each(f.metadata) h where h.key = w.key))"""
"""The indexes that are searched: a part of a statement with the parameters `bases`, `file` and `metadata`."""
_FOUND = f"""knowledge_words w join knowledge_chunks c on c.id = w.rowid
  where w.knowledge_words match {{words}} and c.index_id in (select i.id from {SCOPE})"""  # noqa: S608
_RANKED = f"""with found as materialized (
    select w.rowid as id, json_extract(p.value, '$[1]') * bm25(knowledge_words, 0.0, 1.5, 1.0) as score
    from json_each(:weights) p cross join {_FOUND.format(words="json_extract(p.value, '$[0]')")})
  select sum(score) as score, id from found group by id order by score, id limit {CANDIDATES}"""  # noqa: S608
_OTHERS = f"select w.rowid as id from {_FOUND.format(words=':words')} limit {CANDIDATES}"  # noqa: S608


def ranked(conn: Connection, given: Mapping[str, str], bases: Sequence[str], text: str) -> list[tuple[float, int]]:
    """The best chunks of the bases that have any of the words, each with a score that is the less the better."""
    words = _words(text)
    if not words or not bases:
        return []
    if len(bases) > MOST_BASES:
        return _weighed(conn, given, [(_any(words), 1.0)])
    within = f"base : ({_any([word_of(base) for base in bases])})"
    size = _count(conn, within)
    counts = {word: _count(conn, f'{within} AND "{word}"') for word in words}
    there = [word for word, count in counts.items() if count]
    rare = [word for word in there if counts[word] <= size / 2]
    anything = f"{within} AND ({_any(there or words)})"
    if not rare:
        return _weighed(conn, given, [(anything, 1.0)])
    whole: int = conn.execute("select count(*) from knowledge_chunks").fetchone()[0]
    weights = [_rarity(counts[word], size) / _rarity(_count(conn, f'"{word}"'), whole) for word in rare]
    best = _weighed(conn, given, [(f'{within} AND "{word}"', one) for word, one in zip(rare, weights, strict=True)])
    if len(best) < CANDIDATES:  # what only has words that most chunks have comes last, in no order
        known = {chunk for _, chunk in best}
        others = conn.execute(_OTHERS, {**given, "words": anything})
        best += [(0.0, row["id"]) for row in others if row["id"] not in known]
    return best[:CANDIDATES]


def _weighed(
    conn: Connection, given: Mapping[str, str], weights: Sequence[tuple[str, float]]
) -> list[tuple[float, int]]:
    rows = conn.execute(_RANKED, {**given, "weights": msgspec.json.encode(weights).decode()})
    return [(row["score"], row["id"]) for row in rows]


def word_of(base_id: str) -> str:
    """The word by which the index knows the chunks of a base."""
    return base_id.replace("-", "")


def _words(text: str) -> list[str]:
    """The words of a text, each once, whatever is between them."""
    found = re.findall(r"\w+", unicodedata.normalize("NFC", text))  # FTS5 knows no case, and Python another one
    return list({word.lower(): word for word in found if word.strip("_")}.values())[:MOST_WORDS]


def _any(words: Sequence[str]) -> str:
    return " OR ".join(f'"{word}"' for word in words)


def _count(conn: Connection, words: str) -> int:
    sql = "select count(*) from knowledge_words where knowledge_words match ?"
    found: int = conn.execute(sql, (words,)).fetchone()[0]
    return found


def _rarity(count: int, size: int) -> float:
    """The inverse document frequency as FTS5 has it."""
    return max(math.log((size - count + 0.5) / (count + 0.5)), 1e-6)
