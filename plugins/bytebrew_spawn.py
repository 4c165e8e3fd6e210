"""Sub-agents: a tool `spawn_<name>` for each agent that an agent may spawn."""

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct

from bytebrew import Agent, Call, EngineError, SpawnLimits, Tool, ToolError, Toolset, hookimpl

if TYPE_CHECKING:
    from bytebrew import Engine


class SpawnSettings(Struct, frozen=True, kw_only=True):
    """How far spawning may go."""

    spawn_max_depth: Annotated[int, Meta(ge=0, le=50, description="levels of agents below the one of a schema")] = 5
    spawn_max_children: Annotated[int, Meta(ge=0, description="agents that one turn may spawn")] = 10
    spawn_max_total: Annotated[int, Meta(ge=0, description="agents spawned for one message, on all levels")] = 20


class Spawn(Tool):
    """Runs one agent and answers with its last word; its own time limit counts, not the tools'."""

    input_schema = {
        "type": "object",
        "properties": {"message": {"type": "string", "description": "what the agent is to do, with all it must know"}},
        "required": ["message"],
        "additionalProperties": False,
    }
    timeout = math.inf
    idempotent = True  # a call that is run again takes up the turn that it began
    source = "spawn"

    def __init__(self, engine: "Engine", agent: str, description: str) -> None:
        self.name = re.sub("[^a-zA-Z0-9_-]", "_", f"spawn_{agent}")[:64]  # what every vendor takes as a tool's name
        self.description = description or f"Hands a task to the agent {agent} and waits for its answer"
        self._engine = engine
        self._agent = agent

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
    """A tool for each entry of can_spawn that exists."""

    lists = ("can_spawn",)

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine

    async def tools(self, agent: Agent) -> Sequence[Tool]:
        names = set(agent.can_spawn)
        return [self._tool(other) for other in await self._engine.agents() if other.name in names]

    async def all(self) -> Sequence[Tool]:
        return [self._tool(agent) for agent in await self._engine.agents()]

    def _tool(self, agent: Agent) -> Tool:
        return Spawn(self._engine, agent.name, agent.description)


@hookimpl
def register_settings(register: Any) -> None:
    register(SpawnSettings)


@hookimpl
def register_toolsets(register: Any, engine: "Engine") -> None:
    register(Spawning(engine))
