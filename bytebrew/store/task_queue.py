"""Fair order of background tasks: the owners of an agent's tasks take turns."""

from datetime import datetime, timedelta

from bytebrew.base.formats import rfc3339
from bytebrew.contract.connection import Connection
from bytebrew.store.sqlite.dialect import CAN_RUN, URGENCY, day_number, indexed_by

LATER = "status in ('pending', 'approved') and mode = 'background'"
"""The condition of the index tasks_later, for tasks with a `not_before`."""
LONGEST_BACKOFF = 5400.0
"""Longest delay in seconds between two attempts of a task; it starts at 15 and doubles."""
_HEAD = f"""select t.id, {URGENCY.format("t")} as urgency from tasks t {indexed_by("tasks_ready")}
  where {CAN_RUN.format("t")} and t.agent = ? and t.owner = ? order by {URGENCY.format("t")}, t.seq limit 1"""
_ATTEMPTS = "case when attempts < 1 then 1 when attempts > 10 then 10 else attempts end"
_RANK = "case when ?1 > served then ?1 when ?1 <= served then served end"
_FORGOTTEN_DAYS = 1.0


def take(conn: Connection, moment: str, full: str, per_agent: int) -> str | None:
    """The next task to run; its owner moves to the end. `full` is SQL that counts an agent's running tasks.

    The next owner of an agent is the one with the lowest rank: the later of the time when the owner was last served and
    the urgency of the owner's most urgent task, which is the task to run.
    """
    sql = f"""with recursive agents (name) as (
        select min(q.agent) from task_queue q {indexed_by("task_queue_next")} where q.rank is not null
        union all select (select min(q.agent) from task_queue q {indexed_by("task_queue_next")}
          where q.rank is not null and q.agent > agents.name) from agents where name is not null)
      select n.agent, n.owner, n.rank from agents join task_queue n on n.agent = agents.name and n.owner = (
        select q.owner from task_queue q {indexed_by("task_queue_next")} where q.rank is not null
        and q.agent = agents.name order by q.rank, q.turn, q.owner limit 1)
      where ?1 = 0 or ?1 > ({full}) order by n.rank, n.urgency limit 1"""
    while row := conn.execute(sql, (per_agent,)).fetchone():
        owner = row["agent"], row["owner"]
        head = conn.execute(_HEAD, owner).fetchone()
        if head is not None and not _is_later(conn, owner, head["urgency"], row["rank"]):
            conn.execute(
                f"""update task_queue set served = {day_number("?")}, turn = (select max(turn) + 1 from task_queue)
                where agent = ? and owner = ?""",
                (moment, *owner),
            )
            return str(head["id"])
        if head is None:
            conn.execute("update task_queue set urgency = null, rank = null where agent = ? and owner = ?", owner)
    sql = f"delete from task_queue where rank is null and served < {day_number('?')} - ?"
    conn.execute(sql, (moment, _FORGOTTEN_DAYS))
    return None


def any_waits(conn: Connection) -> bool:
    """Whether the owner of a task may be waiting."""
    return conn.execute("select 1 from task_queue where rank is not null limit 1").fetchone() is not None


def taken(conn: Connection, agent: str, owner: str) -> None:
    """Moves the owner of a taken task behind the other owners."""
    head = conn.execute(_HEAD, (agent, owner)).fetchone()
    urgency = head["urgency"] if head else None
    sql = f"update task_queue set urgency = ?1, rank = {_RANK} where agent = ?2 and owner = ?3"
    conn.execute(sql, (urgency, agent, owner))


def _is_later(conn: Connection, owner: tuple[str, str], urgency: float, rank: float) -> bool:
    """Updates the rank if the most urgent task is less urgent than stored, as after a cancel; True if it was."""
    sql = f"""update task_queue set urgency = ?1, rank = {_RANK}
      where agent = ?2 and owner = ?3 and {_RANK} > ?4"""
    return conn.execute(sql, (urgency, *owner, rank)).rowcount > 0


def set_back(conn: Connection, present: datetime) -> None:
    """Limits times that were written while the clock was far ahead, once it is set back."""
    moment, day = rfc3339(present), day_number("?1")
    for attempts in range(1, 11):
        latest = rfc3339(present + timedelta(seconds=min(15 * 2 ** (attempts - 1), LONGEST_BACKOFF)))
        sql = f"update tasks set not_before = null where {LATER} and not_before > ? and {_ATTEMPTS} = ?"
        conn.execute(sql, (latest, attempts))
    conn.execute(
        """update tasks set created_at = ?1 where status in ('draft', 'pending', 'approved', 'in_progress')
        and created_at > ?1""",
        (moment,),
    )
    conn.execute(
        f"""update task_queue set served = {day}, rank = case when urgency < {day} then {day} else urgency end
        where served > {day}""",
        (moment,),
    )
