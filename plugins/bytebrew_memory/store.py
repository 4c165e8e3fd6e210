"""SQL for memories, with a full-text index and optional vectors."""

import hashlib
import heapq
import math
import operator
import re
import unicodedata
from array import array
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, NamedTuple

from msgspec import Meta, Struct
from msgspec.json import decode, encode

from bytebrew import (
    Call,
    Connection,
    Detail,
    InvalidRequest,
    Name,
    NotFound,
    Row,
    Target,
    ToolError,
    dialect,
    new_uuid,
    now,
)

from . import postgres
from .dialect import FORGET, INDEX, MATCHES, MISSING, NEWEST

MOST_WEIGHED = 500
"""Limit of memories with words of a query that are ranked: the best matches, newer first."""
MOST_EMBEDDED = 64
"""Limit of memories without a vector of the current model that one recall embeds."""
RECENCY = 0.2
"""Score of a new memory for its recency, relative to 1 for the best word match; halves every 30 days."""
_ALL = 2**62
"""A limit in SQL that means no limit."""
# Scripts without spaces between words are indexed character by character.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")

MIGRATION = """
create table memory_owners (
  id integer primary key autoincrement,
  schema_id text not null references schemas (id) on delete cascade,
  subject text not null,
  user_sub text not null,
  unique (schema_id, subject, user_sub)
) strict;

create table memory_entries (
  n integer primary key autoincrement,
  id text not null unique,
  owner_id integer not null references memory_owners (id) on delete cascade,
  agent_id text not null,
  content text not null,
  digest blob not null,
  metadata text not null,
  model text,
  vector blob,
  created_at text not null,
  updated_at text not null,
  unique (owner_id, digest)
) strict;
create index memory_entries_owner on memory_entries (owner_id, updated_at, n);
create index memory_entries_agent on memory_entries (agent_id, updated_at);

create virtual table memory_search using fts5 (owner, content, tokenize = "porter unicode61 remove_diacritics 2");
create trigger memory_entries_deleted after delete on memory_entries begin
  delete from memory_search where rowid = old.n;
end;
"""

# A sub-agent's session is below that of its root, and a background task's below that of the agent that created it:
# owner and user of the root apply to all below.
_PLACE = """with recursive above (next, owner, user_sub) as (
    values (cast(:session as text), cast(null as text), cast(null as text))
    union
    select coalesce(
      s.parent_id, (select t.made_in from tasks t where t.session_id = s.id and t.made_in <> t.session_id)),
      s.owner, s.user_sub from above join sessions s on s.id = above.next)
  select schemas.id as schema_id, owner as subject, above.user_sub, agents.id as agent_id, c.config, o.id as owner_id
  from above join schemas on schemas.name = :schema join agents on agents.name = :agent
  join agent_capabilities c on c.agent_id = agents.id and c.type = 'memory' and c.enabled = 1
  left join memory_owners o on o.schema_id = schemas.id and o.subject = above.owner and o.user_sub = above.user_sub
  where above.next is null"""
_TARGET = """select name, type, model_name, base_url, api_version, sealed_key from models
  where name = ? and kind = 'embedding'"""


class MemoryConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an agent remembers people: the oldest of more than `max_entries` make way.

    What nobody has stored again for `retention_days` is forgotten. With `embedding_model`, the name of a model of kind
    embedding, what is like a query is found too, not only what has its words.
    """

    max_entries: Annotated[int, Meta(ge=1, le=10_000, description="memories of one person")] = 1000
    retention_days: Annotated[int, Meta(ge=1, le=3650)] | None = None
    embedding_model: Name | None = None


class Place(NamedTuple):
    """Owner of the memories of a call, and its agent's configuration; `owner_id` is None before the first memory."""

    schema_id: str
    subject: str
    user_sub: str
    agent_id: str
    owner_id: int | None
    config: MemoryConfig
    model: Target | None


class Memory(Struct, frozen=True, omit_defaults=True):
    """A memory as a model reads it."""

    content: str
    stored_at: str
    metadata: dict[str, Any] = {}


class Candidates(NamedTuple):
    """Memories, newest first, and the BM25 scores of those that match a query."""

    rows: list[Row]
    scores: dict[int, float]


class Entry(Struct, frozen=True, kw_only=True):
    """A memory as operators read it; where sessions of a subject name a `user_sub`, it is that user's alone.

    Who came with a JWT is the subject `user:` and its `sub`, and is found by the `sub` alone too.
    """

    id: str
    schema_id: str
    subject: str
    user_sub: str
    content: str
    metadata: dict[str, Any]
    created_at: str
    updated_at: str


def check(conn: Connection, config: MemoryConfig) -> None:
    """Raises InvalidRequest if the embedding model is a model of another kind; it may be created later."""
    row = conn.execute("select kind from models where name = ?", (config.embedding_model,)).fetchone()
    if row is not None and row["kind"] != "embedding":
        details = [Detail("$.config.embedding_model", f"is of kind {row['kind']}")]
        raise InvalidRequest(f"Model '{config.embedding_model}' makes no embeddings; name another", details=details)


def place(conn: Connection, call: Call) -> Place:
    """The owner of the memories of a call; ToolError if its agent has no memory."""
    if not call.schema:
        raise ToolError("Memories belong to a schema, and this task is in none: say in your answer what to remember")
    values = {"session": call.session_id, "schema": call.schema, "agent": call.agent}
    row = conn.execute(_PLACE, values).fetchone()
    if row is None:
        raise ToolError("This agent has no memory any more")
    config = decode(row["config"], type=MemoryConfig)
    model = conn.execute(_TARGET, (config.embedding_model,)).fetchone()
    whose = (row["schema_id"], row["subject"], row["user_sub"], row["agent_id"], row["owner_id"])
    return Place(*whose, config, Target(**dict(model)) if model else None)


def store(conn: Connection, at: Place, content: str, metadata: dict[str, Any], vector: bytes | None) -> bool:
    """Stores a memory, or refreshes an equal one; returns whether it is new. Deletes the oldest above the limit."""
    whose = (at.schema_id, at.subject, at.user_sub)
    conn.execute(
        "insert into memory_owners (schema_id, subject, user_sub) values (?, ?, ?) on conflict do nothing", whose
    )
    sql = "select id from memory_owners where schema_id = ? and subject = ? and user_sub = ?"
    owner_id = conn.execute(sql, whose).fetchone()["id"]
    plain = unicodedata.normalize("NFC", content).casefold()
    digest = hashlib.sha256(" ".join(plain.split()).rstrip(".!").encode()).digest()
    moment, more = now(), encode(metadata).decode()
    known = conn.execute(
        """update memory_entries set updated_at = ?1, agent_id = ?2,
        metadata = case ?3 when '{}' then metadata else ?3 end where owner_id = ?4 and digest = ?5""",
        (moment, at.agent_id, more, owner_id, digest),
    )
    if known.rowcount:
        return False
    model = at.model.model_name if at.model and vector else None
    row = conn.execute(
        """insert into memory_entries (id, owner_id, agent_id, content, digest, metadata, model, vector, created_at,
        updated_at) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) returning n""",
        (new_uuid(), owner_id, at.agent_id, content, digest, more, model, vector, moment, moment),
    ).fetchone()
    if dialect(conn) == "postgresql":
        postgres.index(conn, row["n"], owner_id, _spaced(content))
    else:
        conn.execute(INDEX, (row["n"], f"o{owner_id}", _spaced(content)))
    conn.execute(  # never the new one, even if the clock was set back
        """delete from memory_entries where n in (select n from memory_entries where owner_id = ? and n <> ?
        order by updated_at desc, n desc limit ? offset ?)""",
        (owner_id, row["n"], _ALL, at.config.max_entries - 1),
    )
    return True


def terms_of(query: str) -> list[str]:
    """The distinct words of a query; they cannot contain FTS5 syntax."""
    return list({word.lower(): word for word in re.findall(r"\w+", _spaced(query))}.values())


def candidates(conn: Connection, at: Place, query: str, limit: int, *, likeness: bool) -> Candidates:
    """The memories that match a word of the query, with `likeness` all; the newest for a query without words."""
    wanted = {"owner": at.owner_id, "model": at.model and at.model.model_name, "only": None, "limit": limit}
    wanted["now"] = now()
    terms = terms_of(query)[:64]
    if not terms:
        return Candidates(conn.execute(NEWEST, wanted).fetchall(), {})
    scores = _scores(conn, at.owner_id, terms)
    only = None if likeness else encode(list(scores)).decode()
    return Candidates(conn.execute(NEWEST, {**wanted, "only": only, "limit": _ALL}).fetchall(), scores)


def _scores(conn: Connection, owner_id: int | None, terms: Sequence[str]) -> dict[int, float]:
    """BM25 scores with the inverse document frequency of the owner's memories; FTS5 would count everybody's."""
    sql = "select count(*) from memory_entries where owner_id = ?"
    total = conn.execute(sql, (owner_id,)).fetchone()[0]
    scores: dict[int, float] = {}
    for matches in _matches(conn, owner_id, terms):
        rarity = math.log1p((total - len(matches) + 0.5) / (len(matches) + 0.5))
        for n, score in matches:
            scores[n] = scores.get(n, 0) + rarity * score / matches[0][1]
    return dict(heapq.nlargest(MOST_WEIGHED, scores.items(), key=lambda scored: (scored[1], scored[0])))


def _matches(conn: Connection, owner_id: int | None, terms: Sequence[str]) -> Iterable[Sequence[tuple[int, float]]]:
    """The memories with each of the terms, and what it scores there, the best first."""
    if dialect(conn) == "postgresql":
        return postgres.matches(conn, owner_id, terms)
    queries = (f'owner:"o{owner_id}" AND content:"{word}"' for word in terms)
    return (conn.execute(MATCHES, (query,)).fetchall() for query in queries)


def ranked(matches: Candidates, vector: bytes | None, limit: int) -> list[Memory]:
    """The best candidates, by words, similarity to the query's vector, and recency."""
    best = max(matches.scores.values(), default=0) or 1
    wanted = array("f", vector or b"")

    def worth(row: Row) -> float:
        own = array("f", row["vector"] or b"")
        likeness = sum(map(operator.mul, wanted, own)) if len(wanted) == len(own) else 0.0
        days = max(row["days"], 0)  # negative if the clock was ahead when it was stored
        return float(matches.scores.get(row["n"], 0) / best + likeness + RECENCY * 0.5 ** (days / 30))

    rows = sorted(matches.rows, key=worth, reverse=True)[:limit]
    return [Memory(row["content"], row["updated_at"], decode(row["metadata"])) for row in rows]


def without_vector(conn: Connection, at: Place) -> list[Row]:
    """The newest memories without a vector of the current model."""
    sql = """select n, content from memory_entries where owner_id = ? and coalesce(model, '') <> coalesce(?, '')
      order by updated_at desc limit ?"""
    return conn.execute(sql, (at.owner_id, at.model and at.model.model_name, MOST_EMBEDDED)).fetchall()


def store_vectors(conn: Connection, model: str, vectors: Sequence[tuple[bytes, int]]) -> None:
    """Stores the vectors of memories."""
    sql = "update memory_entries set vector = ?, model = ? where n = ?"
    conn.executemany(sql, [(vector, model, n) for vector, n in vectors])


def packed(vector: Sequence[float]) -> bytes:
    """A vector normalized to length 1, in float32."""
    length = math.hypot(*vector) or 1.0
    return array("f", [part / length for part in vector]).tobytes()


def complete(conn: Connection) -> bool:
    """Adds missing words to a batch of memories; returns whether there may be more."""
    if dialect(conn) == "postgresql":
        return postgres.complete(conn, _spaced)
    rows = conn.execute(MISSING, (postgres.BATCH,)).fetchall()
    conn.executemany(INDEX, [(row["n"], f"o{row['owner_id']}", _spaced(row["content"])) for row in rows])
    return len(rows) == postgres.BATCH


def forget(conn: Connection) -> list[Row]:
    """Deletes a batch of memories past the retention of the agent that stored them."""
    return conn.execute(postgres.FORGET if dialect(conn) == "postgresql" else FORGET).fetchall()


def entries(conn: Connection, schema: str, whose: str, limit: int, offset: int = 0) -> list[Entry]:
    """The memories of a schema, or of one person in it, newest first."""
    rows = conn.execute(
        """select e.id, o.schema_id, o.subject, o.user_sub, e.content, e.metadata, e.created_at, e.updated_at
        from memory_entries e join memory_owners o on o.id = e.owner_id
        where o.schema_id = ?1 and (?2 in ('', o.user_sub, o.subject) or o.subject = 'user:' || ?2)
        order by e.updated_at desc, e.n desc limit ?3 offset ?4""",
        (_schema_id(conn, schema), whose, limit, offset),
    )
    return [Entry(**{**dict(row), "metadata": decode(row["metadata"])}) for row in rows]


def count(conn: Connection, schema: str, whose: str) -> int:
    """Number of memories of a schema, or of one person in it."""
    found: int = conn.execute(
        """select count(*) from memory_entries e join memory_owners o on o.id = e.owner_id
        where o.schema_id = ?1 and (?2 in ('', o.user_sub, o.subject) or o.subject = 'user:' || ?2)""",
        (_schema_id(conn, schema), whose),
    ).fetchone()[0]
    return found


def clear(conn: Connection, schema: str, whose: str) -> None:
    """Deletes the memories of a schema, or of one person in it."""
    conn.execute(
        """delete from memory_owners
        where schema_id = ?1 and (?2 in ('', user_sub, subject) or subject = 'user:' || ?2)""",
        (_schema_id(conn, schema), whose),
    )


def remove(conn: Connection, schema: str, entry_id: str) -> None:
    """Deletes one memory; NotFound if the schema has none with that id."""
    sql = "delete from memory_entries where id = ? and owner_id in (select id from memory_owners where schema_id = ?)"
    if not conn.execute(sql, (entry_id, _schema_id(conn, schema))).rowcount:
        raise NotFound(f"Schema '{schema[:255]}' has no memory '{entry_id[:255]}'")


def _schema_id(conn: Connection, key: str) -> str:
    sql = "select id from schemas where name = ?1 or id = ?1 order by name = ?1 desc limit 1"
    row = conn.execute(sql, (key,)).fetchone()
    if row is None:
        raise NotFound(f"There is no schema '{key[:255]}'")
    found: str = row["id"]
    return found


def _spaced(text: str) -> str:
    return _UNSPACED.sub(r" \g<0> ", unicodedata.normalize("NFC", text))
