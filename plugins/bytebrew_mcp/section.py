"""MCP servers in the configuration file."""

import sqlite3
from base64 import b64decode
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict

from bytebrew import Actor, ConfigSection, Forbidden

from . import store
from .config import ALIASES, Mcp, NewServer, ServerPatch
from .toolset import Servers

if TYPE_CHECKING:
    from bytebrew import Engine

_NOT_WRITTEN = ("id", "name", "sealed_key", "created_at", "updated_at")


class ServersSection(ConfigSection):
    """`mcp_servers`: the values of `env` and `headers` are credentials; a `${VAR}` in them is read when it connects."""

    key = "mcp_servers"
    item = NewServer
    aliases = ALIASES
    secrets = frozenset({"env.*", "headers.*", "auth_key"})

    def export(self, conn: sqlite3.Connection, engine: "Engine") -> Mapping[str, Any]:
        def opened(sealed: str) -> str:
            return engine.secrets.open(b64decode(sealed))

        found = {}
        for row in store.list_all(conn):
            server = {name: value for name, value in asdict(row).items() if name not in _NOT_WRITTEN}
            for field in ("env", "headers"):
                server[field] = {name: opened(value) for name, value in server[field].items()}
            found[row.name] = server | {"auth_key": opened(row.sealed_key)}
        return found

    def put(self, conn: sqlite3.Connection, engine: "Engine", actor: Actor, name: str, given: Any) -> None:
        there = conn.execute("select type from mcp_servers where name = ?", (name,)).fetchone()
        if there:
            row = store.update(conn, name, ServerPatch(**given), engine)
        else:
            row = store.create(conn, NewServer(name=name, **given), engine)
        policy = engine.settings.of(Mcp).mcp_stdio
        refused = policy == "off" or (policy == "admin" and not actor.is_admin)
        if refused and "stdio" in (row.type, there and there["type"]):
            raise Forbidden("An MCP server of type stdio is a command on this machine; see BYTEBREW_MCP_STDIO")

    def delete(self, conn: sqlite3.Connection, engine: "Engine", name: str) -> None:
        store.delete(conn, name)

    async def changed(self, engine: "Engine") -> None:
        await next(one for one in engine.toolsets if isinstance(one, Servers)).reload()
