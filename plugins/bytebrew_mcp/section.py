"""MCP servers in the configuration file."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import asdict

from bytebrew import MASK, Actor, ConfigSection, Connection, Engine, Forbidden

from . import store
from .config import ALIASES, Mcp, NewServer, ServerPatch
from .filter_warnings import unmet
from .toolset import SERVERS

_NOT_WRITTEN = ("id", "name", "sealed_key", "created_at", "updated_at")


class ServersSection(ConfigSection):
    """The section `mcp_servers`; `args`, `env` and `headers` are secrets whose `${VAR}` is resolved on connect."""

    key = "mcp_servers"
    item = NewServer
    aliases = ALIASES
    secrets = frozenset({"args.*", "env.*", "headers.*", "auth_key"})
    stays = MASK

    def export(self, conn: Connection, engine: Engine) -> Mapping[str, Any]:
        servers = {}
        for row in store.list_all(conn):
            server = {name: value for name, value in asdict(row).items() if name not in _NOT_WRITTEN}
            for field in ("env", "headers"):
                server[field] = {name: store.plain(value, engine) for name, value in server[field].items()}
            server["args"] = [store.plain(value, engine) for value in row.args]
            servers[row.name] = server | {"auth_key": store.plain(row.sealed_key, engine)}
        return servers

    def put(self, conn: Connection, engine: Engine, actor: Actor, name: str, values: Any) -> None:
        there = store.find(conn, name)
        if there is not None:
            if values.get("type", there.type) is None:  # inferred as for a new server
                kind = "stdio" if values.get("command", there.command) else "streamable-http"
                values = {**values, "type": kind}
            row = store.update(conn, name, ServerPatch(**values), engine)
        else:
            row = store.create(conn, NewServer(name=name, **values), engine)
        policy = engine.settings.of(Mcp).mcp_stdio
        refused = policy == "off" or (policy == "admin" and not actor.is_admin)
        if refused and "stdio" in (row.type, there and there.type):
            raise Forbidden("An MCP server of type stdio is a command on this machine; see BYTEBREW_MCP_STDIO")

    def delete(self, conn: Connection, engine: Engine, name: str) -> None:
        store.delete(conn, name)

    def warnings(self, conn: Connection, engine: Engine, name: str) -> Sequence[str]:
        server = store.find(conn, name)
        return [] if server is None else [*unmet(conn, server, engine.state[SERVERS].connections.get(name))]

    async def changed(self, engine: Engine) -> None:
        await engine.state[SERVERS].reload()
