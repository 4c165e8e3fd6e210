"""Whose task is next: each agent's owners take turns, so that one with many tasks does not keep another waiting."""

from bytebrew.contract.connection import Connection

_URGENCY = "julianday({0}.created_at) - {0}.priority / 144.0"
_CAN_RUN = """{0}.status in ('pending', 'approved') and {0}.mode = 'background' and {0}.blockers = 0
  and {0}.not_before is null"""
_QUEUED = f"""
  insert into task_queue (agent, owner, urgency, rank)
    values (new.agent, new.owner, {_URGENCY.format("new")}, {_URGENCY.format("new")})
    on conflict do update set urgency = min(coalesce(urgency, excluded.urgency), excluded.urgency),
    rank = max(min(coalesce(urgency, excluded.urgency), excluded.urgency), served);
"""
KEPT = f"""
drop index tasks_ready;
create index tasks_ready on tasks (agent, owner, julianday(created_at) - priority / 144.0)
  where status in ('pending', 'approved') and mode = 'background' and blockers = 0 and not_before is null;
create table task_queue (
  agent text not null,
  owner text not null,
  urgency real,
  served real not null default 0,
  turn integer not null default 0,
  rank real,
  primary key (agent, owner)
) strict, without rowid;
create index task_queue_next on task_queue (agent, rank, turn, owner) where rank is not null;
create index task_queue_turn on task_queue (turn);
create index task_queue_empty on task_queue (served) where rank is null;
insert into task_queue (agent, owner, urgency, rank)
  select t.agent, t.owner, min({_URGENCY.format("t")}), min({_URGENCY.format("t")}) from tasks t
  where {_CAN_RUN.format("t")} group by t.agent, t.owner;
create trigger tasks_queued after insert on tasks when new.blocked_by = '[]' and {_CAN_RUN.format("new")} begin
{_QUEUED}end;
create trigger tasks_requeued after update of status, mode, blockers, not_before, agent, owner, created_at, priority
  on tasks when {_CAN_RUN.format("new")} begin
{_QUEUED}end;
"""
"""The SQL of a migration: files have it by its number, so it stays as it is.

`urgency` is that of the owner's most urgent task for the agent, or less; `served` when one of them was taken last, as a
Julian day; `turn` counts these for what happens within a millisecond; `rank` is the later of the two moments, by which
owners take turns, and null where nothing waits.
"""
_HEAD = f"""select t.id, {_URGENCY.format("t")} as urgency from tasks t indexed by tasks_ready
  where {_CAN_RUN.format("t")} and t.agent = ? and t.owner = ? order by {_URGENCY.format("t")}, t.seq limit 1"""
_FORGOTTEN_DAYS = 1.0


def take(conn: Connection, moment: str, full: str, per_agent: int) -> str | None:
    """The task that is to run, whose owner comes last from now on; `full` counts an agent's running tasks in SQL.

    Of an agent's owners that one is next who was served longest ago, or whose task is most urgent where that came
    later; of the owner's tasks the most urgent one.
    """
    sql = f"""with recursive agents (name) as (
        select min(q.agent) from task_queue q indexed by task_queue_next where q.rank is not null
        union all select (select min(q.agent) from task_queue q indexed by task_queue_next
          where q.rank is not null and q.agent > agents.name) from agents where name is not null)
      select n.agent, n.owner, n.rank from agents join task_queue n on n.agent = agents.name and n.owner = (
        select q.owner from task_queue q indexed by task_queue_next where q.rank is not null
        and q.agent = agents.name order by q.rank, q.turn, q.owner limit 1)
      where ?1 = 0 or ?1 > ({full}) order by n.rank, n.urgency limit 1"""
    while row := conn.execute(sql, (per_agent,)).fetchone():
        owner = row["agent"], row["owner"]
        head = conn.execute(_HEAD, owner).fetchone()
        if head is not None and not _is_later(conn, owner, head["urgency"], row["rank"]):
            conn.execute(
                """update task_queue set served = julianday(?), turn = (select max(turn) + 1 from task_queue)
                where agent = ? and owner = ?""",
                (moment, *owner),
            )
            return str(head["id"])
        if head is None:
            conn.execute("update task_queue set urgency = null, rank = null where agent = ? and owner = ?", owner)
    conn.execute("delete from task_queue where rank is null and served < julianday(?) - ?", (moment, _FORGOTTEN_DAYS))
    return None


def taken(conn: Connection, agent: str, owner: str) -> None:
    """Puts the owner of a task that was taken behind those who wait."""
    head = conn.execute(_HEAD, (agent, owner)).fetchone()
    urgency = head["urgency"] if head else None
    conn.execute(
        """update task_queue set urgency = ?1, rank = max(?1, served) where agent = ?2 and owner = ?3""",
        (urgency, agent, owner),
    )


def set_back(conn: Connection, moment: str) -> None:
    """Has nobody wait for a moment that a clock far ahead has written."""
    conn.execute(
        """update task_queue set served = julianday(?1), rank = max(urgency, julianday(?1))
        where served > julianday(?1)""",
        (moment,),
    )


def _is_later(conn: Connection, owner: tuple[str, str], urgency: float, rank: float) -> bool:
    """Whether the most urgent task is less so than was known, as where another was taken back; it is known now."""
    now = "max(?1, served)"
    sql = f"update task_queue set urgency = ?1, rank = {now} where agent = ?2 and owner = ?3 and {now} > ?4"
    return conn.execute(sql, (urgency, *owner, rank)).rowcount > 0
