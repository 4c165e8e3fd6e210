"""A person's entries in the audit: they stay, with a mask in place of the person and of what the person wrote."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bytebrew import Connection, Person, PersonalData, placeholders

from . import calls, changes
from .chain import Chain

MIGRATION = """
create index audit_changes_actor on audit_changes (actor_id);
create index audit_changes_resource_id on audit_changes (resource_id);
create index audit_tool_calls_confirmed on audit_tool_calls (confirmed_by) where confirmed_by is not null;
"""
MOST = 100
"""Entries that are masked at once."""


def _ids(conn: Connection, table: str, column: str, values: Sequence[str], also: str = "") -> Iterator[int]:
    sql = f"select id from {table} where {column} = ? {also} limit {MOST}"  # noqa: S608
    for value in values:
        yield from (row["id"] for row in conn.execute(sql, (value,)))


def _entries(conn: Connection, table: str, ids: Iterator[int], entry: Any) -> Iterator[Struct]:
    for number in ids:
        yield entry(conn.execute(f"select * from {table} where id = ?", (number,)).fetchone())  # noqa: S608


def _resources(conn: Connection, person: Person) -> tuple[str, ...]:
    sql = f"select id from tasks where owner in ({placeholders(person.names)})"  # noqa: S608
    return (*person.sessions, *(row["id"] for row in conn.execute(sql, person.names)))


def export_changes(conn: Connection, person: Person) -> Iterator[Struct]:
    """What the person changed."""
    ids = (row["id"] for name in person.names for row in _all(conn, "audit_changes", "actor_id", name))
    return _entries(conn, "audit_changes", ids, changes.LEDGER.read)


def export_calls(conn: Connection, person: Person) -> Iterator[Struct]:
    """The tool calls for the person."""
    ids = (row["id"] for name in person.names for row in _all(conn, "audit_tool_calls", "user_id", name))
    return _entries(conn, "audit_tool_calls", ids, calls.LEDGER.read)


def _all(conn: Connection, table: str, column: str, value: str) -> Iterator[Any]:
    yield from conn.execute(f"select id from {table} where {column} = ? order by id", (value,))  # noqa: S608


def forget_changes(chain: Chain, conn: Connection, person: Person) -> int:
    """Masks the person as the caller; what changed, and what others changed of the person's tasks, is left out."""
    count = 0
    for number in [*_ids(conn, "audit_changes", "actor_id", person.names)]:
        row = conn.execute("select * from audit_changes where id = ?", (number,)).fetchone()
        details = replace(_details(row), subject=person.mask, client="", changes=[])
        chain.mask(conn, row, {"actor": person.mask, "actor_id": person.mask, "details": _encoded(details)})
        count += 1
    changed = """and details like '%"changes":[%'"""
    for number in [*_ids(conn, "audit_changes", "resource_id", _resources(conn, person), changed)]:
        row = conn.execute("select * from audit_changes where id = ?", (number,)).fetchone()
        chain.mask(conn, row, {"details": _encoded(replace(_details(row), changes=[]))})
        count += 1
    return count


def forget_calls(conn: Connection, person: Person) -> int:
    """Masks the person as the user and as who confirmed a call, and deletes inputs and outputs of the user's calls."""
    ids = [*_ids(conn, "audit_tool_calls", "user_id", person.names)]
    for session_id in person.sessions:
        sql = f"select id from audit_tool_calls where session_id = ? and user_id <> ? limit {MOST}"  # noqa: S608
        ids += [row["id"] for row in conn.execute(sql, (session_id, person.mask))]
    sql = "update audit_tool_calls set user_id = ?, input = '{}', output = x'' where id = ?"
    conn.executemany(sql, [(person.mask, one) for one in ids])
    confirmed = [*_ids(conn, "audit_tool_calls", "confirmed_by", person.names)]
    sql = "update audit_tool_calls set confirmed_by = ? where id = ?"
    conn.executemany(sql, [(person.mask, one) for one in confirmed])
    marks = placeholders(person.names)
    conn.execute(f"delete from audit_tool_calls_of where user_id in ({marks}) and rows = 0", person.names)  # noqa: S608
    return len(ids) + len(confirmed)


def _details(row: Any) -> changes.Details:
    return msgspec.json.decode(row["details"], type=changes.Details)


def _encoded(details: changes.Details) -> str:
    return msgspec.json.encode(details).decode()


def kinds(chain: Chain) -> tuple[PersonalData, ...]:
    """What the audit stores of a person; the chain over the entries stays whole."""
    return (
        PersonalData("audit_changes", export_changes, partial(forget_changes, chain)),
        PersonalData("audit_tool_calls", export_calls, forget_calls),
    )
