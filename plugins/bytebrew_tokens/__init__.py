"""API tokens with scopes, which work with every auth mode, and tokens for visitors of public pages."""

import logging
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from bytebrew import AuthMode, Engine, Opened, Register, Route, Scope, Settings, hookimpl

from . import store
from .command import token
from .mode import TokenMode
from .routes import ROUTES
from .visitors import PUBLIC

if TYPE_CHECKING:
    from click import Group

__all__ = ["TokenMode"]

log = logging.getLogger(__name__)


class Tokens(Struct, frozen=True, kw_only=True):
    """The settings of API tokens."""

    bootstrap_admin_token: Annotated[
        str,
        Meta(pattern=r"^(bb_[0-9a-f]{64})?\Z", description="an admin token made at boot: bb_ and 64 hex digits"),
    ] = ""


@hookimpl
def register_settings(register: Register[type[Struct]]) -> None:
    register(Tokens)


@hookimpl
def register_scopes(register: Register[Scope]) -> None:
    register(
        Scope(
            name=PUBLIC,
            bit=32768,
            bindable=True,
            description="Let visitors of a public page in to chat; everybody may read such a token",
        )
    )


@hookimpl
def register_auth_modes(register: Register[AuthMode], settings: Settings, engine: Engine) -> None:
    register(TokenMode(engine))


@hookimpl(tryfirst=True)  # the first plugin with routes under /auth describes them in the API document
def register_routes(register: Register[Route], engine: Engine) -> None:
    for route in ROUTES:
        register(route)


@hookimpl
def register_commands(cli: "Group", opened: Opened) -> None:
    cli.add_command(token(opened))


@hookimpl
async def startup(engine: Engine) -> None:
    if (text := engine.settings.of(Tokens).bootstrap_admin_token) and not await engine.db.write(
        store.bootstrap, engine.scopes, text
    ):
        log.info("the token bootstrap-admin exists; BYTEBREW_BOOTSTRAP_ADMIN_TOKEN does not replace it")
