"""Sub-agents: runs an agent's turn within a tool call of another agent's turn."""

from uuid import UUID, uuid5

import anyio

from bytebrew.base.errors import Draining, StorageError, ToolError, Unprocessable
from bytebrew.base.formats import new_id, new_uuid
from bytebrew.contract.entities import Agent
from bytebrew.contract.governance.spawn_limits import SpawnLimits
from bytebrew.contract.tool import Call
from bytebrew.conversation.runner import Runner
from bytebrew.conversation.turn import Turn
from bytebrew.store import turn_results, turns
from bytebrew.store.configuration import schemas
from bytebrew.store.database.database import Database
from bytebrew.store.queries import spawned_turns
from bytebrew.store.queries.spawned_turns import Spawned


async def spawn(db: Database, runner: Runner, call: Call, agent: str, message: str, limits: SpawnLimits) -> str:
    """Runs an agent within a tool call and returns its last message; a repeated call waits for the same turn.

    Raises ToolError if the agent fails, and EngineError if it cannot start: in a spawn cycle, or above the limits.
    """
    parent = runner.turns[call.turn_id]
    child: Turn | Spawned | None
    try:
        async with parent.spawn_lock:
            child = next((turn for turn in runner.turns.values() if _is_spawned_by(turn, call)), None)
            child = child or await db.read(spawned_turns.spawned, call.turn_id, call.call_id)
            child = child or await _begin(db, runner, parent, call, agent, message, limits)
        if isinstance(child, Turn):
            await _wait(child, parent)
        else:
            parent.add(child.usage)
    except Draining:
        parent.cancel("stopped")  # it repeats this call after the restart
        await anyio.sleep_forever()
        raise
    end = await db.read(turn_results.outcome, child.id)
    if end is None:
        raise ToolError(f"Agent '{agent}' was deleted before it had an answer")
    if end.status != "completed":
        raise ToolError(f"Agent '{agent}' ended as {end.status}: {end.text or 'it has said nothing'}")
    if end.truncated:
        return f"{end.text}\n[Agent '{agent}' was cut off here by its model's token limit]"
    return end.text or f"Agent '{agent}' ended without a word"


def _is_spawned_by(turn: Turn, call: Call) -> bool:
    above = turn.new.parent
    return above is not None and (above.turn_id, above.call_id) == (call.turn_id, call.call_id)


async def _begin(
    db: Database, runner: Runner, parent: Turn, call: Call, agent: str, message: str, limits: SpawnLimits
) -> Turn:
    lineage = (*parent.new.lineage, parent.agent.name)
    if agent in lineage:
        raise Unprocessable(f"Spawn circle: {' -> '.join((*lineage, agent))}", code="spawn_circle")
    entrance = await db.read(schemas.member, parent.new.schema, agent)
    new = _turn(parent, call, entrance.agent, message, limits)
    child = runner.turn(new, entrance, parent.model if new.own_key else None)
    child.parent, child.headers = parent, parent.headers
    await runner.submit(child)
    return child


async def _wait(child: Turn, parent: Turn) -> None:
    """Waits for the child's end, and cancels it if its parent is cancelled; Draining if a shutdown interrupts it."""
    try:
        await _wait_recorded(child, parent)
    except anyio.get_cancelled_exc_class():
        child.cancel(parent.cancelled_for or "cancelled")
        with anyio.CancelScope(shield=True):  # its usage is added to the parent's
            await _wait_recorded(child, parent)
        raise
    finally:
        parent.add(child.usage)
    if isinstance(child.failure, Draining):
        raise child.failure


async def _wait_recorded(child: Turn, parent: Turn) -> None:
    """Waits until the child's end is stored; clients of the parent get the StorageError while that fails."""
    try:
        await child.wait_recorded(raise_storage_error=True)
    except StorageError as error:
        parent.storage_error = error
        parent.log.notify()
        try:
            await child.wait_recorded()
        finally:
            parent.storage_error = None


def _turn(parent: Turn, call: Call, agent: Agent, message: str, limits: SpawnLimits) -> turns.NewTurn:
    """A turn of an agent that a tool call spawns."""
    above = parent.new
    kept = agent.lifecycle == "persistent"
    return turns.NewTurn(
        id=new_id("turn"),
        # parallel calls must use the same session before it is stored
        session_id=str(uuid5(UUID(parent.session_id), agent.name)) if kept else new_uuid(),
        schema=above.schema,
        agent=agent.name,
        actor=above.actor,
        owner=above.owner,
        user_sub=above.user_sub,
        message=message,
        own_key=above.own_key,
        subagents=above.subagents,
        traceparent=above.traceparent,
        parent=turns.Parent(
            turn_id=above.id,
            call_id=call.call_id,
            session_id=parent.session_id,
            root_turn_id=parent.root_id,
        ),
        lineage=(*above.lineage, parent.agent.name),
        limits=limits,
        fresh=True,
        begins=not kept,
    )
