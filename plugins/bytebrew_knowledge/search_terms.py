"""Full-text search: BM25 with the inverse document frequency of the searched bases.

One FTS5 index has the chunks of all bases, each with a term for its base. FTS5 computes document frequencies over all
of them, so each term's score is rescaled; otherwise other bases would distort the ranking within a base.
"""

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence

import msgspec

from bytebrew import Connection

CANDIDATES = 50
"""Best matches of each kind of search that are merged."""
MAX_TERMS = 64
MOST_BASES = 16
"""Most bases for which document frequencies are counted; a search over more uses those of the whole index."""
SCOPE = """knowledge_indexes i join knowledge_files f on f.id = i.file_id
  where i.state = 'live' and f.base_id in (select value from json_each(:bases))
  and (:file in ('', f.name) or f.id = lower(:file))
  and not exists (select 1 from json_each(:metadata) w
    where w.value is not (select h.value from json_each(f.metadata) h where h.key = w.key))"""
"""The searched indexes: part of a statement with the parameters `bases`, `file` and `metadata`."""
_MATCHING = f"""knowledge_words w join knowledge_chunks c on c.id = w.rowid
  where w.knowledge_words match {{words}} and c.index_id in (select i.id from {SCOPE})"""  # noqa: S608
_RANKED = f"""with found as materialized (
    select w.rowid as id, json_extract(p.value, '$[1]') * bm25(knowledge_words, 0.0, 1.5, 1.0) as score
    from json_each(:weights) p cross join {_MATCHING.format(words="json_extract(p.value, '$[0]')")})
  select sum(score) as score, id from found group by id order by score, id limit {CANDIDATES}"""  # noqa: S608
_OTHERS = f"select w.rowid as id from {_MATCHING.format(words=':words')} limit {CANDIDATES}"  # noqa: S608


def ranked(conn: Connection, params: Mapping[str, str], bases: Sequence[str], text: str) -> list[tuple[float, int]]:
    """The best chunks with any term of the text, with scores; a lower score is better."""
    terms = _terms(text)
    if not terms or not bases:
        return []
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
    weights = [_rarity(counts[word], size) / _rarity(_count(conn, f'"{word}"'), whole) for word in rare]
    best = _weighed(conn, params, [(f'{within} AND "{word}"', one) for word, one in zip(rare, weights, strict=True)])
    if len(best) < CANDIDATES:  # chunks with common terms only come last, unordered
        known = {chunk for _, chunk in best}
        others = conn.execute(_OTHERS, {**params, "words": anything})
        best += [(0.0, row["id"]) for row in others if row["id"] not in known]
    return best[:CANDIDATES]


def _weighed(
    conn: Connection, params: Mapping[str, str], weights: Sequence[tuple[str, float]]
) -> list[tuple[float, int]]:
    rows = conn.execute(_RANKED, {**params, "weights": msgspec.json.encode(weights).decode()})
    return [(row["score"], row["id"]) for row in rows]


def base_term(base_id: str) -> str:
    """The term that marks the chunks of a base in the index."""
    return base_id.replace("-", "")


def _terms(text: str) -> list[str]:
    """The distinct terms of a text."""
    words = re.findall(
        r"\w+", unicodedata.normalize("NFC", text)
    )  # case is FTS5's to fold, which differs from Python's
    return list({word.lower(): word for word in words if word.strip("_")}.values())[:MAX_TERMS]


def _any(terms: Sequence[str]) -> str:
    return " OR ".join(f'"{word}"' for word in terms)


def _count(conn: Connection, query: str) -> int:
    sql = "select count(*) from knowledge_words where knowledge_words match ?"
    count: int = conn.execute(sql, (query,)).fetchone()[0]
    return count


def _rarity(count: int, size: int) -> float:
    """The inverse document frequency, as FTS5 computes it."""
    return max(math.log((size - count + 0.5) / (count + 0.5)), 1e-6)
