"""MCP servers and the pins of their tools: rows."""

import re
import sqlite3
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET
from msgspec.structs import asdict

from bytebrew import Conflict, Detail, InvalidRequest, Migration, NotFound, new_uuid, now, resolved

from .config import MASK, NewServer, ServerPatch, ServerRow

if TYPE_CHECKING:
    from bytebrew import Engine

MIGRATIONS = (
    Migration(
        1,
        """
        create table mcp_servers (
          id text primary key,
          name text not null unique,
          type text not null,
          command text not null,
          args text not null,
          url text not null,
          env text not null,
          headers text not null,
          forward_headers text not null,
          auth_type text not null,
          auth_header text not null,
          sealed_key text not null,
          auth_key_env text not null,
          pin text not null,
          allow_tools text,
          deny_tools text not null,
          agent_tools text not null,
          enabled integer not null,
          created_at text not null,
          updated_at text not null
        ) strict, without rowid;
        create table mcp_pins (
          server_id text not null references mcp_servers (id) on delete cascade,
          tool text not null,
          digest text not null,
          pinned_at text not null,
          primary key (server_id, tool)
        ) strict, without rowid;
        """,
    ),
)
_JSON = ("args", "env", "headers", "forward_headers", "allow_tools", "deny_tools", "agent_tools")
_KEYS = {
    "env": re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}"),
    "headers": re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}"),
    "agent_tools": re.compile(r"[a-z0-9][a-z0-9._-]{0,254}"),
}
_FORBIDDEN = {"host", "connection", "content-length", "content-type", "transfer-encoding", "accept", "upgrade"}


def list_all(conn: sqlite3.Connection) -> list[ServerRow]:
    """Every MCP server by name."""
    return [_row(row) for row in conn.execute("select * from mcp_servers order by name")]


def get(conn: sqlite3.Connection, key: str) -> ServerRow:
    """An MCP server by name, or else by id; NotFound otherwise."""
    for column in ("name", "id"):
        row = conn.execute(f"select * from mcp_servers where {column} = ?", (key,)).fetchone()  # noqa: S608
        if row is not None:
            return _row(row)
    raise NotFound(f"There is no MCP server '{key[:255]}'")


def agents_of(conn: sqlite3.Connection) -> dict[str, tuple[str, ...]]:
    """The agents that name each server."""
    sql = "select j.value as server, a.name from agents a, json_each(a.mcp_servers) j order by a.name"
    found: dict[str, tuple[str, ...]] = {}
    for row in conn.execute(sql):
        found[row["server"]] = (*found.get(row["server"], ()), row["name"])
    return found


def create(conn: sqlite3.Connection, new: NewServer, engine: "Engine") -> ServerRow:
    """The server, now stored."""
    if conn.execute("select 1 from mcp_servers where name = ?", (new.name,)).fetchone():
        raise Conflict(
            f"There is an MCP server '{new.name}' already; change it with PUT /api/v1/mcp-servers/{new.name}"
        )
    values = asdict(new)
    values["type"] = new.type or ("stdio" if new.command else "streamable-http")
    moment = now()
    values = {"id": new_uuid(), **_sealed(values, {}, {}, engine), "created_at": moment, "updated_at": moment}
    values.setdefault("sealed_key", "")
    _check(values)
    columns = _columns(values)
    conn.execute(
        f"insert into mcp_servers ({', '.join(columns)}) values ({', '.join('?' * len(columns))})",  # noqa: S608
        tuple(columns.values()),
    )
    return get(conn, new.name)


def update(conn: sqlite3.Connection, key: str, patch: ServerPatch, engine: "Engine") -> ServerRow:
    """The server with the patch merged in."""
    server = get(conn, key)
    changes = {name: value for name, value in asdict(patch).items() if value is not UNSET}
    if changes.pop("name", server.name) != server.name:
        raise InvalidRequest("A server's name is fixed", details=[Detail("$.name", "create another server instead")])
    changes = {**_sealed(changes, server.env, server.headers, engine), "updated_at": now()}
    _check(asdict(server) | changes)
    columns = _columns(changes)
    assignments = ", ".join(f"{name} = ?" for name in columns)
    conn.execute(f"update mcp_servers set {assignments} where id = ?", (*columns.values(), server.id))  # noqa: S608
    return get(conn, server.name)


def upsert(conn: sqlite3.Connection, new: NewServer, engine: "Engine") -> ServerRow:
    """The server as it is described, whether there was one of its name or not."""
    if conn.execute("select 1 from mcp_servers where name = ?", (new.name,)).fetchone() is None:
        return create(conn, new, engine)
    kind = new.type or ("stdio" if new.command else "streamable-http")
    return update(conn, new.name, ServerPatch(**asdict(new) | {"type": kind}), engine)


def delete(conn: sqlite3.Connection, key: str) -> None:
    """Removes a server that no agent names; Conflict lists those that do."""
    server = get(conn, key)
    if users := agents_of(conn).get(server.name, ()):
        details = [Detail("$.agents", name) for name in users]
        words = f"MCP server '{server.name}' is named by {len(users)} agents: {', '.join(users[:10])}"
        raise Conflict(words, details=details)
    conn.execute("delete from mcp_servers where id = ?", (server.id,))


def pins(conn: sqlite3.Connection, server_id: str) -> dict[str, str]:
    """The pinned digest of each tool that the server has ever shown."""
    sql = "select tool, digest from mcp_pins where server_id = ?"
    return {row["tool"]: row["digest"] for row in conn.execute(sql, (server_id,))}


def pin_new(conn: sqlite3.Connection, server_id: str, seen: Mapping[str, str]) -> dict[str, str]:
    """The pins, with tools that are seen for the first time pinned now."""
    if conn.execute("select 1 from mcp_servers where id = ?", (server_id,)).fetchone():
        _pin(conn, "insert or ignore", server_id, seen.items())
    return pins(conn, server_id)


def approve(conn: sqlite3.Connection, server_id: str, tool: str, digest: str) -> None:
    """Pins a tool as it is now."""
    _pin(conn, "insert or replace", server_id, [(tool, digest)])


def opened(sealed: Mapping[str, str], engine: "Engine") -> dict[str, str]:
    """The values behind sealed ones, of variables too; Unprocessable where they were sealed with another key."""
    return {name: resolved(engine.secrets.open(b64decode(value))) for name, value in sealed.items()}


def _pin(conn: sqlite3.Connection, how: str, server_id: str, digests: Iterable[tuple[str, str]]) -> None:
    sql = f"{how} into mcp_pins (server_id, tool, digest, pinned_at) values (?, ?, ?, ?)"
    moment = now()
    conn.executemany(sql, [(server_id, tool, digest, moment) for tool, digest in digests])


def _row(row: sqlite3.Row) -> ServerRow:
    values = dict(row)
    for name in _JSON:
        if values[name] is not None:
            values[name] = msgspec.json.decode(values[name])
    return msgspec.convert(values, ServerRow, strict=False)


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: msgspec.json.encode(value).decode() if name in _JSON and value is not None else value
        for name, value in values.items()
    }


def _sealed(
    values: dict[str, Any], env: Mapping[str, str], headers: Mapping[str, str], engine: "Engine"
) -> dict[str, Any]:
    """The values with every secret sealed; a masked one is what it was."""

    def seal(text: str) -> str:
        return b64encode(engine.secrets.seal(text)).decode()

    values = dict(values)
    for field, old in (("env", env), ("headers", headers)):
        if field in values:
            given: dict[str, str] = values[field]
            lost = [name for name, value in given.items() if value == MASK and name not in old]
            if lost:
                details = [Detail(f"$.{field}.{name}", f"{MASK} keeps a value, and there is none") for name in lost]
                raise InvalidRequest(f"{field}: {', '.join(lost)} has no value that could stay", details=details)
            values[field] = {name: old[name] if value == MASK else seal(value) for name, value in given.items()}
    if key := values.pop("auth_key", ""):
        values["sealed_key"] = seal(key)
    return values


def _check(values: Mapping[str, Any]) -> None:
    """Raises InvalidRequest where the server lacks what its type or its auth needs."""
    stdio = values["type"] == "stdio"
    faults = []
    if not values["command" if stdio else "url"]:
        faults.append(Detail(f"$.{'command' if stdio else 'url'}", f"a server of type {values['type']} needs it"))
    if values["auth_type"] in ("api_key", "bearer"):
        if values["auth_key_env"] and values["auth_key_env"] not in values["env"]:
            faults.append(Detail("$.auth_key_env", "names no variable of env"))
        elif not values["auth_key_env"] and not values["sealed_key"]:
            faults.append(Detail("$.auth_key", f"auth_type {values['auth_type']} needs it"))
    faults += [
        Detail(f"$.{field}.{name[:100]}", "is no name for it")
        for field, form in _KEYS.items()
        for name in values[field]
        if not form.fullmatch(name)
    ]
    for field in ("headers", "forward_headers"):
        faults += [
            Detail(f"$.{field}", f"{name} is set by the engine")
            for name in values[field]
            if name.lower() in _FORBIDDEN or name.lower().startswith("mcp-")
        ]
    if faults:
        words = "; ".join(f"{fault.path.removeprefix('$.')}: {fault.message}" for fault in faults)
        raise InvalidRequest(words[:1000], details=faults)
