"""Triggers: schedules and webhooks that create tasks."""

from collections.abc import Callable
from datetime import UTC, datetime

from msgspec import Struct

from bytebrew import ConfigSection, Engine, Migration, PersonalData, Register, Route, hookimpl

from .routes import routes
from .schedules import SCHEDULES, Schedules
from .sections import SchedulesSection, WebhooksSection
from .store import MIGRATIONS, export, forget
from .webhooks import WEBHOOKS, Webhooks, WebhookSettings


class Triggers:
    """The plugin; `clock` returns the current time."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock

    @hookimpl
    def register_settings(self, register: Register[type[Struct]]) -> None:
        register(WebhookSettings)

    @hookimpl
    def register_migrations(self, register: Register[Migration]) -> None:
        for migration in MIGRATIONS:
            register(migration)

    @hookimpl
    def register_routes(self, register: Register[Route], engine: Engine) -> None:
        engine.state[SCHEDULES] = schedules = Schedules(engine, self._clock)
        engine.state[WEBHOOKS] = webhooks = Webhooks(engine, self._clock)
        for route in routes(schedules, webhooks):
            register(route)

    @hookimpl
    def register_config_sections(self, register: Register[ConfigSection]) -> None:
        register(SchedulesSection())
        register(WebhooksSection())

    @hookimpl
    def register_personal_data(self, register: Register[PersonalData]) -> None:
        register(PersonalData("triggers", export, forget))

    @hookimpl
    async def startup(self, engine: Engine) -> None:
        engine.state[SCHEDULES].start()


triggers = Triggers()
