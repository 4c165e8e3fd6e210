"""When tools of MCP servers were first seen and last changed, and which definitions a person keeps withheld."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from bytebrew import Connection, Migration, NotFound, Person, PersonalData, now, placeholders, section_changed

from . import pins, store
from .tool_definitions import Listed

log = logging.getLogger(__name__)

MOST_NAMED = 20
"""Limit of tools named in one log line."""
MIGRATION = Migration(
    6,
    """
    alter table mcp_pins add column approved_at text;
    alter table mcp_pins add column approved_by text;
    create index mcp_pins_approved_by on mcp_pins (approved_by) where approved_by is not null;
    create table mcp_sightings (
      server_id text not null references mcp_servers (id) on delete cascade,
      tool text not null,
      digest text not null,
      first_seen_at text not null,
      changed_at text,
      withheld_digest text not null default '',
      withheld_at text,
      withheld_by text,
      primary key (server_id, tool)
    ) strict, without rowid;
    create index mcp_sightings_withheld_by on mcp_sightings (withheld_by) where withheld_by is not null;
    insert into mcp_sightings (server_id, tool, digest, first_seen_at)
      select server_id, tool, digest, pinned_at from mcp_pins;
    """,
)


class Sighting(NamedTuple):
    """A tool as it was last listed; `withheld_digest` is the definition that a person has decided to keep withheld."""

    digest: str
    first_seen_at: str
    changed_at: str | None
    withheld_digest: str
    withheld_at: str | None
    withheld_by: str | None


def every(conn: Connection, server_id: str) -> dict[str, Sighting]:
    """The sightings of a server's tools."""
    sql = """select tool, digest, first_seen_at, changed_at, withheld_digest, withheld_at, withheld_by
      from mcp_sightings where server_id = ? order by tool"""
    return {row["tool"]: Sighting(*tuple(row)[1:]) for row in conn.execute(sql, (server_id,))}


def are_news(listed: Iterable[Listed], seen: Mapping[str, Sighting]) -> bool:
    """Whether a tool is new or has changed since it was last listed."""
    return any((was := seen.get(one.definition.name)) is None or was.digest != one.digest for one in listed)


def note(conn: Connection, server_id: str, listed: Iterable[Listed]) -> dict[str, Sighting]:
    """Stores what is listed now, and drops tools that are neither listed nor pinned; returns all sightings."""
    if store.find(conn, server_id, "id") is None:
        return {}
    digests, moment = {one.definition.name: one.digest for one in listed}, now()
    conn.executemany(
        """insert into mcp_sightings (server_id, tool, digest, first_seen_at) values (?1, ?2, ?3, ?4)
        on conflict (server_id, tool) do update set digest = ?3, changed_at = ?4 where mcp_sightings.digest <> ?3""",
        [(server_id, tool, digest, moment) for tool, digest in digests.items()],
    )
    conn.execute(
        f"""delete from mcp_sightings where server_id = ? and (tool in ({placeholders(digests)})) is not true
        and tool not in (select tool from mcp_pins where server_id = ?)""",  # noqa: S608 - placeholders alone
        (server_id, *digests, server_id),
    )
    section_changed(conn, pins.SECTION)
    return every(conn, server_id)


def withhold(conn: Connection, server_id: str, tool: str, digest: str, by: str) -> dict[str, Sighting]:
    """Stores that a person keeps a definition withheld; NotFound if its server was deleted."""
    store.get(conn, server_id)
    done = conn.execute(
        """update mcp_sightings set withheld_digest = ?, withheld_at = ?, withheld_by = ?
        where server_id = ? and tool = ?""",
        (digest, now(), by, server_id, tool),
    )
    if not done.rowcount:
        raise NotFound(f"The tool '{tool[:255]}' is offered no more")
    section_changed(conn, pins.SECTION)
    return every(conn, server_id)


def decided_by(conn: Connection, person: Person) -> list[dict[str, Any]]:
    """What a person has approved or withheld."""
    sql = f"""select s.name as server, p.tool, p.approved_at as at, 'approved' as decision from mcp_pins p
      join mcp_servers s on s.id = p.server_id where p.approved_by in ({placeholders(person.names)})
      union all select s.name, w.tool, w.withheld_at, 'withheld' from mcp_sightings w
      join mcp_servers s on s.id = w.server_id where w.withheld_by in ({placeholders(person.names)}) order by 1, 2, 4"""  # noqa: S608
    return [dict(row) for row in conn.execute(sql, (*person.names, *person.names))]


def forget(conn: Connection, person: Person) -> int:
    """Masks who has decided; the decisions stay."""
    names = placeholders(person.names)
    masked = 0
    for table, column in (("mcp_pins", "approved_by"), ("mcp_sightings", "withheld_by")):
        sql = f"update {table} set {column} = ? where {column} in ({names})"  # noqa: S608
        masked += conn.execute(sql, (person.mask, *person.names)).rowcount
    return masked


DECISIONS = PersonalData("mcp_decisions", decided_by, forget)


def log_unavailable(server: str, reasons: Mapping[str, str]) -> None:
    """Logs the tools that agents cannot call, one line for all of the same reason."""
    for reason in dict.fromkeys(reasons.values()):
        names = [name for name, one in reasons.items() if one == reason]
        rest = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        shown = ", ".join(f"{name:.80}" for name in names[:MOST_NAMED])
        log.warning("MCP server %s: each of these tools %s: %s%s", server, reason, shown, rest)
