"""Agents: rows, and who uses them."""

from typing import Any

import msgspec
from msgspec import UNSET
from msgspec.structs import asdict

from bytebrew.base.errors import Conflict, Detail, InvalidRequest, NotFound
from bytebrew.base.formats import canonical_id, new_uuid, now, struct_of
from bytebrew.contract.connection import Connection
from bytebrew.contract.entities import Agent, AgentPatch, NewAgent

_LISTS = ("stop_sequences", "tools", "confirm_before", "can_spawn", "mcp_servers")
SELECT = """select id, name, description, coalesce(model, (select name from models where is_default = 1)) as model,
  system, lifecycle, tool_execution, max_steps, max_context_size, max_turn_duration, temperature, top_p, max_tokens,
  stop_sequences, tools, confirm_before, can_spawn, mcp_servers, created_at, updated_at,
  (select json_group_array(json_object('id', c.id, 'type', c.type, 'config', json(c.config), 'enabled', c.enabled))
    from agent_capabilities c where c.agent_id = agents.id) as capabilities from agents"""


def list_all(conn: Connection) -> list[Agent]:
    """Every agent by name."""
    return [struct_of(row, Agent) for row in conn.execute(f"{SELECT} order by name")]


def count(conn: Connection) -> int:
    """How many agents there are."""
    found: int = conn.execute("select count(*) from agents").fetchone()[0]
    return found


def find(conn: Connection, key: str) -> Agent | None:
    """An agent by name, or else by id."""
    for column, value in (("name", key), ("id", canonical_id(key))):
        row = conn.execute(f"{SELECT} where {column} = ?", (value,)).fetchone()
        if row is not None:
            return struct_of(row, Agent)
    return None


def get(conn: Connection, key: str) -> Agent:
    """An agent by name, or else by id; NotFound otherwise."""
    agent = find(conn, key)
    if agent is None:
        raise NotFound(f"There is no agent '{key[:255]}'")
    return agent


def create(conn: Connection, new: NewAgent) -> Agent:
    """The agent, now stored."""
    if conn.execute("select 1 from agents where name = ?", (new.name,)).fetchone():
        raise Conflict(f"There is an agent '{new.name}' already; PUT /api/v1/agents/{new.name} changes it")
    _check_model(conn, new.model)
    moment = now()
    values = {"id": new_uuid(), **_columns(asdict(new)), "created_at": moment, "updated_at": moment}
    conn.execute(
        f"insert into agents ({', '.join(values)}) values ({', '.join('?' * len(values))})", tuple(values.values())
    )
    return get(conn, new.name)


def update(conn: Connection, key: str, patch: AgentPatch) -> Agent:
    """The agent with the patch merged in."""
    agent = get(conn, key)
    changes = {name: value for name, value in asdict(patch).items() if value is not UNSET}
    if changes.pop("name", agent.name) != agent.name:
        raise InvalidRequest("An agent's name is fixed", details=[Detail("$.name", "create another agent instead")])
    _check_model(conn, changes.get("model"))
    changes = {**_columns(changes), "updated_at": now()}
    assignments = ", ".join(f"{name} = ?" for name in changes)
    conn.execute(f"update agents set {assignments} where id = ?", (*changes.values(), agent.id))
    return get(conn, agent.name)


def delete(conn: Connection, key: str) -> None:
    """Removes an agent that no schema and no other agent uses; Conflict lists those that do."""
    agent = get(conn, key)
    schemas = conn.execute(
        """select name from schemas where entry_agent_id = ?1
        union select s.name from agent_relations r join schemas s on s.id = r.schema_id
        where ?1 in (r.source_id, r.target_id)""",
        (agent.id,),
    )
    details = [Detail("$.schemas", row["name"]) for row in schemas]
    spawners = conn.execute(
        "select a.name from agents a, json_each(a.can_spawn) j where j.value = ? and a.id <> ? order by a.name",
        (agent.name, agent.id),
    )
    details += [Detail("$.agents", row["name"]) for row in spawners]
    if details:
        users = ", ".join(detail.message for detail in details[:10])
        raise Conflict(f"Agent '{agent.name}' is used by {users}", details=details)
    conn.execute("delete from agents where id = ?", (agent.id,))


def _check_model(conn: Connection, name: str | None) -> None:
    row = conn.execute("select kind from models where name = ?", (name,)).fetchone()
    if row is not None and row["kind"] != "chat":
        details = [Detail("$.model", f"is of kind {row['kind']}")]
        raise InvalidRequest(f"Model '{name}' makes embeddings and cannot chat; name another", details=details)


def _columns(values: dict[str, Any]) -> dict[str, Any]:
    return {name: msgspec.json.encode(value).decode() if name in _LISTS else value for name, value in values.items()}
