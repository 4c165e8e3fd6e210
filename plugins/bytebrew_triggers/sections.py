"""Schedules and webhooks in the configuration file."""

from collections.abc import Mapping
from typing import Any

import msgspec

from bytebrew import Actor, ConfigSection, Connection, Detail, Engine, InvalidRequest, Row

from . import store
from .definition import NewSchedule, NewWebhook, SchedulePatch, WebhookPatch
from .schedules import SCHEDULES
from .store import SCHEDULE, WEBHOOK, Kind
from .webhooks import WEBHOOKS


class SchedulesSection(ConfigSection):
    """The section `schedules`."""

    key = "schedules"
    item = NewSchedule
    after = "schemas"

    def export(self, conn: Connection, engine: Engine) -> Mapping[str, Any]:
        return {row["name"]: _written(row, SCHEDULE) for row in store.list_all(conn, SCHEDULE)}

    def put(self, conn: Connection, engine: Engine, actor: Actor, name: str, values: Any) -> None:
        if store.find(conn, SCHEDULE, name):
            engine.state[SCHEDULES].update(conn, name, SchedulePatch(**values), actor.subject)
        else:
            engine.state[SCHEDULES].create(conn, NewSchedule(name=name, **values), actor.subject)

    def delete(self, conn: Connection, engine: Engine, name: str) -> None:
        store.delete(conn, SCHEDULE, name)

    async def changed(self, engine: Engine) -> None:
        engine.state[SCHEDULES].wake()


class WebhooksSection(ConfigSection):
    """The section `webhooks`; a secret that is a `${VAR}` is resolved at each request."""

    key = "webhooks"
    item = NewWebhook
    secrets = frozenset({"secret"})
    after = "schemas"

    def export(self, conn: Connection, engine: Engine) -> Mapping[str, Any]:
        return {
            row["name"]: _written(row, WEBHOOK) | {"secret": engine.secrets.open(row["sealed_secret"])}
            for row in store.list_all(conn, WEBHOOK)
        }

    def put(self, conn: Connection, engine: Engine, actor: Actor, name: str, values: Any) -> None:
        if store.find(conn, WEBHOOK, name):
            engine.state[WEBHOOKS].update(conn, name, WebhookPatch(**values), actor.subject)
            return
        new = NewWebhook(name=name, **values)
        if not new.secret:
            details = [Detail("$.secret", "is missing; write a ${VAR}")]
            raise InvalidRequest(f"The webhook '{name}' needs a secret", details=details)
        engine.state[WEBHOOKS].create(conn, new, actor.subject)

    def delete(self, conn: Connection, engine: Engine, name: str) -> None:
        store.delete(conn, WEBHOOK, name)


def _written(row: Row, kind: Kind) -> dict[str, Any]:
    """The definition without default values."""
    fields: dict[str, Any] = msgspec.to_builtins(store.definition(row, kind))
    del fields["name"]
    return fields
