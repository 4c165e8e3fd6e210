"""The settings of the process, which are read from its environment at the start."""

from functools import partial

from msgspec import Struct

from bytebrew.base.masking import is_secret_field, masked_value
from bytebrew.base.settings import Settings, text_of
from bytebrew.contract.route import Request, Route
from bytebrew.engine import Engine


class EnvironmentSetting(Struct, frozen=True, kw_only=True):
    """A setting of the process; `value` is null for a secret, `source` is null while the setting has its default."""

    name: str
    value: str | None
    default: str
    help: str
    source: str | None


async def list_environment(settings: Settings, request: Request[None]) -> list[EnvironmentSetting]:
    """Every BYTEBREW_* setting of the process, with the variable it was read from; a change takes a restart."""
    return [
        EnvironmentSetting(
            name=row.variable,
            value=None if _is_secret(row.variable, value) else str(masked_value(text_of(value))),
            default=row.default,
            help=row.help,
            source=settings.sources.get(row.variable),
        )
        for row, value in settings.values()
    ]


def _is_secret(name: str, value: object) -> bool:
    """Whether a setting may hold a credential; numbers and flags do not."""
    return isinstance(value, str | tuple) and (is_secret_field(name) or name.endswith("_HEADERS"))


def routes(engine: Engine) -> tuple[Route, ...]:
    """The routes, bound to the parts of an engine that they use."""
    return (
        Route(
            "GET",
            "/api/v1/environment",
            "admin",
            partial(list_environment, engine.settings),
            "List settings of the process",
            answer=list[EnvironmentSetting],
        ),
    )
