"""Taking up the turns that a stopped engine left."""

import logging
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bytebrew.base.errors import EngineError, StorageError, TurnInterrupted
from bytebrew.contract.auth import Actor
from bytebrew.conversation.failed_turns import give_up
from bytebrew.conversation.resumed_answer import shown_before
from bytebrew.conversation.turn import Turn
from bytebrew.store import open_turns, schemas, turns

if TYPE_CHECKING:
    from bytebrew.engine import Engine

log = logging.getLogger(__name__)

MOST_RESUMES = 20
"""Times that a turn is taken up without getting on: a turn that stops the engine must not do so for ever."""
_LOST_KEY = "The key that came with this message was in memory alone and is gone; send the message again"
_ENDED = "The task was ended by hand"
_ORPHANED = "The turn that spawned this agent has ended"
_HOPELESS = f"The engine was stopped {MOST_RESUMES} times in the middle of this step; send the message again"


async def recover(engine: "Engine") -> list[Turn]:
    """The turns to go on with, those of spawned agents tied to their parents; the rest is ended with an error."""
    found: dict[str, Turn] = {}
    for left in await engine.db.read(open_turns.left_open):
        try:
            if left.parent_turn_id is not None and left.parent_turn_id not in found:
                raise TurnInterrupted(_ORPHANED)
            turn = found[left.id] = await _turn(engine, left)
            turn.parent = found.get(left.parent_turn_id or "")
        except StorageError:
            raise
        except EngineError as error:
            words = "turn %s of session %s cannot go on: %s, %s (agent %s)"
            log.warning(words, left.id, left.session_id, error.code, error, left.agent)
            if before := [turn for turn in found.values() if turn.session_id == left.session_id]:
                before[-1].hopeless.append((left.id, error))
            else:
                await give_up(engine.journal, left.session_id, left.id, error)
    return list(found.values())


async def _turn(engine: "Engine", left: open_turns.OpenTurn) -> Turn:
    if left.own_key:
        raise TurnInterrupted(_LOST_KEY, code="credential_lost")
    if left.task_ended:
        raise TurnInterrupted(_ENDED)
    if left.resumes >= MOST_RESUMES:
        raise TurnInterrupted(_HOPELESS)
    parent = None
    if left.parent_turn_id and left.parent_call_id and left.parent_session_id:
        parent = turns.Parent(
            turn_id=left.parent_turn_id,
            call_id=left.parent_call_id,
            session_id=left.parent_session_id,
            root_turn_id=left.root_turn_id,
        )
        entrance = await engine.db.read(schemas.member, left.schema, left.agent)
    elif left.task_agent is not None:
        entrance = await engine.db.read(schemas.member, left.schema, left.task_agent)
    else:
        entrance = await engine.db.read(schemas.entrance, left.schema)
    new = turns.NewTurn(
        id=left.id,
        session_id=left.session_id,
        schema=left.schema,
        agent=entrance.agent.name,
        actor=Actor(subject=left.owner, name=left.owner, kind="user", scopes=frozenset()),
        owner=left.owner,
        user_sub=left.user_sub,
        message="",
        subagents=left.subagents,
        time_limit=left.time_limit,
        parent=parent,
        lineage=left.lineage,
        fresh=False,
        begins=False,
    )
    turn = engine.runner.turn(new, entrance)
    turn.size = left.size
    turn.log = await engine.journal.log(left.session_id)
    if left.status == "running":
        turn.status, turn.first = "running", left.first_event
        turn.past = await engine.db.write(open_turns.resume, left.id)
        turn.new = replace(new, message=turn.past.asked.content, attachments=turn.past.asked.attachments)
        turn.text, turn.shown = list(turn.past.said), shown_before(turn.past)
        turn.continues = left.first_event != 1
    return turn
