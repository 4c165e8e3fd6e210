"""Sub-agents: an agent's turn within a tool call of another agent's."""

from typing import TYPE_CHECKING
from uuid import UUID, uuid5

import anyio

from bytebrew.base.errors import Draining, StorageError, ToolError, Unprocessable
from bytebrew.base.formats import new_id, new_uuid
from bytebrew.contract.tool import Call, SpawnLimits
from bytebrew.conversation.turn import Turn
from bytebrew.store import schemas, turns

if TYPE_CHECKING:
    from bytebrew.engine import Engine


async def spawn(engine: "Engine", call: Call, agent: str, message: str, limits: SpawnLimits) -> str:
    """Runs an agent within a tool call and answers with its last word; the same call again takes up the same turn.

    Raises ToolError where the agent fails, and EngineError where it cannot begin: in a circle, or beyond the limits.
    """
    parent = engine.runner.turns[call.turn_id]
    served: Turn | turns.Spawned | None
    try:
        async with parent.spawning:
            served = next((turn for turn in engine.runner.turns.values() if _serves(turn, call)), None)
            served = served or await engine.db.read(turns.spawned, call.turn_id, call.call_id)
            served = served or await _begun(engine, parent, call, agent, message, limits)
        if isinstance(served, Turn):
            await _ended(served, parent)
        else:
            parent.add(served.usage)
    except Draining:
        parent.cancel("stopped")  # at the next start it makes this call again
        await anyio.sleep_forever()
        raise
    end = await engine.db.read(turns.outcome, served.id)
    if end is None:
        raise ToolError(f"Agent '{agent}' was deleted before it had an answer")
    if end.status != "completed":
        raise ToolError(f"Agent '{agent}' ended as {end.status}: {end.words or 'it has said nothing'}")
    if end.cut:
        return f"{end.words}\n[Agent '{agent}' was cut off here by its model's token limit]"
    return end.words or f"Agent '{agent}' ended without a word"


def _serves(turn: Turn, call: Call) -> bool:
    above = turn.new.parent
    return above is not None and (above.turn_id, above.call_id) == (call.turn_id, call.call_id)


async def _begun(engine: "Engine", parent: Turn, call: Call, agent: str, message: str, limits: SpawnLimits) -> Turn:
    above = parent.new
    lineage = (*above.lineage, parent.agent.name)
    if agent in lineage:
        raise Unprocessable(f"Spawn circle: {' -> '.join((*lineage, agent))}", code="spawn_circle")
    entrance = await engine.db.read(schemas.member, above.schema, agent)
    kept = entrance.agent.lifecycle == "persistent"
    new = turns.NewTurn(
        id=new_id("turn"),
        # calls that run side by side must agree on the one session before any of them has stored it
        session_id=str(uuid5(UUID(parent.session_id), agent)) if kept else new_uuid(),
        schema=above.schema,
        agent=agent,
        actor=above.actor,
        owner=above.owner,
        user_sub=above.user_sub,
        message=message,
        own_key=above.own_key,
        subagents=above.subagents,
        parent=turns.Parent(
            turn_id=above.id,
            call_id=call.call_id,
            session_id=parent.session_id,
            root_turn_id=above.parent.root_turn_id if above.parent else above.id,
        ),
        lineage=lineage,
        limits=limits,
        fresh=True,
        begins=not kept,
    )
    child = engine.runner.turn(new, entrance, parent.model if above.own_key else None)
    child.parent, child.headers = parent, parent.headers
    await engine.runner.submit(child)
    return child


async def _ended(child: Turn, parent: Turn) -> None:
    """Waits for the child's end, which comes at the latest with its parent's; Draining where it is left unfinished."""
    try:
        await _recorded(child, parent)
    except anyio.get_cancelled_exc_class():
        child.cancel(parent.cancelled_for or "cancelled")
        with anyio.CancelScope(shield=True):
            await _recorded(child, parent)
        raise
    finally:
        parent.add(child.usage)
    if isinstance(child.failure, Draining):
        raise child.failure


async def _recorded(child: Turn, parent: Turn) -> None:
    """Waits for the child's end; whoever is not patient with the parent waits no longer than the file takes that."""
    try:
        await child.end(patient=False)
    except StorageError as error:
        parent.unrecordable = error
        parent.log.notify()
        try:
            await child.end()
        finally:
            parent.unrecordable = None
