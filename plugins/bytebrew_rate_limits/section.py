"""Rate limits in the configuration file."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import asdict

from bytebrew import Actor, ConfigSection, Connection, Engine

from . import store
from .limits import LIMITS
from .rules import NewRule, Rule, RulePatch


class RateLimits(ConfigSection):
    """The section `rate_limits`, in the order in which rules apply."""

    key = "rate_limits"
    item = Rule

    def export(self, conn: Connection, engine: Engine) -> Mapping[str, Any]:
        """Every rule, without empty fields."""
        rules = [asdict(stored.rule) for stored in store.list_all(conn)]
        return {rule.pop("name"): {field: value for field, value in rule.items() if value} for rule in rules}

    def put(self, conn: Connection, engine: Engine, actor: Actor, name: str, values: Any) -> None:
        """Creates or merges a rule; a new one applies last."""
        if any(stored.rule.name == name for stored in store.list_all(conn)):
            store.update(conn, name, msgspec.convert(values, RulePatch))
        else:
            store.create(conn, msgspec.convert({**values, "name": name}, NewRule))

    def delete(self, conn: Connection, engine: Engine, name: str) -> None:
        """Deletes a rule with its counts."""
        store.delete(conn, name)

    async def changed(self, engine: Engine) -> None:
        """Activates the stored rules."""
        await engine.state[LIMITS].change(store.list_all)
