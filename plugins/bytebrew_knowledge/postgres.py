"""Full-text search on PostgreSQL: words as `tsvector` with a GIN index, ranked by BM25 as on SQLite."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from bytebrew import Connection, Tokenizer

from .dialect import SCOPE
from .vectors import has_pgvector, pgvector

Terms = tuple[str, int]
"""The words of a chunk as a `tsvector`, and their number."""
BATCH = 200
"""Chunks that are completed per transaction."""
K1, B = 1.2, 0.75
"""The constants of BM25, as in FTS5."""
_SIZE = """select coalesce(sum(i.done), 0) as chunks, coalesce(sum(i.length), 0) as length from knowledge_files f
  join knowledge_indexes i on i.file_id = f.id and i.state = 'live'
  where f.base_id in (select value from json_each(:bases))"""
_COUNTS = """select t.word, count(*) as count from json_to_recordset(cast(:terms as json)) t (word text, query text)
  join knowledge_chunks c on c.words @@ cast(t.query as tsquery)
  where c.index_id in (select i.id from knowledge_files f join knowledge_indexes i on i.file_id = f.id
    and i.state = 'live' where f.base_id in (select value from json_each(:bases))) group by t.word"""
_OCCURRENCES = """select min(cardinality(o.positions)) from unnest(
  ts_filter(setweight({}, 'B', t.tokens), '{{b}}')) o"""
_RANKED = f"""with terms as materialized (
    select cast(t.query as tsquery) as query, array(select json_array_elements_text(t.tokens)) as tokens, t.weight
    from json_to_recordset(cast(:terms as json)) t (query text, tokens json, weight double precision)),
  scope as materialized (select i.id from {SCOPE}),
  found as materialized (
    select c.id, c.length, t.weight, ({_OCCURRENCES.format("c.words")})
      + coalesce(({_OCCURRENCES.format("ts_filter(c.words, '{a}')")}), 0) / 2.0 as often
    from terms t join knowledge_chunks c on c.words @@ t.query where c.index_id in (select id from scope))
  select -sum(weight * often * {K1 + 1}
      / (often + {K1} * ({1 - B} + {B} * length / cast(:average as double precision)))) as score, id
  from found group by id order by score, id limit :limit"""  # noqa: S608
_OTHERS = f"""select c.id from knowledge_chunks c
  where c.words @@ cast(:query as tsquery) and c.index_id in (select i.id from {SCOPE})
  order by c.id limit :limit"""  # noqa: S608
_TEXTS = "select id, heading, text from knowledge_chunks where id in (select cast(value as bigint) from json_each(?))"
_INSERT = """insert into knowledge_chunks (base, index_id, position, heading, text, vector, words, length)
  values (?, ?, ?, ?, ?, ?, cast(? as tsvector), ?)"""
_INSERT_EMBEDDED = """insert into knowledge_chunks (base, index_id, position, heading, text, vector, words, length,
  embedding) values (?, ?, ?, ?, ?, ?, cast(? as tsvector), ?, cast(? as vector))"""
_LENGTH = "update knowledge_indexes set length = length + ? where id = ?"
_INCOMPLETE = """select id, index_id, base, heading, text from knowledge_chunks where words is null
  order by id limit ?"""
_COMPLETE = "update knowledge_chunks set words = cast(? as tsvector), length = ? where id = ?"


def ranked(
    conn: Connection, params: Mapping[str, str], bases: Sequence[str], terms: Sequence[str], limit: int
) -> list[tuple[float, int]]:
    """The best chunks with any of the terms, with scores; a lower score is better.

    The document frequencies and the average length are those of the searched bases.
    """
    with Tokenizer() as tokenizer:
        phrases = tokenizer.phrases(terms)
    if not phrases:
        return []
    within = _any([Tokenizer.quoted(base_mark(base)) for base in bases])
    queries = {word: f"({within}) & ({phrase.text})" for word, phrase in phrases.items()}
    size, length = conn.execute(_SIZE, params).fetchone()
    listed = [{"word": word, "query": query} for word, query in queries.items()]
    counts = {row["word"]: row["count"] for row in conn.execute(_COUNTS, {**params, "terms": _json(listed)})}
    rare = [word for word in queries if 0 < counts.get(word, 0) <= size / 2]
    weighed = [
        {"query": queries[word], "tokens": phrases[word].tokens, "weight": rarity(counts.get(word, 0), size)}
        for word in rare or queries
    ]
    values = {**params, "terms": _json(weighed), "average": length / size if size else 1.0, "limit": limit}
    best = [(row["score"], row["id"]) for row in conn.execute(_RANKED, values)]
    if rare and len(best) < limit:  # chunks with only common terms come last, unordered
        known = {chunk for _, chunk in best}
        anything = f"({within}) & ({_any([phrase.text for phrase in phrases.values()])})"
        others = conn.execute(_OTHERS, {**params, "query": anything, "limit": limit})
        best += [(0.0, row["id"]) for row in others if row["id"] not in known]
    return best[:limit]


def marked(conn: Connection, ids: Sequence[int], terms: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """Id, heading and text of chunks, with what matches a term between the characters 2 and 3."""
    with Tokenizer() as tokenizer:
        for row in conn.execute(_TEXTS, (_json(ids),)):
            yield row["id"], *tokenizer.marked(row["heading"], row["text"], terms)


def term_vectors(texts: Sequence[tuple[str, str]], base: str) -> Sequence[Terms]:
    """The words of chunks of a base."""
    with Tokenizer() as tokenizer:
        return tokenizer.vectors(texts, base_mark(base))


def base_mark(base: str) -> str:
    """The word that marks the chunks of a base in the index."""
    return "=" + base.replace("-", "")


def insert(conn: Connection, index_id: int, chunks: Sequence[tuple[Any, ...]], vectors: Sequence[Terms]) -> None:
    """Stores chunks with their words; `chunks` are rows up to the vector."""
    rows = [(*chunk, *vector) for chunk, vector in zip(chunks, vectors, strict=True)]
    if has_pgvector(conn):
        conn.executemany(_INSERT_EMBEDDED, [(*row, row[5] and pgvector(row[5])) for row in rows])
    else:
        conn.executemany(_INSERT, rows)
    conn.execute(_LENGTH, (sum(length for _, length in vectors), index_id))


def complete(conn: Connection) -> bool:
    """Adds the words of a batch of chunks that came from another store; returns whether there may be more."""
    rows = conn.execute(_INCOMPLETE, (BATCH,)).fetchall()
    for row in rows:
        vector = term_vectors([(row["heading"], row["text"])], row["base"])[0]
        conn.execute(_COMPLETE, (*vector, row["id"]))
        conn.execute(_LENGTH, (vector[1], row["index_id"]))
    return len(rows) == BATCH


def rarity(count: int, size: int) -> float:
    """The inverse document frequency, as FTS5 computes it."""
    return max(math.log((size - count + 0.5) / (count + 0.5)), 1e-6)


def _any(queries: Sequence[str]) -> str:
    return " | ".join(f"({query})" for query in queries)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
