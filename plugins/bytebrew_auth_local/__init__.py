"""Local auth mode: the engine issues admin sessions to callers that prove to be its own user."""

import sys
from typing import TYPE_CHECKING

from msgspec import Struct

from bytebrew import AuthMode, Engine, Migration, Opened, Register, Route, Settings, SettingsError, hookimpl

from . import ended_sessions
from .keys import KeyPair, Keys, SharedKey
from .routes import ROUTES
from .sessions import MODE, LocalMode, issue
from .settings import Local

if TYPE_CHECKING:
    from click import Group

__all__ = ["Local", "LocalMode"]


@hookimpl
def register_settings(register: Register[type[Struct]]) -> None:
    register(Local)


@hookimpl
def register_auth_modes(register: Register[AuthMode], settings: Settings, engine: Engine) -> None:
    if settings.core.auth_mode == LocalMode.name:
        settings.of(Local).check(settings.core)
    engine.state[MODE] = mode = LocalMode()
    register(mode)


@hookimpl
def register_migrations(register: Register[Migration]) -> None:
    register(Migration(1, ended_sessions.MIGRATION))


@hookimpl
def register_routes(register: Register[Route], engine: Engine) -> None:
    if engine.settings.core.auth_mode == LocalMode.name:
        for route in ROUTES:
            register(route)


@hookimpl
def register_commands(cli: "Group", opened: Opened) -> None:
    @cli.group("session")
    def session() -> None:
        """Open and end sessions of the local admin; the engine may run."""

    @session.command("create")
    def create() -> None:
        """Open a session and print its token."""
        with opened() as (engine, conn):
            if (mode := engine.settings.core.auth_mode) != LocalMode.name:
                message = f"an engine in the mode {mode} takes no local session; run bytebrew token create"
                raise SettingsError(f"BYTEBREW_AUTH_MODE: {message}")
            local = engine.settings.of(Local)
            made = issue(_keys(local, engine), ended_sessions.generation(conn), local)
        sys.stdout.write(f"{made.access_token}\n")

    @session.command("revoke")
    def revoke() -> None:
        """End every session that was opened so far, at once."""
        with opened() as (_, conn):
            ended_sessions.end_all(conn)


@hookimpl
async def startup(engine: Engine) -> None:
    if engine.settings.core.auth_mode == LocalMode.name:
        engine.state[MODE].load(engine, _keys(engine.settings.of(Local), engine))


def _keys(local: Local, engine: Engine) -> Keys:
    if engine.db.shared and local.jwt_keys_dir is None:
        return SharedKey(engine)
    return KeyPair(local.jwt_keys_dir or engine.data_dir / "keys")
