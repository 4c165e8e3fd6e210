"""The core's routes, one file for each heading of the API reference."""

from typing import TYPE_CHECKING

from bytebrew.contract.route import Route
from bytebrew.version import __version__
from bytebrew.web.docs import openapi
from bytebrew.web.routes import (
    agents,
    approvals,
    capabilities,
    chat,
    config,
    health,
    models,
    schemas,
    sessions,
    settings,
    tasks,
    tokens,
    tools,
    turns,
    usage,
)

if TYPE_CHECKING:
    from bytebrew.engine import Engine

CORE: tuple[Route, ...] = (
    *health.ROUTES,
    *tokens.ROUTES,
    *chat.ROUTES,
    *agents.ROUTES,
    *capabilities.ROUTES,
    *models.ROUTES,
    *schemas.ROUTES,
    *sessions.ROUTES,
    *turns.ROUTES,
    *approvals.ROUTES,
    *tasks.ROUTES,
    *tools.ROUTES,
    *settings.ROUTES,
    *config.ROUTES,
    *usage.ROUTES,
)


def every(engine: "Engine") -> tuple[Route, ...]:
    """All that an engine serves: the core's routes, the plugins', and those that describe them."""
    routes = (*CORE, *engine.routes)
    told = [kind for tool in engine.tools.values() for kind in tool.events]
    told += [kind for toolset in engine.toolsets for kind in toolset.events]
    return (*routes, *openapi.routes(routes, __version__, [*dict.fromkeys([*openapi.EVENTS, *told])]))
