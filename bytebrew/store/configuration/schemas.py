"""SQL for schemas and the relations between their agents."""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from bytebrew.base.errors import Conflict, Detail, InvalidRequest, NotFound, Unprocessable
from bytebrew.base.formats import new_uuid, now, struct_of
from bytebrew.contract import connection
from bytebrew.contract.auth import View
from bytebrew.contract.connection import Connection, Row, insert
from bytebrew.contract.entities import Agent, NewRelation, NewSchema, Relation, Schema, SchemaPatch
from bytebrew.contract.provider import Target
from bytebrew.store.configuration import agents, models

_SELECT = """select s.id, s.name, s.description, s.entry_agent_id, a.name as entry_agent, s.chat_enabled,
  s.client_tools, s.view, s.approvals, s.chat_last_fired_at, s.created_at from schemas s
  join agents a on a.id = s.entry_agent_id"""
_RELATIONS = """select r.id, r.schema_id, source.name as source, target.name as target, r.config from agent_relations r
  join agents source on source.id = r.source_id join agents target on target.id = r.target_id"""


class Entrance(Struct, frozen=True, kw_only=True):
    """What a chat needs to start: the schema's name, what it allows, its view, its entry agent and the models.

    The first of `targets` is the agent's own model; the others are its fallback models.
    """

    schema: str
    chat_enabled: bool
    agent: Agent
    targets: tuple[Target, ...]
    client_tools: bool = False
    view: View = "full"


def _schema(row: Row, relations: Sequence[Relation]) -> Schema:
    entry = row["entry_agent"]
    members = tuple(
        dict.fromkeys([entry, *(end for relation in relations for end in (relation.source, relation.target))])
    )
    return Schema(
        **{**dict(row), "chat_enabled": bool(row["chat_enabled"]), "client_tools": bool(row["client_tools"])},
        entry_agent_name=entry,
        agents=members,
        agents_count=len(members),
        relations=tuple(relations),
    )


def list_all(conn: Connection) -> list[Schema]:
    """Every schema by name."""
    by_schema: dict[str, list[Relation]] = {}
    for row in conn.execute(f"{_RELATIONS} order by source, target"):
        by_schema.setdefault(row["schema_id"], []).append(struct_of(row, Relation))
    return [_schema(row, by_schema.get(row["id"], [])) for row in conn.execute(f"{_SELECT} order by s.name")]


def _row(conn: Connection, key: str) -> Row:
    for column in ("name", "id"):
        row: Row | None = conn.execute(f"{_SELECT} where s.{column} = ?", (key,)).fetchone()
        if row is not None:
            return row
    raise NotFound(f"There is no schema '{key[:255]}'")


def get(conn: Connection, key: str) -> Schema:
    """A schema by name, or else by id; NotFound otherwise."""
    row = _row(conn, key)
    return _schema(row, relations(conn, row["id"]))


def entrance(conn: Connection, key: str) -> Entrance:
    """What a chat with this schema needs to start; NotFound if there is no such schema."""
    row = _row(conn, key)
    return _entrance(conn, row, conn.execute(f"{agents.SELECT} where id = ?", (row["entry_agent_id"],)).fetchone())


def member(conn: Connection, key: str, agent: str) -> Entrance:
    """As `entrance`, for any agent in a schema, or in none if `key` is empty; NotFound if one does not exist."""
    row = conn.execute(f"{agents.SELECT} where name = ?", (agent,)).fetchone()
    if row is None:
        raise NotFound(f"There is no agent '{agent[:255]}'")
    return _entrance(conn, _row(conn, key) if key else None, row)


def _entrance(conn: Connection, row: Row | None, agent_row: Row) -> Entrance:
    agent = struct_of(agent_row, Agent, rest="lists")
    targets = targets_of(conn, agent.model)
    if row is None:
        return Entrance(schema="", chat_enabled=False, agent=agent, targets=targets)
    if agent.can_spawn:
        agent = replace(agent, can_spawn=_narrowed(conn, row["id"], agent))
    return Entrance(
        schema=row["name"],
        chat_enabled=bool(row["chat_enabled"]),
        agent=agent,
        targets=targets,
        client_tools=bool(row["client_tools"]),
        view=row["view"],
    )


def targets_of(conn: Connection, model: str | None) -> tuple[Target, ...]:
    """A model by name and its fallback models; none if it does not exist."""
    by_name = f"{models.TARGET} where name = ?"
    targets = [struct_of(one, Target) for one in conn.execute(by_name, (model,))]
    for name in targets[0].fallback if targets else ():
        targets += [struct_of(one, Target) for one in conn.execute(by_name, (name,))]
    return tuple(targets)


def _narrowed(conn: Connection, schema_id: str, agent: Agent) -> tuple[str, ...]:
    """The agents that the agent may spawn in this schema: its own list, restricted to the relations if any."""
    related = conn.execute(f"{_RELATIONS} where r.schema_id = ?", (schema_id,)).fetchall()
    if not related:
        return agent.can_spawn
    named = {row["target"] for row in related if row["source"] == agent.name}
    return tuple(name for name in agent.can_spawn if name in named)


def create(conn: Connection, new: NewSchema) -> Schema:
    """Stores a schema with its relations and returns it; the default entry agent is the first relation's source."""
    if conn.execute("select 1 from schemas where name = ?", (new.name,)).fetchone():
        raise Conflict(f"There is a schema '{new.name}' already; PUT /api/v1/schemas/{new.name} changes it")
    entry = new.entry_agent or (new.relations[0].source if new.relations else "")
    if not entry:
        details = [Detail("$.entry_agent", "name the agent that answers")]
        raise InvalidRequest("A schema needs an entry agent", details=details)
    schema_id, moment = new_uuid(), now()
    row = {
        "id": schema_id,
        "name": new.name,
        "description": new.description,
        "entry_agent_id": _agent_id(conn, entry, "$.entry_agent"),
        "chat_enabled": new.chat_enabled,
        "client_tools": new.client_tools,
        "view": new.view,
        "approvals": new.approvals,
    }
    insert(conn, "schemas", row, created_at=moment, updated_at=moment)
    _relate(conn, schema_id, new.relations)
    return get(conn, new.name)


def update(conn: Connection, key: str, patch: SchemaPatch) -> Schema:
    """Merges the patch into a schema and returns it; its name is fixed."""
    row = _row(conn, key)
    if patch.name is not UNSET and patch.name != row["name"]:
        raise InvalidRequest("A schema's name is fixed", details=[Detail("$.name", "create another schema instead")])
    entry = patch.entry_agent
    changes = {
        "description": patch.description,
        "chat_enabled": patch.chat_enabled,
        "client_tools": patch.client_tools,
        "view": patch.view,
        "approvals": patch.approvals,
        "entry_agent_id": UNSET if entry is UNSET else _agent_id(conn, entry, "$.entry_agent"),
        "updated_at": now(),
    }
    connection.update(conn, "schemas", changes, id=row["id"])
    if patch.relations is not UNSET:
        _replace_relations(conn, row["id"], patch.relations)
    return get(conn, row["name"])


def delete(conn: Connection, key: str) -> None:
    """Deletes a schema and its relations; its sessions stay."""
    conn.execute("delete from schemas where id = ?", (_row(conn, key)["id"],))


def relations(conn: Connection, key: str) -> list[Relation]:
    """The relations of a schema by name or id."""
    schema_id = _row(conn, key)["id"]
    rows = conn.execute(f"{_RELATIONS} where r.schema_id = ? order by source, target", (schema_id,))
    return [struct_of(row, Relation) for row in rows]


def get_relation(conn: Connection, key: str, relation_id: str) -> Relation:
    """One relation of a schema; NotFound otherwise."""
    for relation in relations(conn, key):
        if relation.id == relation_id:
            return relation
    raise NotFound(f"There is no relation '{relation_id[:255]}' in schema '{key[:255]}'")


def add_relation(conn: Connection, key: str, new: NewRelation) -> Relation:
    """Stores a relation and returns it."""
    [relation_id] = _relate(conn, _row(conn, key)["id"], [new])
    return get_relation(conn, key, relation_id)


def replace_relation(conn: Connection, key: str, relation_id: str, new: NewRelation) -> Relation:
    """Changes the agents or the config of a relation, which keeps its id."""
    old = get_relation(conn, key, relation_id)
    conn.execute("delete from agent_relations where id = ?", (old.id,))
    _relate(conn, old.schema_id, [new], relation_id)
    return get_relation(conn, key, relation_id)


def remove_relation(conn: Connection, key: str, relation_id: str) -> None:
    """Deletes one relation of a schema."""
    conn.execute("delete from agent_relations where id = ?", (get_relation(conn, key, relation_id).id,))


def _agent_id(conn: Connection, key: str, path: str) -> str:
    agent = agents.find(conn, key)
    if agent is None:
        raise Unprocessable(f"There is no agent '{key[:255]}'", details=[Detail(path, "no such agent")])
    return agent.id


def _relate(conn: Connection, schema_id: str, new: Iterable[NewRelation], relation_id: str | None = None) -> list[str]:
    made = []
    for relation in new:
        source = _agent_id(conn, relation.source, "$.source")
        target = _agent_id(conn, relation.target, "$.target")
        pair = f"{relation.source} -> {relation.target}"
        if conn.execute(
            "select 1 from agent_relations where schema_id = ? and source_id = ? and target_id = ?",
            (schema_id, source, target),
        ).fetchone():
            raise Conflict(f"The schema has the relation {pair} already")
        if source == target or _reaches(conn, schema_id, target, source):
            raise InvalidRequest(f"The relation {pair} closes a circle", details=[Detail("$.target", "leads back")])
        made.append(relation_id or new_uuid())
        config = msgspec.json.encode(relation.config).decode()
        conn.execute(
            "insert into agent_relations values (?, ?, ?, ?, ?)", (made[-1], schema_id, source, target, config)
        )
    return made


def _replace_relations(conn: Connection, schema_id: str, new: Sequence[NewRelation]) -> None:
    """Replaces the relations of a schema; one between the same two agents keeps its id."""
    ids = {(one.source, one.target): one.id for one in relations(conn, schema_id)}
    conn.execute("delete from agent_relations where schema_id = ?", (schema_id,))
    for one in new:
        ends = [agent.name if (agent := agents.find(conn, key)) else key for key in (one.source, one.target)]
        _relate(conn, schema_id, [one], ids.get((ends[0], ends[1])))


def _reaches(conn: Connection, schema_id: str, start: str, goal: str) -> bool:
    sql = """with recursive reached (id) as (
        select cast(? as text) union select r.target_id from agent_relations r join reached on reached.id = r.source_id
        where r.schema_id = ?)
      select 1 from reached where id = ?"""
    return conn.execute(sql, (start, schema_id, goal)).fetchone() is not None
