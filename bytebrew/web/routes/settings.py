"""Settings that change while the engine runs."""

from typing import Any

from msgspec import Struct

from bytebrew.contract.entities import Live
from bytebrew.contract.route import Request, Route
from bytebrew.contract.runtime_option import CUSTOM, Option
from bytebrew.store import settings


class Setting(Struct, frozen=True, kw_only=True):
    """A setting as it stands; `updated_at` is null while it has its default."""

    key: str
    value: Any
    default: Any
    help: str
    updated_at: Live[str | None]


class NewValue(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value to set; `description` is read for the clients that send one, and dropped."""

    value: Any
    description: str = ""


def _setting(option: Option, stored: tuple[Any, str] | None) -> Setting:
    value, moment = stored or (option.default, None)
    return Setting(key=option.key, value=value, default=option.default, help=option.help, updated_at=moment)


async def list_settings(request: Request[None]) -> list[Setting]:
    """Every setting that is known, and the operator's own."""
    options = request.engine.options
    changed = await request.engine.db.read(settings.changed)
    own = [options.named(key) for key in changed if key.startswith(CUSTOM)]
    return [_setting(option, changed.get(option.key)) for option in (*options, *own)]


async def get_setting(request: Request[None]) -> Setting:
    """One setting."""
    option = request.engine.options.named(request.path["key"])
    return _setting(option, (await request.engine.db.read(settings.changed)).get(option.key))


async def put_setting(request: Request[NewValue]) -> Setting:
    """Sets a value, which counts from the next request on."""
    engine, key = request.engine, request.path["key"]
    value = engine.options.checked(key, request.body.value)
    option = engine.options.named(key)
    setting = await request.write(lambda conn: _setting(option, (value, settings.put(conn, key, value))))
    await engine.follow_options()
    return setting


async def reset_setting(request: Request[None]) -> None:
    """Takes a setting back to its default."""
    option = request.engine.options.named(request.path["key"])
    await request.write(settings.reset, option.key)
    await request.engine.follow_options()


_PATH = "/api/v1/settings/{key}"

ROUTES = (
    Route(
        method="GET",
        path="/api/v1/settings",
        scope="admin",
        run=list_settings,
        summary="List settings",
        answer=list[Setting],
    ),
    Route(method="GET", path=_PATH, scope="admin", run=get_setting, summary="Get a setting", answer=Setting),
    Route(
        method="PUT",
        path=_PATH,
        scope="admin",
        run=put_setting,
        summary="Change a setting",
        body=NewValue,
        example={"value": True},
        answer=Setting,
    ),
    Route(method="DELETE", path=_PATH, scope="admin", run=reset_setting, summary="Reset a setting", status=204),
)
