"""Warnings about names in an agent that the engine does not have, shown when it is saved, read and imported."""

from collections.abc import Callable, Iterator
from functools import cache

from bytebrew.contract.connection import Connection
from bytebrew.contract.engine import Engine
from bytebrew.contract.entities import Agent
from bytebrew.conversation.tools.read_result import ReadResult

_READ_RESULT = (ReadResult.name, f"{ReadResult.source}/{ReadResult.name}")


TypeOf = Callable[[str], str | None]


def types_of(conn: Connection) -> TypeOf:
    """A function for the type of a model by name, None if there is none; for many agents it reads each once."""

    @cache
    def type_of(name: str) -> str | None:
        row = conn.execute("select type from models where name = ?", (name,)).fetchone()
        return row["type"] if row else None

    return type_of


def missing(conn: Connection, engine: Engine, agent: Agent, type_of: TypeOf) -> list[str]:
    """A sentence for each name in the agent that the engine does not have: the core's, then each toolset's."""
    found = [*_models(conn, engine, agent, type_of)]
    if agent.summary_model is not None and type_of(agent.summary_model) is None:
        found.append(f"summary_model: there is no model '{agent.summary_model}' yet")
    if agent.can_spawn:
        found += _agents(conn, agent)
    found += _tools(conn, engine, agent)
    if agent.confirm_before:
        found += _gates(conn, engine, agent)
    for toolset in engine.toolsets:
        found += toolset.missing(conn, agent)
    return found


def _models(conn: Connection, engine: Engine, agent: Agent, type_of: TypeOf) -> Iterator[str]:
    if agent.model is None:
        yield "It has no model and there is no default one: create a model with POST /api/v1/models"
        return
    if (type := type_of(agent.model)) is None:
        yield f"There is no model '{agent.model}' yet"
    elif (provider := engine.providers.get(type)) is not None and provider.demo:
        own = conn.execute("select model from agents where id = ?", (agent.id,)).fetchone()
        if own is not None and own["model"] is None:
            message = "It has no model of its own, and the default one only shows how answers look"
            yield f"{message}: create a model with POST /api/v1/models"


def _agents(conn: Connection, agent: Agent) -> Iterator[str]:
    for name in agent.can_spawn:
        if not conn.execute("select 1 from agents where name = ?", (name,)).fetchone():
            yield f"can_spawn: there is no agent '{name}' yet"


def _gates(conn: Connection, engine: Engine, agent: Agent) -> Iterator[str]:
    own = {name for tool in agent.tools if tool in engine.tools for name in engine.tools[tool].names}
    foreign = [one.foreign for one in engine.toolsets if one.foreign and any(agent.lists.get(key) for key in one.lists)]
    message = f"until it has, a person is asked about every tool of {' and '.join(foreign)}"
    for gate in agent.confirm_before:
        if gate in own or gate in _READ_RESULT:
            continue
        if not any(toolset.knows(conn, agent, gate) for toolset in engine.toolsets):
            closes = f"; {message}" if foreign and not engine.reserves(gate) else ""
            yield f"confirm_before: the agent has no tool '{gate}'{closes}"


def _tools(conn: Connection, engine: Engine, agent: Agent) -> Iterator[str]:
    for name in agent.tools:
        known = name in engine.tools or name == ReadResult.name
        if not known and not any(toolset.has(conn, name) for toolset in engine.toolsets):
            yield f"tools: there is no tool '{name}' yet"
    for field, names in {**agent.lists, "can_spawn": agent.can_spawn}.items():
        if names and not any(not toolset.lists or field in toolset.lists for toolset in engine.toolsets):
            yield f"{field}: no plugin is there that makes tools of them"
