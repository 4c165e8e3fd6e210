"""Sub-agents: a tool `spawn_<name>` for each agent that an agent may spawn."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct

from bytebrew import (
    Agent,
    Call,
    Connection,
    Engine,
    EngineError,
    Register,
    SpawnLimits,
    Tool,
    ToolError,
    Toolset,
    hookimpl,
)


class SpawnSettings(Struct, frozen=True, kw_only=True):
    """Limits of spawning."""

    spawn_max_depth: Annotated[int, Meta(ge=0, le=50, description="levels of agents below the one of a schema")] = 5
    spawn_max_children: Annotated[int, Meta(ge=0, description="agents that one turn may spawn")] = 10
    spawn_max_total: Annotated[int, Meta(ge=0, description="agents spawned for one message, on all levels")] = 20


class Spawn(Tool):
    """Runs an agent and returns its last message; the agent's time limit applies, not the tools'."""

    input_schema = {
        "type": "object",
        "properties": {"message": {"type": "string", "description": "what the agent is to do, with all it must know"}},
        "required": ["message"],
        "additionalProperties": False,
    }
    timeout = math.inf
    idempotent = True  # a repeated call continues its turn
    source = "spawn"

    def __init__(self, engine: Engine, name: str, agent: Agent) -> None:
        self.name = name
        self.description = agent.description or f"Hands a task to the agent {agent.name} and waits for its answer"
        self._engine = engine
        self._agent = agent.name

    @property
    def names(self) -> frozenset[str]:
        return super().names | {f"spawn_{self._agent}"}

    async def run(self, call: Call, input: dict[str, Any]) -> str:
        message = input.get("message")
        if not isinstance(message, str) or not message or len(input) > 1:
            raise ToolError("The arguments do not fit: send one string, message")
        settings = self._engine.settings.of(SpawnSettings)
        limits = SpawnLimits(
            depth=settings.spawn_max_depth, children=settings.spawn_max_children, total=settings.spawn_max_total
        )
        try:
            return await self._engine.spawn(call, self._agent, message, limits)
        except EngineError as error:
            raise ToolError(f"Agent '{self._agent}' could not begin: {error.message}") from error


class Spawning(Toolset):
    """A tool for each existing agent in can_spawn."""

    lists = ("can_spawn",)
    reserves = ("spawn_*",)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def tools(self, agent: Agent) -> Sequence[Tool]:
        others = _named([one for one in await self._engine.agents() if one.name in agent.can_spawn])
        return [Spawn(self._engine, name, other) for name, other in others.items()]

    async def all(self) -> Sequence[Tool]:
        return [Spawn(self._engine, name, agent) for name, agent in _named(await self._engine.agents()).items()]

    def knows(self, conn: Connection, agent: Agent, gate: str) -> bool:
        return gate in {form for name in agent.can_spawn for form in (f"spawn_{name}", _plain(name))}

    def has(self, conn: Connection, name: str) -> bool:
        return name.startswith("spawn_")

    def missing(self, conn: Connection, agent: Agent) -> Iterable[str]:
        for name in agent.tools:
            if name.startswith("spawn_"):
                yield f"tools: '{name}' comes with the agent's name in can_spawn, not from here"


def _plain(name: str) -> str:
    """The name of an agent's tool, unless another has it."""
    return re.sub("[^a-zA-Z0-9_-]", "_", f"spawn_{name}")[:64]


def _named(agents: Sequence[Agent]) -> dict[str, Agent]:
    """Agents by the names of their tools, which are unique and valid for every vendor."""
    plain = {one.name: _plain(one.name) for one in agents}
    found: dict[str, Agent] = {}
    for agent in sorted(agents, key=lambda agent: plain[agent.name] != f"spawn_{agent.name}"):
        name, n = plain[agent.name], 1
        while name in found:
            n += 1
            name = f"{plain[agent.name][:60]}_{n}"
        found[name] = agent
    return found


@hookimpl
def register_settings(register: Register[type[Struct]]) -> None:
    register(SpawnSettings)


@hookimpl
def register_toolsets(register: Register[Toolset], engine: Engine) -> None:
    register(Spawning(engine))
