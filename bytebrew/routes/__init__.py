"""The core's routes, one file for each heading of the API reference."""

from bytebrew.api import Route
from bytebrew.routes import (
    agents,
    approvals,
    chat,
    health,
    models,
    schemas,
    sessions,
    settings,
    tasks,
    tokens,
    tools,
    usage,
)

CORE: tuple[Route, ...] = (
    *health.ROUTES,
    *tokens.ROUTES,
    *chat.ROUTES,
    *agents.ROUTES,
    *models.ROUTES,
    *schemas.ROUTES,
    *sessions.ROUTES,
    *approvals.ROUTES,
    *tasks.ROUTES,
    *tools.ROUTES,
    *settings.ROUTES,
    *usage.ROUTES,
)
