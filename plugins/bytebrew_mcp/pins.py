"""The pins of tools: rows with the definition of each that was approved, if only by being the first."""

import sqlite3
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from bytebrew import now

from . import store
from .definitions import Listed

MAX_PINS = 2000
"""Tools of a server that are ever pinned: one that keeps showing others does not fill the disk."""


class Pin(NamedTuple):
    """The approved definition of a tool by its hash, and whether it is stored as a whole."""

    digest: str
    whole: bool


def every(conn: sqlite3.Connection, server_id: str) -> dict[str, Pin]:
    """The pin of each tool that the server has ever shown."""
    sql = "select tool, digest, definition <> '' as whole from mcp_pins where server_id = ?"
    return {row["tool"]: Pin(row["digest"], bool(row["whole"])) for row in conn.execute(sql, (server_id,))}


def definitions(conn: sqlite3.Connection, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The definitions that are approved, by the server's id and the tool, where they are known."""
    sql = "select definition from mcp_pins where server_id = ? and tool = ? and definition <> ''"
    rows = {key: conn.execute(sql, key).fetchone() for key in keys}
    return {key: row["definition"] for key, row in rows.items() if row is not None}


def is_new(one: Listed, there: Mapping[str, Pin]) -> bool:
    """Whether a tool has no pin, or is as it was pinned before definitions were stored."""
    pin = there.get(one.definition.name)
    return pin is None or (not pin.whole and pin.digest == one.digest)


def add_new(conn: sqlite3.Connection, server_id: str, listed: Iterable[Listed]) -> dict[str, Pin]:
    """The pins, with tools that are seen for the first time pinned now, as long as there are not too many."""
    there = every(conn, server_id)
    new = [one for one in listed if is_new(one, there)]
    unseen = [one for one in new if one.definition.name not in there]
    if store.find(conn, server_id, "id"):
        _pin(
            conn,
            server_id,
            [*(one for one in new if one.definition.name in there), *unseen[: max(0, MAX_PINS - len(there))]],
        )
    return every(conn, server_id)


def approve(conn: sqlite3.Connection, server_id: str, listed: Listed) -> dict[str, Pin]:
    """The pins, with a tool pinned as it is listed; NotFound where the server is gone."""
    store.get(conn, server_id)
    _pin(conn, server_id, [listed])
    return every(conn, server_id)


def _pin(conn: sqlite3.Connection, server_id: str, listed: Iterable[Listed]) -> None:
    sql = """insert or replace into mcp_pins (server_id, tool, digest, definition, pinned_at)
      values (?, ?, ?, ?, ?)"""
    moment = now()
    conn.executemany(sql, [(server_id, one.definition.name, one.digest, one.text, moment) for one in listed])
