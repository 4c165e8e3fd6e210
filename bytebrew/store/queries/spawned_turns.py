"""SQL that reads the turns that tool calls have spawned."""

from msgspec import Struct

from bytebrew.base.errors import Unprocessable
from bytebrew.contract.connection import Connection
from bytebrew.contract.governance.spawn_limits import SpawnLimits
from bytebrew.contract.messages import Usage

COUNTS = ", ".join(Usage.__struct_fields__)


class Spawned(Struct, frozen=True):
    """A turn that a tool call has spawned."""

    id: str
    session_id: str
    status: str
    usage: Usage


def spawned(conn: Connection, turn_id: str, call_id: str) -> Spawned | None:
    """The turn that a tool call spawned."""
    row = conn.execute(
        f"""select id, session_id, status, {COUNTS} from turns where parent_turn_id = ? and parent_call_id = ?""",
        (turn_id, call_id),
    ).fetchone()
    if row is None:
        return None
    return Spawned(row["id"], row["session_id"], row["status"], Usage(*(row[name] for name in Usage.__struct_fields__)))


def spawned_in(conn: Connection, root_turn_id: str, turn_id: str) -> tuple[int, int]:
    """The number of turns spawned below a root, and of those spawned by one turn."""
    sql = """select count(*), count(*) filter (where parent_turn_id = ?) from turns
      where root_turn_id = ? and parent_turn_id is not null"""
    row = conn.execute(sql, (turn_id, root_turn_id)).fetchone()
    return row[0], row[1]


def check_limits(conn: Connection, root_turn_id: str, turn_id: str, depth: int, limits: SpawnLimits) -> None:
    """Raises Unprocessable if a turn may spawn no more, at this depth or at all."""
    total, children = spawned_in(conn, root_turn_id, turn_id)
    for what, count, most in (
        ("levels of agents", depth, limits.depth),
        ("agents spawned by one turn", children + 1, limits.children),
        ("agents spawned for one message", total + 1, limits.total),
    ):
        if count > most:
            raise Unprocessable(f"{most} {what} are the limit", code="spawn_limit")
