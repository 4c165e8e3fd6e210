"""Pinned tool definitions: the approved definition of each tool, by default the first one seen."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from bytebrew import Connection, now, placeholders, section_changed

from . import store
from .tool_definitions import Listed

MAX_PINS = 2000
"""Limit of pins per server, so that a server that keeps renaming tools cannot fill the disk."""


SECTION = "mcp_servers"
"""The section of the configuration that pins belong to: all nodes follow a change of them."""


class Pin(NamedTuple):
    """Hash of a tool's approved definition, whether the definition is stored too, and since when the tool is known.

    `approved_at` is None for a definition that was pinned as the first one seen.
    """

    digest: str
    whole: bool
    since: str
    approved_at: str | None
    approved_by: str | None


def every(conn: Connection, server_id: str) -> dict[str, Pin]:
    """The pins of a server, by tool."""
    sql = """select tool, digest, definition <> '' as whole, pinned_at, approved_at, approved_by from mcp_pins
      where server_id = ? order by tool"""
    rows = conn.execute(sql, (server_id,))
    return {
        row["tool"]: Pin(row["digest"], bool(row["whole"]), row["pinned_at"], row["approved_at"], row["approved_by"])
        for row in rows
    }


def all_definitions(conn: Connection, server_id: str) -> dict[str, str]:
    """The stored approved definitions of a server's tools."""
    sql = "select tool, definition from mcp_pins where server_id = ? and definition <> '' order by tool"
    return {row["tool"]: row["definition"] for row in conn.execute(sql, (server_id,))}


def tools_of(conn: Connection, servers: Iterable[str]) -> list[tuple[str, str]]:
    """Server name and tool of every pin of these servers."""
    names = [*servers]
    sql = f"""select s.name, p.tool from mcp_servers s join mcp_pins p on p.server_id = s.id
      where s.name in ({placeholders(names)}) order by s.name, p.tool"""  # noqa: S608
    return [(row["name"], row["tool"]) for row in conn.execute(sql, names)]


def definitions(conn: Connection, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The stored approved definitions, by server id and tool."""
    sql = "select definition from mcp_pins where server_id = ? and tool = ? and definition <> ''"
    rows = {key: conn.execute(sql, key).fetchone() for key in keys}
    return {key: row["definition"] for key, row in rows.items() if row is not None}


def is_new(tool: Listed, there: Mapping[str, Pin], *, strict: bool = False) -> bool:
    """Whether to pin a tool: it has no pin, or an equal pin that was made before definitions were stored.

    With `strict`, tools are pinned only while the server has no pins at all: a person approves later ones.
    """
    pin = there.get(tool.definition.name)
    return not (strict and there) if pin is None else not pin.whole and pin.digest == tool.digest


def add_new(conn: Connection, server_id: str, listed: Iterable[Listed], *, strict: bool = False) -> dict[str, Pin]:
    """Pins the new tools, up to MAX_PINS; returns all pins."""
    there = every(conn, server_id)
    new = [one for one in listed if is_new(one, there, strict=strict)]
    unseen = [one for one in new if one.definition.name not in there]
    if store.find(conn, server_id, "id"):
        _pin(
            conn,
            server_id,
            [*(one for one in new if one.definition.name in there), *unseen[: max(0, MAX_PINS - len(there))]],
        )
    return every(conn, server_id)


def approve(conn: Connection, server_id: str, listed: Listed, by: str) -> dict[str, Pin]:
    """Pins a tool as it is listed now; returns all pins; NotFound if the server was deleted."""
    store.get(conn, server_id)
    _pin(conn, server_id, [listed])
    sql = "update mcp_pins set approved_at = ?, approved_by = ? where server_id = ? and tool = ?"
    conn.execute(sql, (now(), by, server_id, listed.definition.name))
    return every(conn, server_id)


def _pin(conn: Connection, server_id: str, listed: Iterable[Listed]) -> None:
    sql = """insert into mcp_pins (server_id, tool, digest, definition, pinned_at) values (?, ?, ?, ?, ?)
      on conflict (server_id, tool) do update set digest = excluded.digest, definition = excluded.definition,
        approved_at = null, approved_by = null"""
    moment = now()
    rows = [(server_id, one.definition.name, one.digest, one.text, moment) for one in listed]
    if rows:
        conn.executemany(sql, rows)
        section_changed(conn, SECTION)
