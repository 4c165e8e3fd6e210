"""Settings that change while the engine runs."""

from functools import partial
from typing import Any

import msgspec
from msgspec import Struct

from bytebrew.contract.configuration.config_section import section_changed
from bytebrew.contract.configuration.runtime_option import CUSTOM, Option, Options
from bytebrew.contract.connection import Connection
from bytebrew.contract.entities import Live
from bytebrew.contract.route import Request, Route
from bytebrew.engine import Engine
from bytebrew.store.configuration import changed_options
from bytebrew.store.database.database import Database


class Setting(Struct, frozen=True, kw_only=True):
    """A setting as it stands; `schema` is the JSON Schema of a value, `updated_at` is null while it has its default."""

    key: str
    value: Any
    default: Any
    help: str
    schema: dict[str, Any]
    updated_at: Live[str | None]


class NewValue(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value to set; `description` is read for the clients that send one, and dropped."""

    value: Any
    description: str = ""


def _setting(option: Option, stored: tuple[Any, str] | None) -> Setting:
    value, moment = stored or (option.default, None)
    return Setting(
        key=option.key,
        value=value,
        default=option.default,
        help=option.help,
        schema=msgspec.json.schema(option.type),
        updated_at=moment,
    )


async def list_settings(db: Database, options: Options, request: Request[None]) -> list[Setting]:
    """Every setting that is known, and the operator's own."""
    changed = await db.read(changed_options.values)
    own = [options.named(key) for key in changed if key.startswith(CUSTOM)]
    return [_setting(option, changed.get(option.key)) for option in (*options, *own)]


async def get_setting(db: Database, options: Options, request: Request[None]) -> Setting:
    """One setting."""
    option = options.named(request.path["key"])
    return _setting(option, (await db.read(changed_options.values)).get(option.key))


async def put_setting(engine: Engine, request: Request[NewValue]) -> Setting:
    """Sets a value, which counts from the next request on."""
    key = request.path["key"]
    value = engine.options.checked(key, request.body.value)
    option = engine.options.named(key)

    def put(conn: Connection) -> Setting:
        section_changed(conn, "settings")
        return _setting(option, (value, changed_options.put(conn, key, value)))

    setting = await request.write(put)
    await engine.follow_options()
    return setting


async def reset_setting(engine: Engine, request: Request[None]) -> None:
    """Takes a setting back to its default."""
    option = engine.options.named(request.path["key"])

    def reset(conn: Connection) -> None:
        section_changed(conn, "settings")
        changed_options.reset(conn, option.key)

    await request.write(reset)
    await engine.follow_options()


_PATH = "/api/v1/settings/{key}"


def routes(engine: Engine) -> tuple[Route, ...]:
    """The routes, bound to the parts of an engine that they use."""
    return (
        Route(
            "GET",
            "/api/v1/settings",
            "admin",
            partial(list_settings, engine.db, engine.options),
            "List settings",
            answer=list[Setting],
        ),
        Route("GET", _PATH, "admin", partial(get_setting, engine.db, engine.options), "Get a setting", answer=Setting),
        Route(
            "PUT",
            _PATH,
            "admin",
            partial(put_setting, engine),
            "Change a setting",
            body=NewValue,
            example={"value": True},
            answer=Setting,
        ),
        Route("DELETE", _PATH, "admin", partial(reset_setting, engine), "Reset a setting", status=204),
    )
