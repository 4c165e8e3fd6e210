"""Triggers: schedules and webhooks, each of which makes a task whenever it fires."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from bytebrew import ConfigSection, Migration, Register, Route, hookimpl

from .routes import of, routes
from .schedules import Schedules
from .sections import SchedulesSection, WebhooksSection
from .store import MIGRATIONS
from .webhooks import Webhooks, WebhookSettings

if TYPE_CHECKING:
    from bytebrew import Engine


class Triggers:
    """The plugin; `clock` tells it the present moment."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock

    @hookimpl
    def register_settings(self, register: Register[type[Struct]]) -> None:
        """Makes its setting known."""
        register(WebhookSettings)

    @hookimpl
    def register_migrations(self, register: Register[Migration]) -> None:
        """Its tables."""
        for migration in MIGRATIONS:
            register(migration)

    @hookimpl
    def register_routes(self, register: Register[Route], engine: "Engine") -> None:
        """Its routes."""
        for route in routes(Schedules(engine, self._clock), Webhooks(engine, self._clock)):
            register(route)

    @hookimpl
    def register_config_sections(self, register: Register[ConfigSection]) -> None:
        """Its sections of the configuration file."""
        register(SchedulesSection())
        register(WebhooksSection())

    @hookimpl
    async def startup(self, engine: "Engine") -> None:
        """Begins to fire."""
        of(engine).start()

    @hookimpl
    async def shutdown(self, engine: "Engine") -> None:
        """Fires no more."""
        await of(engine).stop()


triggers = Triggers()
