"""What other nodes ask of this one: messages for its sessions, and the ends of turns."""

from bytebrew.conversation import waiting_turns
from bytebrew.conversation.runner import Runner
from bytebrew.nodes import session_requests
from bytebrew.nodes.session_requests import SessionRequest
from bytebrew.store.database.database import Database


async def carry_out(db: Database, runner: Runner, node: int) -> bool:
    """Does what is asked of the sessions of this node; whether messages are stored for it that it has not."""
    known = {*runner.turns}  # one of them may end during the read
    work = await db.read(session_requests.work, node)
    if done := [one.n for one in work.requests if _carry_out(runner, one)]:
        await db.write(session_requests.done, done)
    return not {*work.queued} <= known | runner.turns.keys()


def _carry_out(runner: Runner, request: SessionRequest) -> bool:
    """Carries out a request about a session of this node; False for one of another's."""
    lane = runner.lanes.get(request.session_id)
    if lane is None or not lane.current.admitted.done():
        return False
    for turn in (lane.current, *lane.waiting):
        if request.turn_id not in ("", turn.id):
            continue
        if request.kind != "removed":
            turn.cancel("cancelled")
        elif turn in lane.waiting:
            lane.waiting.remove(turn)
            del runner.turns[turn.id]
            waiting_turns.removed(turn)
    return True
