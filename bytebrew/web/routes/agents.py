"""Agents."""

from functools import partial

from msgspec import Struct
from msgspec.structs import asdict

from bytebrew.base.formats import narrowed
from bytebrew.config.agent_warnings import missing
from bytebrew.contract.connection import Connection
from bytebrew.contract.entities import Agent, AgentPatch, Live, NewAgent
from bytebrew.contract.route import Request, Route
from bytebrew.engine import Engine
from bytebrew.store import agents
from bytebrew.store.sqlite.database import Database


class AgentRow(Struct, frozen=True, kw_only=True):
    """An agent in the list."""

    id: str
    name: str
    description: str
    model: str | None
    lifecycle: str
    tools_count: int
    has_knowledge: bool


class AgentDetail(Agent, frozen=True, kw_only=True):
    """An agent with all its fields; `warnings` say what it names and the engine does not have yet."""

    system_prompt: str
    tools_count: int
    has_knowledge: bool
    warnings: Live[tuple[str, ...]]


def _detail(conn: Connection, engine: Engine, agent: Agent) -> AgentDetail:
    return AgentDetail(
        **asdict(agent),
        system_prompt=agent.system,
        tools_count=len(agent.tools),
        has_knowledge=agent.capability("knowledge") is not None,
        warnings=tuple(missing(conn, engine, agent)),
    )


async def list_agents(db: Database, request: Request[None]) -> list[AgentRow]:
    """Every agent by name."""
    return [
        AgentRow(
            id=agent.id,
            name=agent.name,
            description=agent.description,
            model=agent.model,
            lifecycle=agent.lifecycle,
            tools_count=len(agent.tools),
            has_knowledge=agent.capability("knowledge") is not None,
        )
        for agent in await db.scan(agents.list_all)
    ]


async def get_agent(engine: Engine, request: Request[None]) -> AgentDetail:
    """One agent."""
    name = request.path["name"]
    return await engine.db.read(lambda conn: _detail(conn, engine, agents.get(conn, name)))


async def create_agent(engine: Engine, request: Request[NewAgent]) -> AgentDetail:
    """A new agent."""
    return await request.write(lambda conn: _detail(conn, engine, agents.create(conn, request.body)))


async def update_agent(engine: Engine, request: Request[AgentPatch]) -> AgentDetail:
    """The agent with the fields that were sent."""
    name = request.path["name"]
    return await request.write(lambda conn: _detail(conn, engine, agents.update(conn, name, request.body)))


async def delete_agent(request: Request[None]) -> None:
    """Removes an agent that nothing uses."""
    await request.write(agents.delete, request.path["name"])


_ALIASES = {"system_prompt": "system", "model_id": "model"}
_PATH = "/api/v1/agents/{name}"


def routes(engine: Engine) -> tuple[Route, ...]:
    """The routes, bound to what they use of an engine."""
    shown = engine.capability_types.shown
    detail = narrowed(AgentDetail, ("capabilities", tuple[shown, ...], ()))  # type: ignore[valid-type]
    return (
        Route(
            method="GET",
            path="/api/v1/agents",
            scope="agents:read",
            run=partial(list_agents, engine.db),
            summary="List agents",
            answer=list[AgentRow],
        ),
        Route(
            method="POST",
            path="/api/v1/agents",
            scope="agents:write",
            run=partial(create_agent, engine),
            summary="Create an agent",
            body=NewAgent,
            example={
                "name": "support",
                "system": "You help customers of a shop.",
                "tools": ["current_time"],
                "max_steps": 20,
            },
            aliases=_ALIASES,
            answer=detail,
            status=201,
            idempotent=True,
        ),
        Route(
            method="GET",
            path=_PATH,
            scope="agents:read",
            run=partial(get_agent, engine),
            summary="Get an agent",
            answer=detail,
        ),
        *(
            Route(
                method=method,
                path=_PATH,
                scope="agents:write",
                run=partial(update_agent, engine),
                summary="Update an agent",
                body=AgentPatch,
                example={"system": "You help customers of a shop, briefly.", "max_steps": 30},
                aliases=_ALIASES,
                answer=detail,
            )
            for method in ("PUT", "PATCH")
        ),
        Route(
            method="DELETE", path=_PATH, scope="agents:write", run=delete_agent, summary="Delete an agent", status=204
        ),
    )
