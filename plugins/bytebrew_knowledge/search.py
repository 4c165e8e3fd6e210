"""Hybrid search: BM25 over words, cosine similarity over vectors, and reciprocal rank fusion."""

import asyncio
import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from bytebrew import Connection, Engine, ProviderError, Row, Target

from . import bases, search_terms
from .dialect import SCOPE, numbers
from .embedding import embed
from .search_terms import CANDIDATES
from .signs import SIGNS, Signs
from .vectors import cosine_similarities, unit

RANK_CONSTANT = 60
"""The constant of reciprocal rank fusion (Cormack, Clarke and Büttcher 2009)."""
EMBED_SECONDS = 10.0
TRIES = 3
"""Attempts of a search if indexes are replaced while it runs."""
MOST_ALIKE = 300
"""Chunks of each base whose similarity is computed: those that are most alike by the signs of their vectors."""
LONG = 1024
MOST_ALIKE_LONG = 200
"""The same for vectors of more dimensions than LONG, whose signs tell more."""


class Query(Struct, frozen=True, kw_only=True):
    """A query over bases; `file` is a file's name or id, `metadata` must match the file's.

    `threshold` is the minimum cosine similarity of chunks that have a vector.
    """

    text: str
    bases: tuple[str, ...]
    limit: int = 5
    threshold: float | None = None
    file: str = ""
    metadata: Mapping[str, str] = {}


class Hit(Struct, frozen=True, kw_only=True):
    """A chunk that was found; `position` is its place in the file, `similarity` is null where no vector tells it.

    `score` sums up two ranks, from 1: `word_rank` among the 50 chunks whose words fit best, `vector_rank` among the 300
    that are most alike, 200 with long vectors; each is null where the chunk is not ranked. `matched_terms` are words of
    the heading and the text that match one of the query's, in lower case.
    """

    base_id: str
    file_id: str
    file_name: str
    heading: str
    position: int
    text: str
    score: float
    similarity: float | None
    word_rank: int | None
    vector_rank: int | None
    matched_terms: list[str]
    metadata: dict[str, str]


class SearchResult(Struct, frozen=True, kw_only=True):
    """The hits, best first, and why a model could not be used; `stale` are bases to reindex."""

    hits: list[Hit]
    fault: str | None
    stale: tuple[str, ...]


class Space(NamedTuple):
    """The vectors of one model in one base; `stale` if its files must be reindexed.

    `target` is None if the model was deleted or replaced.
    """

    base_id: str
    model: str
    signature: str
    target: Target | None
    stale: bool


_SPACES = f"""select f.base_id, i.model, i.signature, (select b.embedding_model from knowledge_bases b
  where b.id = f.base_id), f.status = 'ready' as ready from {SCOPE}
  group by f.base_id, i.model, i.signature, ready"""  # noqa: S608
_MEMBERS = f"""select c.id from knowledge_chunks c where c.index_id in (
  select i.id from {SCOPE} and i.model = :model and i.signature = :signature)"""  # noqa: S608
_UNLIKE = f"""select 1 from {SCOPE} and i.model = :model and i.signature = :signature and :size <> (
  select length(c.vector) from knowledge_chunks c where c.index_id = i.id and c.vector is not null limit 1) limit 1"""  # noqa: S608
_HITS = f"""select c.id, f.base_id, f.id as file_id, f.name as file_name, c.heading, c.position, c.text, f.metadata
  from knowledge_chunks c join (select i.id as index_id, f.* from {SCOPE}) f on f.index_id = c.index_id
  where c.id in ({numbers(":ids")})"""  # noqa: S608


async def search(engine: Engine, query: Query) -> SearchResult:
    """The best chunks; without its embedding model the search uses words only, and `fault` is the reason."""
    text = query.text.encode("utf-8", "replace").decode()
    vectors: dict[str, array[float] | ProviderError] = {}
    hits: list[Hit] = []
    spaces: list[Space] = []
    for _ in range(TRIES):
        by_words = engine.db.read(search_terms.ranked, _scope(query), query.bases, query.text)
        by_bm25, spaces = await asyncio.gather(by_words, _embedded(engine, query, text, vectors))
        hits, whole = await _ranked(engine, query, by_bm25, spaces, vectors)
        if whole:
            break
    fault = next((one.message for one in vectors.values() if isinstance(one, ProviderError)), None)
    for space in spaces:
        vector = vectors.get(space.signature)
        if isinstance(vector, array) and await _has_other_dimension(engine, query, space, vector):
            fault = f"Model '{space.model}' makes vectors of another length than before; index the files again"
    return SearchResult(hits=hits, fault=fault, stale=tuple({space.base_id for space in spaces if space.stale}))


async def _embedded(
    engine: Engine, query: Query, text: str, vectors: "dict[str, array[float] | ProviderError]"
) -> list[Space]:
    """The spaces that are searched; adds the text's vector in each to those that there are."""
    spaces = await engine.db.read(_spaces, _scope(query))
    for space in spaces:
        if space.target is not None and space.signature not in vectors:
            vectors[space.signature] = await _vector(engine, space.target, text)
    return spaces


async def _vector(engine: Engine, target: Target, text: str) -> "array[float] | ProviderError":
    try:
        return unit((await embed(engine, target, [text], seconds=EMBED_SECONDS))[0])
    except ProviderError as error:
        return error


async def _ranked(
    engine: Engine,
    query: Query,
    by_bm25: Sequence[tuple[float, int]],
    spaces: Sequence[Space],
    vectors: "Mapping[str, array[float] | ProviderError]",
) -> tuple[list[Hit], bool]:
    """The hits in order, and whether all of their chunks still existed."""
    params = _scope(query)
    like: dict[int, float] = {}
    for space in spaces:
        vector = vectors.get(space.signature)
        if isinstance(vector, array) and any(vector):
            filtered = query.file or query.metadata or sum(one.base_id == space.base_id for one in spaces) > 1
            work = partial(_alike, engine.state[SIGNS], _scope(query, space), space.base_id, vector, bool(filtered))
            await engine.state[SIGNS].load(engine)
            like |= await engine.db.read(work, [chunk for _, chunk in by_bm25])
    alike = sorted(((likeness, chunk) for chunk, likeness in like.items()), key=lambda scored: (-scored[0], scored[1]))
    alike = alike[:MOST_ALIKE]
    by_words, by_likeness = _places(by_bm25), _places(alike)
    scores = {
        chunk: sum(1 / (RANK_CONSTANT + places[chunk]) for places in (by_words, by_likeness) if chunk in places)
        for chunk in {*by_words, *(chunk for _, chunk in alike[:CANDIDATES])}
    }
    if query.threshold is not None:
        scores = {chunk: score for chunk, score in scores.items() if like.get(chunk, 1) >= query.threshold}
    order = sorted(scores, key=lambda chunk: (-scores[chunk], by_words.get(chunk, CANDIDATES), chunk))[: query.limit]
    rows = await engine.db.read(_rows, params, order)
    matched = await engine.db.read(search_terms.matching, order, query.text)
    hits = [
        _hit(
            rows[chunk],
            score=round(scores[chunk], 6),
            similarity=None if (likeness := like.get(chunk)) is None else round(likeness, 4),
            word_rank=by_words.get(chunk),
            vector_rank=by_likeness.get(chunk),
            matched_terms=matched.get(chunk, []),
        )
        for chunk in order
        if chunk in rows
    ]
    return hits, len(hits) == len(order)


def _scope(query: Query, space: Space | None = None) -> dict[str, str]:
    """The parameters of `SCOPE`, restricted to a space if there is one."""
    within = query.bases if space is None else (space.base_id,)
    params = {"bases": msgspec.json.encode(within).decode(), "file": query.file}
    params["metadata"] = msgspec.json.encode(query.metadata).decode()
    return params if space is None else {**params, "model": space.model, "signature": space.signature}


def _places(best: Iterable[tuple[float, int]]) -> dict[int, int]:
    """The rank of each chunk, from 1; equal scores share a rank."""
    places: dict[int, int] = {}
    place, before = 0, math.nan
    for n, (score, chunk) in enumerate(best, 1):
        if not math.isclose(score, before, rel_tol=1e-6):
            place, before = n, score
        places[chunk] = place
    return places


def _spaces(conn: Connection, params: Mapping[str, str]) -> list[Space]:
    spaces: dict[tuple[str, str, str], Space] = {}
    for base_id, model, signature, wanted, ready in conn.execute(_SPACES, params).fetchall():
        target = bases.target(conn, model)
        stale = bool(ready) and (model, signature) != (wanted or "", bases.signature(bases.target(conn, wanted)))
        if target is not None and bases.signature(target) != signature:
            target = None
        key = (base_id, model, signature)
        stale = stale or (key in spaces and spaces[key].stale)
        spaces[key] = Space(base_id, model, signature, target, stale)
    return list(spaces.values())


async def _has_other_dimension(engine: Engine, query: Query, space: Space, vector: "array[float]") -> bool:
    """Whether an index has vectors of another length."""
    signs = engine.state[SIGNS]
    await signs.load(engine)
    if signs.are_as_long(search_terms.base_term(space.base_id), vector):
        return False
    return await engine.db.read(_has_unlike, _scope(query, space), vector)


def _has_unlike(conn: Connection, params: Mapping[str, str], vector: "array[float]") -> bool:
    """Judges an index by its first vector."""
    return conn.execute(_UNLIKE, {**params, "size": len(vector) * vector.itemsize}).fetchone() is not None


def _alike(
    signs: Signs,
    params: Mapping[str, str],
    base_id: str,
    vector: "array[float]",
    filtered: bool,
    conn: Connection,
    others: Sequence[int],
) -> dict[int, float]:
    """The cosine similarity of the most similar chunks of a base, and of others."""
    within = {row["id"] for row in conn.execute(_MEMBERS, params)} if filtered else None
    most = MOST_ALIKE if len(vector) <= LONG else MOST_ALIKE_LONG
    nearest = signs.nearest(search_terms.base_term(base_id), params["signature"], vector, most, within)
    like = cosine_similarities(conn, params, [*nearest, *others], vector)
    if within is None and len(like) < len(nearest) / 2:
        signs.examine(conn, nearest)
    return like


def _rows(conn: Connection, params: Mapping[str, str], order: Sequence[int]) -> dict[int, Row]:
    ids = msgspec.json.encode(order).decode()
    return {row["id"]: row for row in conn.execute(_HITS, {**params, "ids": ids})}


def _hit(row: Row, **why: Any) -> Hit:
    values = {**dict(row), "metadata": msgspec.json.decode(row["metadata"])}
    del values["id"]
    return Hit(**values, **why)
