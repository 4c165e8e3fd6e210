"""Warns of fields that name unknown agents or models, or tools that the server does not offer."""

from collections.abc import Iterator

from bytebrew import Connection

from .config import ServerRow
from .connection import ServerConnection


def unmet(conn: Connection, server: ServerRow, connection: ServerConnection | None) -> Iterator[str]:
    """A sentence for each such name; tools are checked only while the server is connected."""
    for name in server.agent_tools:
        if not conn.execute("select 1 from agents where name = ?", (name,)).fetchone():
            yield f"agent_tools: there is no agent '{name}' yet"
    model = server.sampling_model
    if model and not conn.execute("select 1 from models where name = ?", (model,)).fetchone():
        yield f"sampling_model: there is no model '{model}' yet"
    if connection is None or connection.status.status != "connected":
        return
    named = [("allow_tools", server.allow_tools or ()), ("deny_tools", server.deny_tools)]
    named += [(f"agent_tools.{agent}", tools) for agent, tools in server.agent_tools.items()]
    for field, tools in named:
        for name in tools:
            if name not in connection.tools:
                yield f"{field}: the server offers no tool '{name}'"
