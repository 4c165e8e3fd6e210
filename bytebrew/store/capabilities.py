"""Capabilities of agents: rows, and the fields of each type's config."""

from typing import Any

import msgspec
from msgspec import UNSET, Struct

from bytebrew.base.errors import Conflict, Detail, InvalidRequest, NotFound
from bytebrew.base.formats import new_uuid
from bytebrew.contract import connection
from bytebrew.contract.connection import Connection, insert
from bytebrew.contract.entities import (
    Capability,
    CapabilityPatch,
    CapabilityType,
    KnowledgeConfig,
    MemoryConfig,
    NewCapability,
)
from bytebrew.store import agents

CONFIGS: dict[CapabilityType, type[Struct]] = {"memory": MemoryConfig, "knowledge": KnowledgeConfig}
"""What a capability's config is read as."""


def list_all(conn: Connection, agent: str) -> list[Capability]:
    """Every capability of an agent by name or id, enabled or not."""
    return list(agents.get(conn, agent).capabilities)


def get(conn: Connection, agent: str, key: str) -> Capability:
    """A capability of an agent by its id or type; NotFound otherwise."""
    for one in list_all(conn, agent):
        if key in (one.id, one.type):
            return one
    raise NotFound(f"Agent '{agent[:255]}' has no capability '{key[:255]}'")


def create(conn: Connection, agent: str, new: NewCapability) -> Capability:
    """The capability, now stored; Conflict where the agent has one of its type."""
    owner = agents.get(conn, agent)
    if any(one.type == new.type for one in owner.capabilities):
        words = f"Agent '{owner.name}' has the capability '{new.type}' already"
        raise Conflict(f"{words}; PUT /api/v1/agents/{owner.name}/capabilities/{new.type} changes it")
    config = _checked(conn, new.type, new.config)
    made = Capability(id=new_uuid(), type=new.type, config=config, enabled=new.enabled)
    insert(conn, "agent_capabilities", made, agent_id=owner.id)
    return made


def update(conn: Connection, agent: str, key: str, patch: CapabilityPatch) -> None:
    """Merges the patch into a capability by id or type."""
    one = get(conn, agent, key)
    if patch.type not in (UNSET, one.type):
        raise InvalidRequest("A capability's type is fixed", details=[Detail("$.type", "create another instead")])
    config = one.config if patch.config is UNSET else _checked(conn, one.type, {**one.config, **patch.config})
    enabled = one.enabled if patch.enabled is UNSET else patch.enabled
    connection.update(conn, "agent_capabilities", {"config": config, "enabled": enabled}, id=one.id)


def delete(conn: Connection, agent: str, key: str) -> None:
    """Takes a capability by id or type from an agent."""
    conn.execute("delete from agent_capabilities where id = ?", (get(conn, agent, key).id,))


def _checked(conn: Connection, type: CapabilityType, config: dict[str, Any]) -> dict[str, Any]:
    """The config with all its fields."""
    try:
        found = msgspec.convert(config, CONFIGS[type])
    except msgspec.ValidationError as error:
        words, _, at = str(error).partition(" - at `$")
        path = f"$.config{at.removesuffix('`')}"
        if words.startswith("Object contains unknown field `"):
            path = f"{path}.{words.split('`')[1]}"
        raise InvalidRequest(f"{path[:300]}: {words[:300]}", details=[Detail(path[:300], words[:300])]) from error
    if isinstance(found, MemoryConfig):
        row = conn.execute("select kind from models where name = ?", (found.embedding_model,)).fetchone()
        if row is not None and row["kind"] != "embedding":
            details = [Detail("$.config.embedding_model", f"is of kind {row['kind']}")]
            raise InvalidRequest(f"Model '{found.embedding_model}' makes no embeddings; name another", details=details)
    whole: dict[str, Any] = msgspec.to_builtins(found)
    return whole
