"""SQL for nodes: the engines that share a database, each under an id that is never used again."""

from collections.abc import Collection

import msgspec
from msgspec import Struct

from bytebrew.base.errors import BootError
from bytebrew.base.formats import now
from bytebrew.contract.connection import Connection
from bytebrew.store.sqlite.dialect import elements

_CLOCK = "extract(epoch from clock_timestamp())"
"""The database's own clock: the nodes' clocks may differ."""
_OPEN = "status in ('queued', 'running')"
_CLAIMED = "status = 'in_progress' and turn_id is not null"


class NodeRow(Struct, frozen=True, kw_only=True):
    """A node; `seen` is when it last said that it lives, in seconds since 1970, and `silence` the seconds since then.

    Both are by the database's clock.
    """

    id: int
    name: str
    version: str
    started_at: str
    seen: float
    silence: float


def join(conn: Connection, name: str, version: str, key_code: str, lease: float) -> int:
    """The id of a node that starts; what an earlier node of this name has left open is its own now.

    BootError if a node that was heard of within the lease has another key: each would seal what no other can open.
    """
    others = f"select id from nodes where key_code <> ? and name <> ? and seen > {_CLOCK} - ? order by id"
    if (other := conn.execute(others, (key_code, name, lease)).fetchone()) is not None:
        raise BootError(
            f"keys/secrets.key in the data folder is not that of node {other['id']}, which runs on this database: copy"
            " that node's folder keys/ in its place"
        )
    node = conn.execute(
        f"insert into nodes (name, version, key_code, started_at, seen) values (?, ?, ?, ?, {_CLOCK}) returning id",
        (name, version, key_code, now()),
    ).fetchone()[0]
    conn.execute("insert into node_commits (node, n) values (?, 0)", (node,))
    for row in conn.execute("select id from nodes where name = ? and id <> ?", (name, node)).fetchall():
        take_over(conn, row["id"], node)
    take_orphans(conn, node)
    return int(node)


def leave(conn: Connection, node: int) -> None:
    """Ends a node that stops; another takes what it leaves open."""
    _hand_over(conn, node, None)
    _delete(conn, node)


def give(conn: Connection, node: int, busy: Collection[str]) -> None:
    """Leaves to others the open turns of a node, with their tasks, but for those below the `busy` sessions.

    A turn goes together with the others of its session and with those that it has spawned.
    """
    kept = elements("cast(?2 as text)")
    conn.execute(
        f"""update turns set node = null where {_OPEN} and node = ?1
        and session_id not in (select value from {kept})
        and coalesce((select r.session_id from turns r where r.id = turns.root_turn_id), '')
          not in (select value from {kept})""",
        (node, msgspec.json.encode([*busy]).decode()),
    )
    conn.execute(
        f"""update tasks set node = null where {_CLAIMED} and node = ?
        and turn_id in (select id from turns where {_OPEN} and node is null)""",
        (node,),
    )


def take_over(conn: Connection, lost: int, node: int, seen: float | None = None) -> int | None:
    """Ends a lost node, which commits no more, and gives what it left open to another: the number of its open turns.

    None if it was ended before, or has said that it lives after the moment when it was `seen`.
    """
    return _hand_over(conn, lost, node) if _delete(conn, lost, seen) else None


def take_orphans(conn: Connection, node: int) -> int:
    """Gives a node what no node has; the number of open turns."""
    taken = conn.execute(f"update turns set node = ? where {_OPEN} and node is null", (node,)).rowcount
    conn.execute(f"update tasks set node = ? where {_CLAIMED} and node is null", (node,))
    return taken


def has_orphans(conn: Connection) -> bool:
    """Whether an open turn or a claimed task has no node."""
    row = conn.execute(
        f"""select exists (select 1 from turns where {_OPEN} and node is null)
        or exists (select 1 from tasks where {_CLAIMED} and node is null)"""
    ).fetchone()
    return bool(row[0])


def beat(conn: Connection, node: int) -> tuple[list[NodeRow], int]:
    """Says that a node lives; all nodes by id, without this one if it was ended, and the epoch of the history."""
    conn.execute(f"update nodes set seen = {_CLOCK} where id = ?", (node,))
    return list_all(conn), conn.execute("select epoch from history").fetchone()[0]


def list_all(conn: Connection) -> list[NodeRow]:
    """All nodes, by id."""
    columns = f"id, name, version, started_at, seen, {_CLOCK} - seen as silence"
    rows = conn.execute(f"select {columns} from nodes order by id")
    return [NodeRow(**dict(row)) for row in rows]


def lock(conn: Connection, name: str, node: int) -> bool:
    """Locks a name; False if another node has it. A node's own lock is one that it could not release."""
    return (
        conn.execute(
            """insert into node_locks (name, node) values (?, ?) on conflict (name) do update set node = excluded.node
            where node_locks.node = excluded.node""",
            (name, node),
        ).rowcount
        == 1
    )


def unlock(conn: Connection, name: str, node: int) -> None:
    """Unlocks a name."""
    conn.execute("delete from node_locks where name = ? and node = ?", (name, node))


def _hand_over(conn: Connection, node: int, to: int | None) -> int:
    turns = conn.execute(f"update turns set node = ? where {_OPEN} and node = ?", (to, node)).rowcount
    conn.execute("update tasks set node = ? where node = ?", (to, node))
    return turns


def _delete(conn: Connection, node: int, seen: float | None = None) -> bool:
    sql = "delete from nodes where id = ?1 and seen = coalesce(?2, seen)"
    if conn.execute(sql, (node, seen)).rowcount == 0:
        return False
    conn.execute("delete from node_commits where node = ?", (node,))
    conn.execute("delete from node_locks where node = ?", (node,))
    return True
