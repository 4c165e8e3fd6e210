"""SQL for MCP servers."""

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET
from msgspec.structs import asdict

import bytebrew
from bytebrew import (
    MASK,
    Conflict,
    Connection,
    Detail,
    Engine,
    InvalidRequest,
    Migration,
    NotFound,
    Row,
    escaped,
    filled,
    insert,
    new_uuid,
    now,
    resolved,
)

from .config import NewServer, ServerPatch, ServerRow, origin
from .oauth.server_fields import oauth_faults

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
    Migration(2, "alter table mcp_pins add column definition text not null default ''"),
    Migration(3, "update mcp_servers set args = (select json_group_array('plain:' || value) from json_each(args))"),
    Migration(
        4,
        """
        create view mcp_servers_sealed as select args || env || headers as sealed_texts from mcp_servers
          where (args, env, headers) <> ('[]', '{}', '{}')
        """,
    ),
    Migration(
        5,
        """
        drop view mcp_servers_sealed;
        create view mcp_servers_sealed as
          select one.value as sealed_text from mcp_servers, json_each(args) one where one.value not like 'plain:%'
          union all select one.value from mcp_servers, json_each(env) one
          union all select one.value from mcp_servers, json_each(headers) one;
        """,
    ),
)
REQUESTS = Migration(
    8,
    """
    alter table mcp_servers add column elicitation integer not null default 1;
    alter table mcp_servers add column sampling integer not null default 0;
    alter table mcp_servers add column sampling_model text;
    alter table mcp_servers add column sampling_max_tokens integer not null default 1000;
    alter table mcp_servers add column resources integer not null default 0;
    """,
)
"""What a server may request of the engine, and whether agents read its resources."""
_PLAIN = "plain:"
"""Prefix of an argument that an older engine stored in plain text; it is encrypted at the next start."""
_JSON = ("args", "env", "headers", "forward_headers", "allow_tools", "deny_tools", "agent_tools", "auth_scopes")
_KEYS = {
    "env": re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}"),
    "headers": re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}"),
    "agent_tools": re.compile(r"[a-z0-9][a-z0-9._-]{0,254}"),
}
_FORBIDDEN = {
    *("host", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect"),
    *("content-length", "content-type", "content-encoding", "accept", "accept-encoding", "last-event-id"),
}


def list_all(conn: Connection) -> list[ServerRow]:
    """Every MCP server by name."""
    return [_row(row) for row in conn.execute("select * from mcp_servers order by name")]


def find(conn: Connection, key: str, column: str = "name") -> ServerRow | None:
    """An MCP server by name or another unique column."""
    row = conn.execute(f"select * from mcp_servers where {column} = ?", (key,)).fetchone()  # noqa: S608
    return None if row is None else _row(row)


def get(conn: Connection, key: str) -> ServerRow:
    """An MCP server by name, or else by id; NotFound otherwise."""
    if (server := find(conn, key) or find(conn, key, "id")) is None:
        raise NotFound(f"There is no MCP server '{key[:255]}'")
    return server


def agents_of(conn: Connection) -> dict[str, tuple[str, ...]]:
    """The agents that name each server."""
    agents: dict[str, tuple[str, ...]] = {}
    for row in conn.execute("select name, mcp_servers from agents where mcp_servers <> '[]' order by name"):
        for server in msgspec.json.decode(row["mcp_servers"]):
            agents[server] = (*agents.get(server, ()), row["name"])
    return agents


def create(conn: Connection, new: NewServer, engine: Engine) -> ServerRow:
    """Stores a server and returns it."""
    if find(conn, new.name):
        raise Conflict(f"There is an MCP server '{new.name}' already; PUT /api/v1/mcp-servers/{new.name} changes it")
    values = asdict(new)
    values["type"] = new.type or ("stdio" if new.command else "streamable-http")
    moment = now()
    values = {"id": new_uuid(), **_sealed(values, None, engine), "created_at": moment, "updated_at": moment}
    values.setdefault("sealed_key", "")
    _check(values)
    insert(conn, "mcp_servers", _columns(values))
    return get(conn, new.name)


def update(conn: Connection, key: str, patch: ServerPatch, engine: Engine) -> ServerRow:
    """Merges the patch into a server and returns it."""
    server = get(conn, key)
    changes = {name: value for name, value in asdict(patch).items() if value is not UNSET}
    if changes.pop("name", server.name) != server.name:
        raise InvalidRequest("A server's name is fixed", details=[Detail("$.name", "create another server instead")])
    changes = {**_sealed(changes, server, engine), "updated_at": now()}
    merged = asdict(server) | changes
    _check(merged)
    if merged["type"] != "stdio" and _origin(merged) != _origin(asdict(server)):
        _check_sent(server, merged, "url", "auth_key", "headers", "env")
    elif merged["auth_type"] == "oauth2" and merged["auth_issuer"] != server.auth_issuer:
        _check_sent(server, merged, "auth_issuer", "auth_key", *(["env"] if merged["auth_key_env"] else []))
    bytebrew.update(conn, "mcp_servers", _columns(changes), id=server.id)
    return get(conn, server.name)


def delete(conn: Connection, key: str) -> None:
    """Deletes a server that no agent names; Conflict lists those that do."""
    server = get(conn, key)
    if users := agents_of(conn).get(server.name, ()):
        details = [Detail("$.agents", name) for name in users]
        message = f"MCP server '{server.name}' is named by {len(users)} agents: {', '.join(users[:10])}"
        raise Conflict(message, details=details)
    conn.execute("delete from mcp_servers where id = ?", (server.id,))


def seal_arguments(conn: Connection, engine: Engine) -> None:
    """Encrypts arguments that an older engine stored in plain text."""
    for row in conn.execute("select id, args from mcp_servers where args like ?", (f'%"{_PLAIN}%',)).fetchall():
        args = [_seal(plain(one, engine), engine) for one in msgspec.json.decode(row["args"])]
        conn.execute("update mcp_servers set args = ? where id = ?", (msgspec.json.encode(args).decode(), row["id"]))


def plain(sealed: str, engine: Engine) -> str:
    """The decrypted value, `${VAR}` unresolved; Unprocessable if it was encrypted with another key."""
    if sealed.startswith(_PLAIN):
        return escaped(sealed.removeprefix(_PLAIN))
    return engine.secrets.open(b64decode(sealed))


def opened(sealed: Mapping[str, str], engine: Engine) -> dict[str, str]:
    """The decrypted values, with `${VAR}` resolved."""
    return {name: resolved(plain(value, engine)) for name, value in sealed.items()}


def arguments(server: ServerRow, engine: Engine) -> list[str]:
    """The decrypted arguments of a command, with `${VAR}` resolved."""
    return [filled(plain(one, engine)) for one in server.args]


def _row(row: Row) -> ServerRow:
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


def _seal(text: str, engine: Engine) -> str:
    return b64encode(engine.secrets.seal(text)).decode()


def _sealed(values: dict[str, Any], old: ServerRow | None, engine: Engine) -> dict[str, Any]:
    """The values with every secret encrypted; `***` keeps the stored value, in `args` that of the same position."""
    values = dict(values)
    there: dict[str, Mapping[Any, str]] = {
        "args": dict(enumerate(old.args)) if old else {},
        "env": old.env if old else {},
        "headers": old.headers if old else {},
    }
    for field in there.keys() & values.keys():
        sent: Mapping[Any, str] = dict(enumerate(values[field])) if field == "args" else values[field]
        lost = [str(name) for name, value in sent.items() if value == MASK and name not in there[field]]
        if lost:
            form = "$.args[{}]" if field == "args" else f"$.{field}.{{}}"
            details = [Detail(form.format(name), f"{MASK} keeps a value, and there is none") for name in lost]
            raise InvalidRequest(f"{field}: {', '.join(lost)} has no value that could stay", details=details)
        kept = {name: there[field][name] if value == MASK else _seal(value, engine) for name, value in sent.items()}
        values[field] = [*kept.values()] if field == "args" else kept
    if (key := values.pop("auth_key", "")) not in ("", MASK):
        values["sealed_key"] = "" if key is None else _seal(key, engine)
    return values


def _check_sent(server: ServerRow, merged: Mapping[str, Any], changed: str, *fields: str) -> None:
    """Raises InvalidRequest if credentials that were stored for one address would be sent to another.

    A changed command may keep its `env`: callers who may set up commands can read the data folder anyway.
    """
    columns = {field: "sealed_key" if field == "auth_key" else field for field in fields}
    kept = [field for field, one in columns.items() if _values(getattr(server, one)) & _values(merged[one])]
    if kept:
        other = "a url of another origin" if changed == "url" else f"another {changed}"
        message = f"send it with {other}: what is stored is for the old address"
        details = [Detail(f"$.{field}", message) for field in kept]
        raise InvalidRequest("A stored credential goes to no other address", details=details)


def _values(sealed: str | Mapping[str, str]) -> set[str]:
    """The encrypted values, without empty ones; they are equal only if unchanged, as each encryption differs."""
    return {value for value in ([sealed] if isinstance(sealed, str) else sealed.values()) if value}


def _origin(values: Mapping[str, Any]) -> tuple[str, str, int] | None:
    try:
        return None if values["type"] == "stdio" else origin(values["url"])
    except ValueError:
        return None


def _check(values: Mapping[str, Any]) -> None:
    """Raises InvalidRequest if the server lacks fields that its type or its auth needs."""
    stdio = values["type"] == "stdio"
    faults = []
    if not values["command" if stdio else "url"]:
        faults.append(Detail(f"$.{'command' if stdio else 'url'}", f"a server of type {values['type']} needs it"))
    try:
        origin(values["url"] or "http://none")
    except ValueError as error:
        faults.append(Detail("$.url", f"will not do: {error}"))
    if values["auth_type"] in ("api_key", "bearer"):
        if values["auth_key_env"] and values["auth_key_env"] not in values["env"]:
            faults.append(Detail("$.auth_key_env", "names no variable of env"))
        elif not values["auth_key_env"] and not values["sealed_key"]:
            faults.append(Detail("$.auth_key", f"auth_type {values['auth_type']} needs it"))
    if values["auth_type"] == "oauth2":
        faults += oauth_faults(values)
    faults += [
        Detail(f"$.{field}.{name[:100]}", "is no name for it")
        for field, form in _KEYS.items()
        for name in values[field]
        if not form.fullmatch(name)
    ]
    for field in ("headers", "forward_headers", "auth_header"):
        faults += [
            Detail(f"$.{field}", f"{name} is set by the engine")
            for name in ([values[field]] if field == "auth_header" else values[field])
            if name.lower() in _FORBIDDEN or name.lower().startswith("mcp-")
        ]
    if faults:
        message = "; ".join(f"{fault.path.removeprefix('$.')}: {fault.message}" for fault in faults)
        raise InvalidRequest(message[:1000], details=faults)
