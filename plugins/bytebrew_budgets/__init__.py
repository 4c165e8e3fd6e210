"""Budgets: caps on what model calls cost, by token, subject, schema, agent or all, that hold under any concurrency."""

from collections.abc import Iterable, Sequence
from datetime import timedelta

from msgspec import Struct

from bytebrew import (
    ConfigSection,
    Connection,
    Engine,
    Migration,
    PersonalData,
    Register,
    Route,
    Sample,
    SpendGuard,
    Step,
    hookimpl,
    now,
    parse_time,
)

from . import store
from .guard import BUDGETS, Budgets, BudgetSettings
from .routes import routes
from .section import BudgetsSection
from .windows import written

KEPT_DAYS = 93
"""Days that the counts of windows are kept."""


@hookimpl
def register_settings(register: Register[type[Struct]]) -> None:
    register(BudgetSettings)


@hookimpl
def register_migrations(register: Register[Migration]) -> None:
    for migration in store.MIGRATIONS:
        register(migration)


@hookimpl
def register_routes(register: Register[Route], engine: Engine) -> None:
    engine.state[BUDGETS] = budgets = Budgets(engine)
    for route in routes(budgets):
        register(route)


@hookimpl
def register_spend_guards(register: Register[SpendGuard], engine: Engine) -> None:
    register(engine.state[BUDGETS])


@hookimpl
def register_config_sections(register: Register[ConfigSection]) -> None:
    register(BudgetsSection())


@hookimpl
def register_retention(register: Register[Step]) -> None:
    register(_delete_old)


@hookimpl
def register_personal_data(register: Register[PersonalData]) -> None:
    register(
        PersonalData(
            "budgets",
            lambda conn, person: store.of_keys(conn, person.names),
            lambda conn, person: store.forget_keys(conn, person.names, person.mask),
        )
    )


@hookimpl
def collect_metrics(engine: Engine) -> Iterable[Sample]:
    return engine.state[BUDGETS].samples()


@hookimpl
async def startup(engine: Engine) -> None:
    await engine.state[BUDGETS].load()


def _delete_old(conn: Connection) -> Sequence[object]:
    """Deletes the counts of windows that ended long ago."""
    return store.delete_before(conn, written(parse_time(now()) - timedelta(days=KEPT_DAYS)))
