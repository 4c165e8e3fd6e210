"""SQL for the capabilities of agents, and validation of their configs by type."""

from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from bytebrew.base.errors import Conflict, Detail, InvalidRequest, NotFound
from bytebrew.base.formats import narrowed, new_uuid
from bytebrew.contract import connection
from bytebrew.contract.connection import Connection, insert
from bytebrew.contract.entities import Capability, CapabilityPatch, CapabilityType, NewCapability
from bytebrew.store.configuration import agents


class CapabilityTypes(dict[str, CapabilityType]):
    """Every capability type by name, and the API structs whose `type` is restricted to these names."""

    def __init__(self, types: Iterable[CapabilityType]) -> None:
        super().__init__((one.name, one) for one in types)
        type: Any = Literal.__getitem__(tuple(self)) if self else str
        configs = " or ".join(one.config.__name__ for one in self.values())
        doc = f"Something that an agent can do beside its tools; `config` has the fields of {configs}."
        self.shown = narrowed(Capability, ("type", type), __doc__=doc if self else Capability.__doc__)
        self.new = narrowed(NewCapability, ("type", type))
        self.patch = narrowed(CapabilityPatch, ("type", type | UnsetType, UNSET))


def list_all(conn: Connection, agent: str) -> list[Capability]:
    """Every capability of an agent, enabled or not."""
    return list(agents.get(conn, agent).capabilities)


def get(conn: Connection, agent: str, key: str) -> Capability:
    """A capability of an agent by its id or type; NotFound otherwise."""
    for one in list_all(conn, agent):
        if key in (one.id, one.type):
            return one
    raise NotFound(f"Agent '{agent[:255]}' has no capability '{key[:255]}'")


def create(conn: Connection, types: CapabilityTypes, agent: str, new: NewCapability) -> Capability:
    """Stores a capability and returns it; Conflict if the agent has one of its type."""
    owner = agents.get(conn, agent)
    if any(one.type == new.type for one in owner.capabilities):
        message = f"Agent '{owner.name}' has the capability '{new.type}' already"
        raise Conflict(f"{message}; PUT /api/v1/agents/{owner.name}/capabilities/{new.type} changes it")
    config = _checked(conn, types, new.type, new.config)
    made = Capability(id=new_uuid(), type=new.type, config=config, enabled=new.enabled)
    insert(conn, "agent_capabilities", made, agent_id=owner.id)
    return made


def update(conn: Connection, types: CapabilityTypes, agent: str, key: str, patch: CapabilityPatch) -> None:
    """Merges the patch into a capability, found by id or type."""
    one = get(conn, agent, key)
    if patch.type not in (UNSET, one.type):
        raise InvalidRequest("A capability's type is fixed", details=[Detail("$.type", "create another instead")])
    config = one.config if patch.config is UNSET else _checked(conn, types, one.type, {**one.config, **patch.config})
    enabled = one.enabled if patch.enabled is UNSET else patch.enabled
    connection.update(conn, "agent_capabilities", {"config": config, "enabled": enabled}, id=one.id)


def delete(conn: Connection, agent: str, key: str) -> None:
    """Deletes a capability of an agent, found by id or type."""
    conn.execute("delete from agent_capabilities where id = ?", (get(conn, agent, key).id,))


def _checked(conn: Connection, types: CapabilityTypes, type: str, config: dict[str, Any]) -> dict[str, Any]:
    """The validated config, with defaults for missing fields."""
    if type not in types:
        known = ", ".join(types) or "none"
        message = f"No plugin registers the capability '{type[:64]}'; known: {known}"
        raise InvalidRequest(message, details=[Detail("$.type", message)])
    try:
        found = msgspec.convert(config, types[type].config)
    except msgspec.ValidationError as error:
        words, _, at = str(error).partition(" - at `$")
        path = f"$.config{at.removesuffix('`')}"
        if words.startswith("Object contains unknown field `"):
            path = f"{path}.{words.split('`')[1]}"
        raise InvalidRequest(f"{path[:300]}: {words[:300]}", details=[Detail(path[:300], words[:300])]) from error
    if (check := types[type].check) is not None:
        check(conn, found)
    whole: dict[str, Any] = msgspec.to_builtins(found)
    return whole
