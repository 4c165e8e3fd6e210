"""The core's routes, one file per heading of the API reference."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

from bytebrew.contract.engine import API_DOCUMENT
from bytebrew.contract.route import Route
from bytebrew.engine import Engine
from bytebrew.version import __version__
from bytebrew.web.api_document import openapi
from bytebrew.web.routes import (
    agents,
    approvals,
    callers,
    capabilities,
    chat,
    config,
    forks,
    health,
    models,
    replays,
    schemas,
    sessions,
    settings,
    tasks,
    tools,
    turns,
    users,
    versions,
)
from bytebrew.web.routes.operations import backups, environment, nodes, plugins


def core_routes(engine: Engine) -> tuple[Route, ...]:
    """The core's routes, in the order of the API reference."""
    return (
        *health.routes(engine),
        *chat.routes(engine),
        *agents.routes(engine),
        *capabilities.routes(engine),
        *models.routes(engine),
        *schemas.routes(engine),
        *sessions.routes(engine),
        *turns.routes(engine),
        *forks.routes(engine),
        *approvals.routes(engine),
        *tasks.routes(engine),
        *users.routes(engine),
        *callers.routes(engine),
        *replays.routes(engine),
        *tools.routes(engine),
        *environment.routes(engine),
        *settings.routes(engine),
        *config.routes(engine),
        *nodes.routes(engine),
        *plugins.routes(engine),
        *backups.routes(engine),
    )


def every(engine: Engine) -> tuple[Route, ...]:
    """All routes of an engine: the core's, the plugins', and the API document, which it stores under API_DOCUMENT."""
    routes = [*core_routes(engine), *engine.routes]
    routes = [*versions.tagged(engine, routes), *versions.routes(engine, routes)]
    events = [*dict.fromkeys([*openapi.EVENTS, *engine.events])]
    document: Callable[[], Mapping[str, Any]] = cache(partial(openapi.document, routes, __version__, events))
    routes.append(openapi.route(document))
    engine.state[API_DOCUMENT] = document
    return (*routes,)
