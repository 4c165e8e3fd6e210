"""The pins of tools: rows with the definition of each that was approved, if only by being the first."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from msgspec.json import encode

from bytebrew import Connection, now

from . import store
from .tool_definitions import Listed

MAX_PINS = 2000
"""Tools of a server that are ever pinned: one that keeps showing others does not fill the disk."""


class Pin(NamedTuple):
    """The approved definition of a tool by its hash, whether it is stored as a whole, and since when it is known."""

    digest: str
    whole: bool
    since: str


def every(conn: Connection, server_id: str) -> dict[str, Pin]:
    """The pin of each tool that agents have ever had from the server."""
    sql = "select tool, digest, definition <> '' as whole, pinned_at from mcp_pins where server_id = ?"
    rows = conn.execute(sql, (server_id,))
    return {row["tool"]: Pin(row["digest"], bool(row["whole"]), row["pinned_at"]) for row in rows}


def all_definitions(conn: Connection, server_id: str) -> dict[str, str]:
    """The approved definition of each tool of a server, as far as they are known."""
    sql = "select tool, definition from mcp_pins where server_id = ? and definition <> ''"
    return {row["tool"]: row["definition"] for row in conn.execute(sql, (server_id,))}


def tools_of(conn: Connection, servers: Iterable[str]) -> list[tuple[str, str]]:
    """Every tool that agents have ever had from these servers, with its server's name."""
    sql = """select s.name, p.tool from mcp_servers s join mcp_pins p on p.server_id = s.id
      where s.name in (select value from json_each(?))"""
    return [(row["name"], row["tool"]) for row in conn.execute(sql, (encode([*servers]).decode(),))]


def definitions(conn: Connection, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The definitions that are approved, by the server's id and the tool, where they are known."""
    sql = "select definition from mcp_pins where server_id = ? and tool = ? and definition <> ''"
    rows = {key: conn.execute(sql, key).fetchone() for key in keys}
    return {key: row["definition"] for key, row in rows.items() if row is not None}


def is_new(one: Listed, there: Mapping[str, Pin], *, strict: bool = False) -> bool:
    """Whether a tool is to be pinned: for it has no pin, or is as it was pinned before definitions were stored.

    Where that is `strict`, one without a pin only among the first tools that a server ever shows: a person approves
    those that come later.
    """
    pin = there.get(one.definition.name)
    return not (strict and there) if pin is None else not pin.whole and pin.digest == one.digest


def add_new(conn: Connection, server_id: str, listed: Iterable[Listed], *, strict: bool = False) -> dict[str, Pin]:
    """The pins, with those tools pinned now that are new, as long as there are not too many."""
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


def approve(conn: Connection, server_id: str, listed: Listed) -> dict[str, Pin]:
    """The pins, with a tool pinned as it is listed; NotFound where the server is gone."""
    store.get(conn, server_id)
    _pin(conn, server_id, [listed])
    return every(conn, server_id)


def _pin(conn: Connection, server_id: str, listed: Iterable[Listed]) -> None:
    sql = """insert into mcp_pins (server_id, tool, digest, definition, pinned_at) values (?, ?, ?, ?, ?)
      on conflict (server_id, tool) do update set digest = excluded.digest, definition = excluded.definition"""
    moment = now()
    conn.executemany(sql, [(server_id, one.definition.name, one.digest, one.text, moment) for one in listed])
