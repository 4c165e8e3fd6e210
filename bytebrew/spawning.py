"""Sub-agents: an agent's turn within a tool call of another agent's."""

from typing import TYPE_CHECKING

import anyio

from bytebrew.errors import ToolError, Unprocessable
from bytebrew.notation import new_id, new_uuid
from bytebrew.runner import Turn
from bytebrew.store import schemas, sessions, turns
from bytebrew.tools import Call, SpawnLimits

if TYPE_CHECKING:
    from bytebrew.engine import Engine


async def spawn(engine: "Engine", call: Call, agent: str, message: str, limits: SpawnLimits) -> str:
    """Runs an agent within a tool call and answers with its last word; the same call again takes up the same turn.

    Raises ToolError where the agent fails, and EngineError where it cannot begin: in a circle, or beyond the limits.
    """
    db, parent = engine.db, engine.runner.turns[call.turn_id]
    found = await db.read(turns.spawned, call.turn_id, call.call_id)
    child = engine.runner.turns.get(found.id) if found else None
    if found is None:
        child = await _child(engine, parent, call, agent, message, limits)
        await engine.runner.submit(child)
    if child is not None:
        if child.parent is None:
            child.parent = parent
            parent.hold(child.holds)
        try:
            await child.end()
        except anyio.get_cancelled_exc_class():
            child.cancel(parent.cancelled_for or "cancelled")
            with anyio.CancelScope(shield=True):
                await child.end()
            raise
        found = turns.Spawned(child.id, child.session_id, child.status, child.usage)
    assert found is not None
    parent.add(found.usage)
    if found.status == "completed":
        return await db.read(turns.last_word, found.session_id, found.id)
    why = f": {child.failure.message}" if child and child.failure else ""
    raise ToolError(f"Agent '{agent}' ended as {found.status}{why}")


async def _child(engine: "Engine", parent: Turn, call: Call, agent: str, message: str, limits: SpawnLimits) -> Turn:
    above = parent.new
    lineage = (*above.lineage, parent.agent.name)
    if agent in lineage:
        raise Unprocessable(f"Spawn circle: {' -> '.join((*lineage, agent))}", code="spawn_circle")
    entrance = await engine.db.read(schemas.member, above.schema, agent)
    kept = None
    if entrance.agent.lifecycle == "persistent":
        kept = await engine.db.read(sessions.within, parent.session_id, agent)
    new = turns.NewTurn(
        id=new_id("turn"),
        session_id=kept or new_uuid(),
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
        begins=kept is None,
    )
    child = engine.runner.turn(new, entrance, parent.model if above.own_key else None)
    child.parent, child.headers = parent, parent.headers
    return child
