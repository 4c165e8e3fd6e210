"""Agents."""

from functools import partial
from typing import Any

from msgspec import Struct, defstruct, structs

from bytebrew.base.formats import narrowed
from bytebrew.config.agent_warnings import TypeOf, missing, types_of
from bytebrew.config.import_export import managed_by
from bytebrew.contract.configuration.config_section import ManagedBy
from bytebrew.contract.connection import Connection, recalled
from bytebrew.contract.entities import Agent, AgentPatch, Live, NewAgent
from bytebrew.contract.route import Request, Route
from bytebrew.engine import Engine
from bytebrew.store.configuration import agents
from bytebrew.store.configuration.agents import AgentLists
from bytebrew.store.configuration.capabilities import CapabilityTypes

_Owner = Live[ManagedBy | None]


class AgentRow(Struct, frozen=True, kw_only=True):
    """An agent in the list, with what it names and the engine does not have yet as `warnings`."""

    id: str
    name: str
    description: str
    model: str | None
    lifecycle: str
    tools_count: int
    confirm_before: tuple[str, ...]
    can_spawn: tuple[str, ...]
    version: int
    managed_by: ManagedBy | None
    warnings: tuple[str, ...]


class AgentAnswers:
    """The structs of answers about agents, with fields for declared lists and for flags of capability types."""

    def __init__(self, types: CapabilityTypes, lists: AgentLists) -> None:
        self._types = {one.flag: one.name for one in types.values() if one.flag}
        flags: list[tuple[str, Any]] = [(flag, bool) for flag in self._types]
        self.row: Any = narrowed(AgentRow, *flags)
        own: dict[str, list[Any]] = {
            "lists": [(name, tuple[str, ...]) for name in lists],
            "capabilities": [("capabilities", tuple[types.shown, ...], ())],  # type: ignore[name-defined]
            "version": [],  # a PUT stores the new one only after its answer is made
        }
        fields = [one for field in structs.fields(Agent) for one in own.get(field.name, [(field.name, field.type)])]
        fields += [("system_prompt", str), ("tools_count", int), *flags]
        fields += [("managed_by", _Owner), ("warnings", Live[tuple[str, ...]])]
        doc = "An agent with all its fields; `warnings` say what it names and the engine does not have yet."
        doc += " `managed_by` is where the configuration file has it, null if it has not."
        self.detail: Any = defstruct("AgentDetail", fields, namespace={"__doc__": doc}, frozen=True, kw_only=True)

    def rows_of(self, conn: Connection, engine: Engine) -> list[AgentRow]:
        """All agents as in the list."""
        type_of = types_of(conn)
        return [self._row(conn, engine, type_of, agent) for agent in recalled(conn, agents.list_all)]

    def _row(self, conn: Connection, engine: Engine, type_of: TypeOf, agent: Agent) -> AgentRow:
        row: AgentRow = self.row(
            id=agent.id,
            name=agent.name,
            description=agent.description,
            model=agent.model,
            lifecycle=agent.lifecycle,
            tools_count=len(agent.tools),
            confirm_before=agent.confirm_before,
            can_spawn=agent.can_spawn,
            version=agent.version,
            managed_by=managed_by(engine, "agents", agent.name),
            warnings=(*missing(conn, engine, agent, type_of),),
            **self._flags(agent),
        )
        return row

    def detail_of(self, conn: Connection, engine: Engine, agent: Agent) -> Struct:
        """The agent with all its fields."""
        more: dict[str, Any] = {**self._flags(agent), **agent.lists}
        more |= {"system_prompt": agent.system, "tools_count": len(agent.tools)}
        more |= {"managed_by": managed_by(engine, "agents", agent.name)}
        more |= {"warnings": (*missing(conn, engine, agent, types_of(conn)),)}
        names: tuple[str, ...] = self.detail.__struct_fields__
        detail: Struct = self.detail(**{name: more[name] if name in more else getattr(agent, name) for name in names})
        return detail

    def _flags(self, agent: Agent) -> dict[str, bool]:
        return {flag: agent.capability(type) is not None for flag, type in self._types.items()}


async def list_agents(engine: Engine, answers: AgentAnswers, request: Request[None]) -> list[AgentRow]:
    """Every agent by name."""
    return await engine.db.browse(answers.rows_of, engine)


async def get_agent(engine: Engine, answers: AgentAnswers, request: Request[None]) -> Struct:
    """One agent."""
    name = request.path["name"]
    return await engine.db.peek(lambda conn: answers.detail_of(conn, engine, agents.get(conn, name)))


async def create_agent(engine: Engine, answers: AgentAnswers, request: Request[NewAgent]) -> Struct:
    """A new agent."""
    return await request.write(lambda conn: answers.detail_of(conn, engine, agents.create(conn, request.body)))


async def update_agent(engine: Engine, answers: AgentAnswers, request: Request[AgentPatch]) -> Struct:
    """The agent with the fields that were sent."""
    name = request.path["name"]
    return await request.write(lambda conn: answers.detail_of(conn, engine, agents.update(conn, name, request.body)))


async def delete_agent(request: Request[None]) -> None:
    """Removes an agent that nothing uses."""
    await request.write(agents.delete, request.path["name"])


_ALIASES = {"system_prompt": "system", "model_id": "model"}
_PATH = "/api/v1/agents/{name}"


def routes(engine: Engine) -> tuple[Route, ...]:
    """The routes, bound to the parts of an engine that they use."""
    answers = AgentAnswers(engine.capability_types, engine.agent_lists)
    return (
        Route(
            "GET",
            "/api/v1/agents",
            "agents:read",
            partial(list_agents, engine, answers),
            "List agents",
            answer=list[answers.row],  # type: ignore[name-defined]
        ),
        Route(
            "POST",
            "/api/v1/agents",
            "agents:write",
            partial(create_agent, engine, answers),
            "Create an agent",
            body=engine.agent_lists.new,
            example={
                "name": "support",
                "system": "You help customers of a shop.",
                "tools": ["current_time"],
                "max_steps": 20,
            },
            aliases=_ALIASES,
            answer=answers.detail,
            status=201,
            idempotent=True,
        ),
        Route("GET", _PATH, "agents:read", partial(get_agent, engine, answers), "Get an agent", answer=answers.detail),
        *(
            Route(
                method,
                _PATH,
                "agents:write",
                partial(update_agent, engine, answers),
                "Update an agent",
                body=engine.agent_lists.patch,
                example={"system": "You help customers of a shop, briefly.", "max_steps": 30},
                aliases=_ALIASES,
                answer=answers.detail,
            )
            for method in ("PUT", "PATCH")
        ),
        Route("DELETE", _PATH, "agents:write", delete_agent, "Delete an agent", status=204),
    )
