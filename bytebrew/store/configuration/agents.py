"""SQL for agents; each list that a plugin declares is a column of its own."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import asdict

from bytebrew.base.errors import Conflict, Detail, InvalidRequest, NotFound
from bytebrew.base.formats import canonical_id, narrowed, new_uuid, now, struct_of
from bytebrew.contract import connection
from bytebrew.contract.connection import Connection, Row, insert
from bytebrew.contract.entities import Agent, AgentList, AgentPatch, Name, NewAgent
from bytebrew.store.configuration.response_formats import checked
from bytebrew.store.sqlite.dialect import CAPABILITIES
from bytebrew.store.sqlite.first_tables import AGENT_LISTS

SELECT = f"""select coalesce(model, (select name from models where is_default = 1)) as model,
  {CAPABILITIES} as capabilities, agents.* from agents"""
"""Reads agents: the first of the two columns `model` counts, and columns of arrays that are no fields are lists."""


class AgentLists(dict[str, AgentList]):
    """Every list that plugins declare by name, and the structs of new agents and patches that have them as fields."""

    def __init__(self, lists: Iterable[AgentList]) -> None:
        super().__init__((one.name, one) for one in lists)
        fields = [
            (one.name, Annotated[tuple[Name, ...], Meta(max_length=one.most, description=one.description or None)])
            for one in self.values()
        ]
        self.new = narrowed(NewAgent, *((name, kind, ()) for name, kind in fields))
        self.patch = narrowed(AgentPatch, *((name, kind | UnsetType, UNSET) for name, kind in fields))

    def migrations(self) -> dict[str, list[tuple[int, str]]]:
        """The columns of lists that the first tables do not have, each with an owner of its own."""
        sql = "alter table agents add column {} text not null default '[]'"
        return {f"agents.{name}": [(1, sql.format(name))] for name in self if name not in AGENT_LISTS}


def list_all(conn: Connection) -> list[Agent]:
    """Every agent by name."""
    return [_agent_of(row) for row in conn.execute(f"{SELECT} order by name")]


def count(conn: Connection) -> int:
    """The number of agents."""
    found: int = conn.execute("select count(*) from agents").fetchone()[0]
    return found


def find(conn: Connection, key: str) -> Agent | None:
    """An agent by name, or else by id."""
    for column, value in (("name", key), ("id", canonical_id(key))):
        row = conn.execute(f"{SELECT} where {column} = ?", (value,)).fetchone()
        if row is not None:
            return _agent_of(row)
    return None


def get(conn: Connection, key: str) -> Agent:
    """An agent by name, or else by id; NotFound otherwise."""
    agent = find(conn, key)
    if agent is None:
        raise NotFound(f"There is no agent '{key[:255]}'")
    return agent


def create(conn: Connection, new: NewAgent) -> Agent:
    """Stores an agent and returns it."""
    if conn.execute("select 1 from agents where name = ?", (new.name,)).fetchone():
        raise Conflict(f"There is an agent '{new.name}' already; PUT /api/v1/agents/{new.name} changes it")
    _check_model(conn, "model", new.model)
    _check_model(conn, "summary_model", new.summary_model)
    moment = now()
    values = dict.fromkeys(AGENT_LISTS, ()) | asdict(new) | {"response_format": checked(new.response_format)}
    insert(conn, "agents", values, id=new_uuid(), created_at=moment, updated_at=moment)
    return get(conn, new.name)


def update(conn: Connection, key: str, patch: AgentPatch) -> Agent:
    """Merges the patch into an agent and returns it."""
    agent = get(conn, key)
    changes = {name: value for name, value in asdict(patch).items() if value is not UNSET}
    if changes.pop("name", agent.name) != agent.name:
        raise InvalidRequest("An agent's name is fixed", details=[Detail("$.name", "create another agent instead")])
    for field in ("model", "summary_model"):
        _check_model(conn, field, changes.get(field))
    if "response_format" in changes:
        changes["response_format"] = checked(changes["response_format"])
    connection.update(conn, "agents", {**changes, "updated_at": now()}, id=agent.id)
    return get(conn, agent.name)


def delete(conn: Connection, key: str) -> None:
    """Deletes an agent that no schema and no other agent uses; Conflict lists those that do."""
    agent = get(conn, key)
    schemas = conn.execute(
        """select name from schemas where entry_agent_id = ?1
        union select s.name from agent_relations r join schemas s on s.id = r.schema_id
        where ?1 in (r.source_id, r.target_id) order by name""",
        (agent.id,),
    )
    details = [Detail("$.schemas", row["name"]) for row in schemas]
    others = conn.execute("select name, can_spawn from agents where id <> ? order by name", (agent.id,))
    spawners = [row["name"] for row in others if agent.name in msgspec.json.decode(row["can_spawn"])]
    details += [Detail("$.agents", name) for name in spawners]
    if details:
        users = ", ".join(detail.message for detail in details[:10])
        raise Conflict(f"Agent '{agent.name}' is used by {users}", details=details)
    conn.execute("delete from agents where id = ?", (agent.id,))


def _agent_of(row: Row) -> Agent:
    return _agent((*row.keys(),), (*row,))


@lru_cache(256)
def _agent(names: tuple[str, ...], values: tuple[Any, ...]) -> Agent:
    """The agent of a row with these columns: a row is read far more often than it changes."""
    return struct_of(dict(zip(reversed(names), reversed(values), strict=True)), Agent, rest="lists")


def _check_model(conn: Connection, field: str, name: str | None) -> None:
    if name is None:
        return
    row = conn.execute("select kind from models where name = ?", (name,)).fetchone()
    if row is not None and row["kind"] != "chat":
        details = [Detail(f"$.{field}", f"is of kind {row['kind']}")]
        raise InvalidRequest(f"Model '{name}' makes embeddings and cannot chat; name another", details=details)
