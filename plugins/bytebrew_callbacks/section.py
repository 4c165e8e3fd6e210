"""Callbacks in the configuration file."""

from collections.abc import Mapping
from typing import Any

import msgspec

from bytebrew import Actor, ConfigSection, Connection, Detail, Engine, InvalidRequest

from . import store
from .callbacks import CALLBACKS
from .definition import CallbackPatch, NewCallback
from .deliveries import DELIVERIES


class CallbacksSection(ConfigSection):
    """The section `callbacks`; a secret that is a `${VAR}` is resolved at each try."""

    key = "callbacks"
    item = NewCallback
    secrets = frozenset({"secret"})
    after = "schemas"

    def export(self, conn: Connection, engine: Engine) -> Mapping[str, Any]:
        found = {}
        for row in store.list_all(conn):
            fields: dict[str, Any] = msgspec.to_builtins(store.definition(row))
            name = fields.pop("name")
            found[name] = fields | {"secret": engine.secrets.open(row["sealed_secret"])}
        return found

    def put(self, conn: Connection, engine: Engine, actor: Actor, name: str, values: Any) -> None:
        if store.find(conn, name):
            engine.state[CALLBACKS].update(conn, name, CallbackPatch(**values))
            return
        new = NewCallback(name=name, **values)
        if not new.secret:
            details = [Detail("$.secret", "is missing; write a ${VAR}")]
            raise InvalidRequest(f"The callback '{name}' needs a secret", details=details)
        engine.state[CALLBACKS].create(conn, new)

    def delete(self, conn: Connection, engine: Engine, name: str) -> None:
        store.delete(conn, name)

    async def changed(self, engine: Engine) -> None:
        engine.state[DELIVERIES].wake()
