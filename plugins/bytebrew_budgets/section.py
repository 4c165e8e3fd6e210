"""Budgets in the configuration file."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import asdict

from bytebrew import Actor, ConfigSection, Connection, Engine

from . import store
from .definition import Budget, BudgetPatch, NewBudget
from .guard import BUDGETS


class BudgetsSection(ConfigSection):
    """The section `budgets`."""

    key = "budgets"
    item = Budget

    def export(self, conn: Connection, engine: Engine) -> Mapping[str, Any]:
        """Every budget, without what it has counted and without empty fields."""
        budgets = [asdict(stored.budget) for stored in store.list_all(conn)]
        return {one.pop("name"): {field: value for field, value in one.items() if value} for one in budgets}

    def put(self, conn: Connection, engine: Engine, actor: Actor, name: str, values: Any) -> None:
        """Creates or merges a budget."""
        resolved = engine.state[BUDGETS].resolved
        if store.exists(conn, name):
            store.change(conn, name, msgspec.convert(values, BudgetPatch), resolved)
        else:
            store.create(conn, msgspec.convert({**values, "name": name}, NewBudget), resolved)

    def delete(self, conn: Connection, engine: Engine, name: str) -> None:
        """Deletes a budget with its counts."""
        store.delete(conn, name)

    async def changed(self, engine: Engine) -> None:
        """Has the stored budgets bind the calls."""
        await engine.state[BUDGETS].change(lambda conn: None)
