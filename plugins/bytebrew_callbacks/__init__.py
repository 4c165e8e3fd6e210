"""Callbacks: what happens to turns, tasks, approvals and budgets is sent to URLs, as Standard Webhooks."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated

from msgspec import Meta, Struct

from bytebrew import (
    ConfigSection,
    Connection,
    Engine,
    Migration,
    Option,
    PersonalData,
    Recorder,
    Register,
    Route,
    Sample,
    Scope,
    Step,
    Subscriber,
    expired_before,
    hookimpl,
)

from . import outbox, store
from .callbacks import CALLBACKS, Callbacks
from .definition import CallbackSettings, checked_settings
from .deliveries import DELIVERIES, SCHEDULE, Deliveries
from .outbox import Outbox
from .routes import routes
from .section import CallbacksSection
from .store import MIGRATIONS

KEPT = Option(
    key="retention.callbacks",
    type=Annotated[int, Meta(ge=0, le=36500)],
    default=30,
    help="days after which a callback's delivery that was received or given up is deleted; 0: never",
)


class CallbacksPlugin:
    """The plugin; `clock` returns seconds since 1970, `schedule` are those from each failed try to the next."""

    def __init__(self, clock: Callable[[], float] = time.time, schedule: Sequence[float] = SCHEDULE) -> None:
        self._clock, self._schedule = clock, schedule

    @hookimpl
    def register_settings(self, register: Register[type[Struct]]) -> None:
        register(CallbackSettings)

    @hookimpl
    def register_scopes(self, register: Register[Scope]) -> None:
        register(
            Scope(
                name="tasks:callback",
                bit=65536,
                description="Have the engine call an address when a task of the caller ends",
            )
        )

    @hookimpl
    def register_migrations(self, register: Register[Migration]) -> None:
        for migration in MIGRATIONS:
            register(migration)

    @hookimpl
    def register_routes(self, register: Register[Route], engine: Engine) -> None:
        checked_settings(engine.settings.of(CallbackSettings))
        engine.state[CALLBACKS] = Callbacks(engine, self._clock)
        engine.state[DELIVERIES] = Deliveries(engine, self._clock, self._schedule)
        for route in routes(engine):
            register(route)

    @hookimpl
    def register_subscribers(self, register: Register[Subscriber], engine: Engine) -> None:
        register(Outbox(engine.state[DELIVERIES].wake, self._clock).take)

    @hookimpl
    def register_recorders(self, register: Register[Recorder], engine: Engine) -> None:
        register(engine.state[CALLBACKS].check_task)

    @hookimpl
    def register_config_sections(self, register: Register[ConfigSection]) -> None:
        register(CallbacksSection())

    @hookimpl
    def register_options(self, register: Register[Option]) -> None:
        register(KEPT)

    @hookimpl
    def register_retention(self, register: Register[Step]) -> None:
        register(_expire)

    @hookimpl
    def register_personal_data(self, register: Register[PersonalData]) -> None:
        register(PersonalData("callback_deliveries", outbox.of_person, outbox.forget))

    @hookimpl
    def collect_metrics(self, engine: Engine) -> Iterable[Sample]:
        return engine.state[DELIVERIES].samples()

    @hookimpl
    async def startup(self, engine: Engine) -> None:
        engine.state[DELIVERIES].start()

    @hookimpl
    async def shutdown(self, engine: Engine) -> None:
        await engine.state[DELIVERIES].stop()


def _expire(conn: Connection) -> Sequence[object]:
    return store.expire(conn, expired_before(conn, KEPT))


plugin = CallbacksPlugin()
