"""Recovery after a restart: resumes open turns, and ends those that cannot be resumed."""

import logging

from msgspec.structs import replace

from bytebrew.base.errors import EngineError, StorageError, TurnInterrupted
from bytebrew.contract.notifications import Subscriber
from bytebrew.conversation.failed_turns import fail_now
from bytebrew.conversation.resumed_answer import ResumedStep
from bytebrew.conversation.runner import Runner
from bytebrew.conversation.turn import Turn, owner_alone
from bytebrew.store import open_turns, turns
from bytebrew.store.configuration import schemas
from bytebrew.store.database.database import Database
from bytebrew.store.journal import Journal

log = logging.getLogger(__name__)

MOST_RESUMES = 20
"""Most resumes of a turn without progress, so that a turn that crashes the engine is not resumed for ever."""
_LOST_KEY = "The key that came with this message was in memory alone and is gone; send the message again"
_ENDED = "The task was ended by hand"
_ORPHANED = "The turn that spawned this agent has ended"
_NO_PROGRESS = f"The engine was stopped {MOST_RESUMES} times in the middle of this step; send the message again"


async def recover(
    db: Database, journal: Journal, runner: Runner, publish: Subscriber, node: int | None, *, queued: bool = False
) -> list[Turn]:
    """The turns of a node that can be resumed, spawned ones within their parents; the others end with an error.

    With `queued` they are the messages alone that other nodes have stored for this one, unless turns were taken over
    with them, which go before them or have spawned them.
    """
    resumed: dict[str, Turn] = {}
    known = {*runner.turns}  # one of them may end during the read
    open_here = await db.read(open_turns.left_open, node)
    known |= runner.turns.keys()  # one that began meanwhile may end before its place in the loop
    unknown = [left for left in open_here if left.id not in known]
    await journal.refresh({left.session_id for left in unknown})  # a signal of the last events may have been lost
    messages = [left for left in unknown if left.status == "queued"]
    begun = {left.session_id for left in unknown if left.status == "running"}
    alone = all(one.session_id not in begun and one.parent_turn_id is None for one in messages)
    for left in messages if queued and alone else unknown:
        try:
            if left.parent_turn_id is not None and left.parent_turn_id not in resumed:
                raise TurnInterrupted(_ORPHANED)
            if (turn := await _resume(db, journal, runner, left)) is None:
                continue
            resumed[left.id] = turn
            turn.parent = resumed.get(left.parent_turn_id or "")
        except StorageError:
            raise
        except EngineError as error:
            line = "turn %s of session %s cannot go on: %s, %s (agent %s)"
            log.warning(line, left.id, left.session_id, error.code, error, left.agent)
            if before := [turn for turn in resumed.values() if turn.session_id == left.session_id]:
                before[-1].unresumable.append((left.id, error))
            elif lane := runner.lanes.get(left.session_id):
                [lane.current, *lane.waiting][-1].unresumable.append((left.id, error))
            else:
                await fail_now(journal, publish, left.session_id, left.id, error)
    return list(resumed.values())


async def _resume(db: Database, journal: Journal, runner: Runner, left: open_turns.OpenTurn) -> Turn | None:
    if left.own_key:
        raise TurnInterrupted(_LOST_KEY, code="credential_lost")
    if left.task_ended:
        raise TurnInterrupted(_ENDED)
    if left.resumes >= MOST_RESUMES:
        raise TurnInterrupted(_NO_PROGRESS)
    if left.parent_turn_id and left.parent_call_id and left.parent_session_id:
        entrance = await db.read(schemas.member, left.schema, left.agent)
    elif left.task_agent is not None:
        entrance = await db.read(schemas.member, left.schema, left.task_agent)
    else:
        entrance = await db.read(schemas.entrance, left.schema)
    turn = runner.turn(_turn(left, entrance.agent.name), entrance)
    turn.size = left.size  # its message is only in the database
    turn.headers = runner.headers.open(left.id, left.headers)
    turn.log = await journal.log(left.session_id)
    turn.steer_event, turn.on_busy = left.steer_event, left.on_busy
    if left.steers and left.steer_event is None:  # its event shows the message
        turn.new = replace(turn.new, message=await db.read(turns.message, left.id))
    if left.status == "running":
        turn.status, turn.first = "running", left.first_event
        point = await db.write(open_turns.resume, left.id, entrance.agent.version)
        if point is None:  # it has begun and ended here since the turns were read
            return None
        turn.resume_point = point
        message = point.user_message
        turn.new = replace(turn.new, message=message.content, attachments=message.attachments)
        turn.text = list(point.text)
        step = ResumedStep(point, turn.text)
        turn.resumed_step = None if step.done else step
        turn.has_history = left.first_event != 1
    return turn


def _turn(left: open_turns.OpenTurn, agent: str) -> turns.NewTurn:
    """A turn that a stopped engine left open, without its message."""
    parent = None
    if left.parent_turn_id and left.parent_call_id and left.parent_session_id:
        parent = turns.Parent(
            turn_id=left.parent_turn_id,
            call_id=left.parent_call_id,
            session_id=left.parent_session_id,
            root_turn_id=left.root_turn_id,
        )
    return turns.NewTurn(
        id=left.id,
        session_id=left.session_id,
        schema=left.schema,
        agent=agent,
        actor=owner_alone(left.subject),
        owner=left.owner,
        user_sub=left.user_sub,
        message="",
        subagents=left.subagents,
        client_tools=left.client_tools or (),
        time_limit=left.time_limit,
        traceparent=left.traceparent,
        parent=parent,
        lineage=left.lineage,
        response_format=left.response_format,
        fresh=False,
        begins=False,
        steers=left.steers,
        instructions=left.instructions or "",
    )
