"""Names that nodes have locked, each until the node unlocks it or ends."""

from bytebrew.contract.connection import Connection


def take(conn: Connection, name: str, node: int) -> bool:
    """Locks a name; False if another node has it. A node's own lock is one that it could not release."""
    return (
        conn.execute(
            """insert into node_locks (name, node) values (?, ?) on conflict (name) do update set node = excluded.node
            where node_locks.node = excluded.node""",
            (name, node),
        ).rowcount
        == 1
    )


def release(conn: Connection, name: str, node: int) -> None:
    """Unlocks a name."""
    conn.execute("delete from node_locks where name = ? and node = ?", (name, node))


def release_all(conn: Connection, node: int) -> None:
    """Unlocks the names of a node that has ended."""
    conn.execute("delete from node_locks where node = ?", (node,))
