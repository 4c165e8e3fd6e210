"""HTTP tools in the configuration file."""

import sqlite3
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from bytebrew import Actor, ConfigSection, Conflict, Detail

from . import store
from .definition import CREDENTIAL, HttpToolPatch, NewHttpTool

if TYPE_CHECKING:
    from bytebrew import Engine


class ToolsSection(ConfigSection):
    """`tools`: a `${VAR}` stays what it is, for it is read at every call."""

    key = "tools"
    item = NewHttpTool
    secrets = frozenset(f"auth.{field}" for field in CREDENTIAL.values())
    keeps_variables = True

    def export(self, conn: sqlite3.Connection, engine: "Engine") -> Mapping[str, Any]:
        found = {}
        for stored in store.list_all(conn):
            tool = msgspec.to_builtins(stored.definition)
            if stored.definition.auth and stored.sealed:
                tool["auth"][CREDENTIAL[stored.definition.auth.type]] = engine.secrets.open(stored.sealed)
            found[tool.pop("name")] = tool
        return found

    def put(self, conn: sqlite3.Connection, engine: "Engine", actor: Actor, name: str, given: Any) -> None:
        if name in engine.tools:
            raise Conflict(f"'{name}' is a built-in tool; choose another name", details=[Detail("$", "is taken")])
        if store.named(conn, [name]):
            store.update(conn, name, HttpToolPatch(**given), engine.secrets.seal)
        else:
            store.create(conn, NewHttpTool(name=name, **given), engine.secrets.seal)

    def delete(self, conn: sqlite3.Connection, engine: "Engine", name: str) -> None:
        store.delete(conn, name)
