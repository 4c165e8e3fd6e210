"""The plugins of a running engine."""

from functools import partial

from msgspec import Struct

from bytebrew.contract.route import Request, Route
from bytebrew.engine import Engine
from bytebrew.plugins import Plugin, Plugins
from bytebrew.version import CONTRACT, __version__


class PluginList(Struct, frozen=True, kw_only=True):
    """Every plugin by name, with the contract that they are written for and the warnings of the start."""

    version: str
    contract: int
    data: tuple[Plugin, ...]
    warnings: tuple[str, ...]


async def list_plugins(plugins: Plugins, request: Request[None]) -> PluginList:
    """Every plugin, loaded or disabled, with its hooks and routes, and with the last exception that it raised."""
    return PluginList(
        version=__version__, contract=CONTRACT, data=(*plugins.list_all(),), warnings=(*plugins.warnings,)
    )


def routes(engine: Engine) -> tuple[Route, ...]:
    """The routes, bound to the parts of an engine that they use."""
    return (
        Route(
            "GET",
            "/api/v1/plugins",
            "admin",
            partial(list_plugins, engine.plugins),
            "List plugins",
            answer=PluginList,
        ),
    )
