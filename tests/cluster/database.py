"""Where the nodes keep their data: the file of one node, or a PostgreSQL server with a witness of every commit."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bytebrew.contract.connection import Connection
from bytebrew.store.sqlite.pragmas import connect

NAME = "cluster"
DURABLE = {"synchronous_commit": "on", "fsync": "off", "max_wal_senders": "0", "wal_level": "minimal"}
"""Settings of a server that may crash, on a machine that does not."""
WRITTEN = ("events", "messages", "tool_calls", "turns", "tasks", "confirmations")
_WROTE = """create trigger wrote after insert or update on {0}
  for each statement execute function witness.wrote();"""
WITNESS = """
create schema witness;
create table witness.commits (xid bigint not null);
create table witness.writes (xid bigint not null, place text not null);
create function witness.committed() returns trigger language plpgsql security definer as $$
begin
  insert into witness.commits values (pg_current_xact_id()::text::bigint);
  return null;
end $$;
create function witness.wrote() returns trigger language plpgsql security definer as $$
begin
  insert into witness.writes values (pg_current_xact_id()::text::bigint, tg_table_name);
  return null;
end $$;
create trigger committed after insert or update on node_commits for each row execute function witness.committed();
grant usage on schema witness to public;
grant select on all tables in schema witness to public;
""" + "\n".join(_WROTE.format(table) for table in WRITTEN)
"""Notes which transactions write, and which of them are a node's: the row of one that lost its lease is not there."""


@dataclass
class Store:
    """The settings of the nodes, the port of the server, and how a checker reads what they have stored."""

    settings: dict[str, str]
    opened: Callable[[], AbstractContextManager[Connection]]
    server: "Server | None" = None

    @property
    def port(self) -> int:
        """Where the server listens; 0 for a file."""
        return self.server.port if self.server else 0


def file(folder: Path) -> Store:
    """The file of the one node."""

    @contextmanager
    def opened() -> Iterator[Connection]:
        with closing(connect(folder / "node-0" / "bytebrew.db", read_only=True)) as conn:
            yield conn

    return Store({}, opened)


class Server:
    """A PostgreSQL server of this run, which is stopped and started."""

    def __init__(self, folder: Path) -> None:
        from bytebrew.testing.postgres import Server as Postgres

        folder.parent.chmod(0o711)  # the server's programs run as nobody where this is root
        self._postgres = Postgres(folder, DURABLE)
        self._lock = asyncio.Lock()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._postgres.port

    async def start(self) -> Store:
        """Starts it with an empty database."""
        from bytebrew_postgres.connection import Options, PostgresConnection

        await asyncio.to_thread(self._postgres.start)
        await asyncio.to_thread(self._postgres.execute, f"create database {NAME} owner bytebrew")

        @contextmanager
        def opened() -> Iterator[Connection]:
            with closing(PostgresConnection(Options(self._postgres.local_url(NAME)))) as conn:
                yield conn

        url = self._postgres.url(NAME).replace(f":{self.port}/", ":{port}/")
        return Store({"BYTEBREW_DATABASE_URL": url}, opened, self)

    async def witness(self) -> None:
        """Has every commit of a node noted."""
        await asyncio.to_thread(self._postgres.execute, WITNESS, NAME)

    async def restart(self, how: str) -> None:
        """Stops it, `fast` or `immediate` as a crash, and starts it again."""
        async with self._lock:
            sent = signal.SIGINT if how == "fast" else signal.SIGQUIT
            await asyncio.to_thread(self._postgres.end, sent)
            await asyncio.to_thread(self._postgres.start)

    def kill_now(self) -> None:
        """Ends it."""
        self._postgres.end(signal.SIGQUIT)


def unwitnessed(conn: Connection) -> Iterator[str]:
    """Transactions that wrote and were of no node that had its lease."""
    sql = """select w.place, count(distinct w.xid) as count from witness.writes w
      where not exists (select 1 from witness.commits c where c.xid = w.xid) group by w.place"""
    for row in conn.execute(sql).fetchall():
        yield f"{row['place']} was written {row['count']} times by a node that had lost its lease"
