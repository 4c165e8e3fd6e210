"""What `bytebrew doctor` checks of a PostgreSQL server and of the engine's database in it."""

import time
from collections.abc import Iterator

from bytebrew import BootError, Finding

from .connection import PostgresConnection
from .migrate import OLDEST, Migrations, applied

MOST_SECONDS = 2.0
"""Difference of two clocks that is worth a word; leases go by the database's clock alone."""
_STATE = """select current_setting('server_version_num')::bigint as version,
  current_setting('server_version') as version_text, current_setting('server_encoding') as encoding,
  current_setting('max_connections')::bigint as connections, pg_is_in_recovery() as standby,
  current_user as role, current_schema() as schema, current_database() as database,
  coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) as may_create,
  extract(epoch from clock_timestamp()) as clock"""
_VECTOR = "select installed_version from pg_available_extensions where name = 'vector'"
_COLLATED = """select min(c.relname || '.' || a.attname) from pg_attribute a join pg_class c on c.oid = a.attrelid
  join pg_collation o on o.oid = a.attcollation
  where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r' and a.attnum > 0 and o.collname <> 'C'"""


def examine(conn: PostgresConnection, place: str, owners: Migrations, *, pooler: bool) -> Iterator[Finding]:
    """The findings about the server at a place; `pooler` is whether the settings say that there is one."""
    begun = time.time()
    state = conn.execute(_STATE).fetchone()
    took = time.time() - begun
    answered = f"{place} answers in {took * 1000:.1f} ms: PostgreSQL {state['version_text']}"
    if state["version"] < OLDEST:
        yield Finding("database", False, f"{answered}, too old; the engine is for version 14 and later")
        return
    yield Finding("database", True, f"{answered}, at most {state['connections']} connections")
    encoding = f"the database {state['database']} is encoded in {state['encoding']}"
    cure = "" if state["encoding"] == "UTF8" else ", which lacks characters; create one with encoding 'UTF8'"
    yield Finding("encoding", not cure, f"{encoding}{cure}")
    yield _rights(state["role"], state["schema"], may_create=state["may_create"], standby=state["standby"])
    yield _clock(state["clock"] - begun - took / 2)
    yield _pooler(conn, pooler=pooler)
    yield from _tables(conn, owners)
    yield _vectors(conn)


def _vectors(conn: PostgresConnection) -> Finding:
    slower = "Python compares vectors, which is slow for many chunks"
    if (row := conn.execute(_VECTOR).fetchone()) is None:
        return Finding("vectors", True, f"the server has no pgvector: {slower}")
    if row[0] is None:
        return Finding("vectors", True, f"pgvector is there and not created (create extension vector): {slower}")
    return Finding("vectors", True, f"pgvector {row[0]}")


def _rights(role: str, schema: str | None, *, may_create: bool, standby: bool) -> Finding:
    if standby:
        return Finding("rights", False, "the server is a standby, which takes no writes; name the primary")
    if not may_create:
        where = f"the schema {schema}" if schema else "any schema of its search path"
        cure = f"run: alter database ... owner to {role}" if schema in (None, "public") else "grant it create on that"
        return Finding("rights", False, f"the role {role} may not create tables in {where}; {cure}")
    return Finding("rights", True, f"the role {role} may create tables in the schema {schema}")


def _clock(difference: float) -> Finding:
    text = f"the server's clock is {abs(difference):.1f} s {'ahead of' if difference > 0 else 'behind'} this machine's"
    if abs(difference) <= MOST_SECONDS:
        return Finding("clock", True, text)
    return Finding("clock", False, f"{text}; let both follow a time server: schedules and expiry go by these clocks")


def _pooler(conn: PostgresConnection, *, pooler: bool) -> Finding:
    """A pooler of transactions may run each statement on another server process, and drops settings of a session."""
    if not pooler and conn.is_pooled():
        return Finding("pooler", False, "it is behind a pooler of transactions; set BYTEBREW_DATABASE_POOLER=true")
    if pooler:
        return Finding("pooler", True, "BYTEBREW_DATABASE_POOLER is set: nodes look for news ten times a second")
    return Finding("pooler", True, "connections keep their server process, so that nodes hear of news at once")


def _tables(conn: PostgresConnection, owners: Migrations) -> Iterator[Finding]:
    if conn.execute("select to_regclass('migrations')").fetchone()[0] is None:
        yield Finding("tables", True, "there are none yet; `bytebrew serve` makes them")
        return
    if conn.execute("select to_regclass('copied_tables')").fetchone()[0] is not None:
        yield Finding("tables", False, "bytebrew migrate has not finished copying; run the same command again")
        return
    try:
        due = sum(len(steps) - len(applied(conn, owner, steps)) for owner, steps in owners.items())
    except BootError as error:
        yield Finding("tables", False, str(error))
        return
    if column := conn.execute(_COLLATED).fetchone()[0]:
        yield Finding("tables", False, f"{column} is not sorted by bytes (collation C), as queries expect")
        return
    rest = f"; {due} migrations are due, which `bytebrew serve` applies" if due else " and up to date"
    yield Finding("tables", True, f"they are there{rest}; none depends on a collation of the system")
