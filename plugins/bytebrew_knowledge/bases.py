"""SQL for knowledge bases and the agents that are linked to them."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from bytebrew import (
    Conflict,
    Connection,
    Detail,
    InvalidRequest,
    Live,
    NotFound,
    Row,
    Target,
    new_uuid,
    now,
)

from .dialect import json_list

BaseName = Annotated[
    str, Meta(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+\Z", description="a text on one line")
]
Description = Annotated[str, Meta(max_length=10_000)]
ModelKey = Annotated[str, Meta(min_length=1, max_length=255)] | int
Status = Literal["empty", "indexing", "ready"]


class KnowledgeConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an agent searches its knowledge: how many results, and how like the query they are at least."""

    top_k: Annotated[int, Meta(ge=1, le=20, description="results of a search that names no limit")] = 5
    similarity_threshold: Annotated[float, Meta(ge=0, le=1, description="of vectors, where there are some")] | None = (
        None
    )


class NewBase(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A base to create; with `embedding_model`, a model's name or id, its search knows meanings beside words."""

    name: BaseName
    description: Description = ""
    embedding_model: ModelKey | None = None


class BasePatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes to a base; what is left out stays. Another model has every file indexed again."""

    name: BaseName | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    embedding_model: ModelKey | UnsetType | None = UNSET


class Base(Struct, frozen=True, kw_only=True):
    """A knowledge base; of its files `indexed_files` are as they should be and `failed_files` cannot be.

    `folder` is one of the engine's machine that it follows, which the configuration alone can name.
    """

    id: str
    name: str
    description: str
    embedding_model: str | None
    embedding_model_id: int | None
    folder: str | None
    file_count: Live[int]
    indexed_files: Live[int]
    failed_files: Live[int]
    status: Live[Status]
    linked_agents: tuple[str, ...]
    created_at: str
    updated_at: Live[str]


class Followed(NamedTuple):
    """A base and the folder that it mirrors, if any."""

    id: str
    name: str
    folder: str | None


_AGENTS = """select a.name from knowledge_links l join agents a on a.id = l.agent_id
  where l.base_id = b.id order by a.name"""
_SELECT = f"""select b.id, b.name, b.description, b.embedding_model, m.id as embedding_model_id, b.folder,
  b.created_at, b.updated_at, count(f.id) as file_count,
  count(case when f.status = 'ready' then 1 end) as indexed_files,
  count(case when f.status = 'error' then 1 end) as failed_files,
  {json_list(_AGENTS)} as linked_agents
  from knowledge_bases b left join models m on m.name = b.embedding_model left join knowledge_files f
  on f.base_id = b.id"""  # noqa: S608


def list_all(conn: Connection) -> list[Base]:
    """Every base by name."""
    return [_base(row) for row in conn.execute(f"{_SELECT} group by b.id, m.id order by b.name")]


def get(conn: Connection, key: str) -> Base:
    """A base by id, or else by name; NotFound otherwise."""
    row = conn.execute(f"{_SELECT} where b.id = ? group by b.id, m.id", (identify(conn, key),)).fetchone()
    return _base(row)


def identify(conn: Connection, key: str) -> str:
    """The id of a base by id, or else by name; NotFound otherwise."""
    sql = "select id from knowledge_bases where id = ?1 or name = ?1 order by id <> ?1 limit 1"
    row = conn.execute(sql, (key,)).fetchone()
    if row is None:
        raise NotFound(f"There is no knowledge base '{key[:255]}'")
    found: str = row["id"]
    return found


def create(conn: Connection, new: NewBase) -> Base:
    """Stores a base and returns it; Conflict if the name is taken."""
    _check_name(conn, new.name)
    model = _model(conn, new.embedding_model)
    base_id, moment = new_uuid(), now()
    conn.execute(
        """insert into knowledge_bases (id, name, description, embedding_model, created_at, updated_at)
        values (?, ?, ?, ?, ?, ?)""",
        (base_id, new.name, new.description, model, moment, moment),
    )
    return get(conn, base_id)


def update(conn: Connection, key: str, patch: BasePatch) -> Base:
    """Merges the patch into a base and returns it; after a change of the model the caller must reindex its files."""
    base = get(conn, key)
    name = base.name if patch.name is UNSET else patch.name
    if name != base.name:
        _check_name(conn, name)
    model = base.embedding_model if patch.embedding_model is UNSET else _model(conn, patch.embedding_model)
    if model != base.embedding_model:  # indexes under construction are for the old model
        sql = "update knowledge_files set revision = revision + 1 where base_id = ? and status = 'indexing'"
        conn.execute(sql, (base.id,))
    conn.execute(
        "update knowledge_bases set name = ?, description = ?, embedding_model = ?, updated_at = ? where id = ?",
        (
            name,
            base.description if patch.description is UNSET else patch.description,
            model,
            now(),
            base.id,
        ),
    )
    return get(conn, base.id)


def delete(conn: Connection, key: str) -> list[str]:
    """Deletes a base and returns the blobs of its files; Conflict lists the agents that are linked to it."""
    base = get(conn, key)
    if base.linked_agents:
        details = [Detail("$.linked_agents", name) for name in base.linked_agents]
        users = ", ".join(base.linked_agents[:10])
        raise Conflict(f"Knowledge base '{base.name}' is used by {users}; unlink it first", details=details)
    conn.execute(
        """update knowledge_indexes set state = 'dead'
        where file_id in (select id from knowledge_files where base_id = ?)""",
        (base.id,),
    )
    gone = conn.execute("delete from knowledge_files where base_id = ? returning blob", (base.id,)).fetchall()
    conn.execute("delete from knowledge_bases where id = ?", (base.id,))
    return [row["blob"] for row in gone]


def folders(conn: Connection) -> list[Followed]:
    """The bases with a folder, or with files left from one."""
    rows = conn.execute(
        """select id, name, folder from knowledge_bases where folder is not null
        or id in (select base_id from knowledge_files where seen is not null) order by id"""
    )
    return [Followed(*row) for row in rows]


def set_folder(conn: Connection, base_id: str, folder: str | None) -> None:
    """Sets or removes the folder of a base; its files change at the next scan."""
    conn.execute("update knowledge_bases set folder = ?, updated_at = ? where id = ?", (folder, now(), base_id))
    conn.execute("update knowledge_files set seen = '' where base_id = ? and seen is not null", (base_id,))


def link(conn: Connection, key: str, agent: str) -> None:
    """Links an agent to a base and enables its knowledge; idempotent."""
    base_id, agent_id = identify(conn, key), _agent(conn, agent)[0]
    _link(conn, base_id, agent_id)
    conn.execute("update agent_capabilities set enabled = 1 where agent_id = ? and type = 'knowledge'", (agent_id,))


def link_only(conn: Connection, base_id: str, agents: Sequence[str]) -> None:
    """Links exactly these agents to a base; disabled knowledge stays disabled.

    InvalidRequest names unknown agents by their path, such as `$.agents[0]`.
    """
    found, faults = [], []
    for n, agent in enumerate(agents):
        try:
            found.append(_agent(conn, agent)[0])
        except NotFound as error:
            faults.append(Detail(f"$.agents[{n}]", error.message))
    if faults:
        raise InvalidRequest(faults[0].message, details=faults)
    conn.execute("delete from knowledge_links where base_id = ?", (base_id,))
    for agent_id in found:
        _link(conn, base_id, agent_id)


def unlink(conn: Connection, key: str, agent: str) -> None:
    """Unlinks an agent; without its last base its knowledge is disabled. NotFound if it was not linked."""
    base_id, agent_id = identify(conn, key), _agent(conn, agent)[0]
    gone = conn.execute("delete from knowledge_links where agent_id = ? and base_id = ?", (agent_id, base_id))
    if not gone.rowcount:
        raise NotFound(f"Agent '{agent[:255]}' is not linked to knowledge base '{key[:255]}'")
    if not linked(conn, agent_id):
        conn.execute("update agent_capabilities set enabled = 0 where agent_id = ? and type = 'knowledge'", (agent_id,))


def linked(conn: Connection, agent: str) -> list[str]:
    """The ids of the bases that an agent by name or id may search."""
    sql = "select base_id from knowledge_links where agent_id = ? order by base_id"
    return [row["base_id"] for row in conn.execute(sql, (_agent(conn, agent)[0],))]


def only(conn: Connection, agent: str) -> str | None:
    """The id of an agent's only base, None if it has none; Conflict for several, or if a new one's name is taken."""
    found = linked(conn, agent)
    if len(found) > 1:
        raise Conflict(f"Agent '{agent}' has {len(found)} knowledge bases; send the file to one of them")
    if found:
        return found[0]
    name = _agent(conn, agent)[1]
    row = conn.execute("select id from knowledge_bases where name = ?", (name,)).fetchone()
    if row is not None:  # the agent may have no access to that base
        how = f"link it to the agent first, with POST /api/v1/knowledge-bases/{row['id']}/agents/{name}"
        raise Conflict(f"A knowledge base '{name}' is there already; {how}")
    return None


def own(conn: Connection, agent: str) -> str:
    """The id of an agent's only base, which is created and linked if it has none."""
    found = only(conn, agent)
    if found is None:
        found = create(conn, NewBase(name=_agent(conn, agent)[1])).id
        link(conn, found, agent)
    return found


def have_vectors(conn: Connection) -> bool:
    """Whether any base has an embedding model."""
    sql = "select 1 from knowledge_bases where embedding_model is not null limit 1"
    return conn.execute(sql).fetchone() is not None


def target(conn: Connection, model: str | None) -> Target | None:
    """The target of an embedding model; None if it was deleted."""
    row = conn.execute(
        """select name, type, model_name, base_url, api_version, sealed_key from models
        where name = ? and kind = 'embedding'""",
        (model,),
    ).fetchone()
    return Target(**dict(row)) if row else None


def signature(target: Target | None) -> str:
    """Identifies a vector space: vectors with different signatures cannot be compared."""
    return f"{target.type} {target.model_name} {target.base_url}" if target else ""


def _agent(conn: Connection, key: str) -> tuple[str, str]:
    """The id and the name of an agent by either; NotFound otherwise."""
    sql = "select id, name from agents where ?1 in (id, name) order by name <> ?1 limit 1"
    row = conn.execute(sql, (key,)).fetchone()
    if row is None:
        raise NotFound(f"There is no agent '{key[:255]}'")
    return row["id"], row["name"]


def _link(conn: Connection, base_id: str, agent_id: str) -> None:
    """Links an agent, and adds the capability if it has none."""
    conn.execute(
        "insert into knowledge_links (agent_id, base_id) values (?, ?) on conflict do nothing", (agent_id, base_id)
    )
    conn.execute(
        """insert into agent_capabilities (id, agent_id, type, config, enabled) values (?, ?, 'knowledge', ?, 1)
        on conflict (agent_id, type) do nothing""",
        (new_uuid(), agent_id, msgspec.json.encode(KnowledgeConfig()).decode()),
    )


def _base(row: Row) -> Base:
    values: dict[str, Any] = dict(row)
    values["linked_agents"] = tuple(msgspec.json.decode(values["linked_agents"]))
    open_files = values["file_count"] - values["indexed_files"] - values["failed_files"]
    return Base(**values, status="empty" if not values["file_count"] else "indexing" if open_files else "ready")


def _check_name(conn: Connection, name: str) -> None:
    if conn.execute("select 1 from knowledge_bases where name = ?", (name,)).fetchone():
        raise Conflict(f"There is a knowledge base '{name}' already", details=[Detail("$.name", "is taken")])


def _model(conn: Connection, key: str | int | None) -> str | None:
    if key is None:
        return None
    row = None
    if isinstance(key, str):
        row = conn.execute("select name, kind from models where name = ?", (key,)).fetchone()
    if row is None and str(key).isdecimal() and len(str(key)) < 19:
        row = conn.execute("select name, kind from models where id = ?", (int(key),)).fetchone()
    if row is None or row["kind"] != "embedding":
        fault = f"is of kind {row['kind']}" if row else "does not exist"
        message = f"Model '{key}' {fault}; name one of kind embedding"
        raise InvalidRequest(message, details=[Detail("$.embedding_model", fault)])
    found: str = row["name"]
    return found
