"""HTTP tools in the configuration file."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import asdict

from bytebrew import Actor, ConfigSection, Conflict, Connection, Detail, Engine

from . import store
from .definition import CREDENTIAL, Definition, HttpToolPatch, NewHttpTool


class ToolsSection(ConfigSection):
    """The section `tools`; `${VAR}` is stored unchanged and resolved at each call."""

    key = "tools"
    reserved = frozenset({"metadata"})
    item = NewHttpTool
    secrets = frozenset(f"auth.{field}" for field in CREDENTIAL.values())
    keeps_variables = True

    def defaults(self) -> Mapping[str, Any]:
        left_out = ("name", "auth", "url")  # an `endpoint` may contain the URL
        return {name: value for name, value in asdict(Definition(name="")).items() if name not in left_out}

    def completed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        whole = super().completed(values)
        if "method" not in values and " " in values.get("endpoint", "").strip():  # "METHOD url"
            del whole["method"]
        return whole

    def export(self, conn: Connection, engine: Engine) -> Mapping[str, Any]:
        tools = {}
        for stored in store.list_all(conn):
            tool = msgspec.to_builtins(stored.definition)
            if stored.definition.auth and stored.sealed:
                tool["auth"][CREDENTIAL[stored.definition.auth.type]] = engine.secrets.open(stored.sealed)
            tools[tool.pop("name")] = tool
        return tools

    def put(self, conn: Connection, engine: Engine, actor: Actor, name: str, values: Any) -> None:
        if engine.reserves(name):
            raise Conflict(f"'{name}' is a built-in tool; choose another name", details=[Detail("$", "is taken")])
        if store.named(conn, [name]):
            store.update(conn, name, HttpToolPatch(**values), engine.secrets.seal)
        else:
            store.create(conn, NewHttpTool(name=name, **values), engine.secrets.seal)

    def delete(self, conn: Connection, engine: Engine, name: str) -> None:
        store.delete(conn, name)
