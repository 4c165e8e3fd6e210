"""The store on PostgreSQL: one database that any number of nodes share."""

from typing import Annotated

from msgspec import Meta, Struct

from bytebrew import Driver, Engine, Register, Settings, SettingsError, Step, Store, hookimpl

from . import sums


class PostgresSettings(Struct, frozen=True, kw_only=True):
    """How the engine uses PostgreSQL."""

    database_pooler: Annotated[
        bool,
        Meta(description="whether PostgreSQL is behind a pooler of transactions, such as PgBouncer"),
    ] = False


class PostgresStore:
    """PostgreSQL, under each of the schemes that its own library knows."""

    def __init__(self, scheme: str, settings: PostgresSettings) -> None:
        self.scheme, self._settings = scheme, settings

    def driver(self, url: str) -> Driver:
        """A driver for the database at an address; SettingsError if the address is invalid."""
        try:
            from .driver import PostgresDriver
        except ImportError as error:
            message = "psycopg is not installed; install it with: pip install 'bytebrew[postgres]'"
            raise SettingsError(f"BYTEBREW_DATABASE_URL: {message} ({error})") from error
        return PostgresDriver(url, pooler=self._settings.database_pooler)


@hookimpl
def register_settings(register: Register[type[Struct]]) -> None:
    register(PostgresSettings)


@hookimpl
def register_stores(register: Register[Store], settings: Settings) -> None:
    for scheme in ("postgresql", "postgres"):
        register(PostgresStore(scheme, settings.of(PostgresSettings)))


@hookimpl
def register_retention(register: Register[Step], engine: Engine) -> None:
    if engine.settings.core.database_url:
        register(sums.fold)
