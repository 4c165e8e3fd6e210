"""The core's routes, one file for each heading of the API reference."""

from bytebrew.api import Route
from bytebrew.routes import agents, chat, health, models, schemas, sessions, settings, tokens, usage

CORE: tuple[Route, ...] = (
    *health.ROUTES,
    *tokens.ROUTES,
    *chat.ROUTES,
    *agents.ROUTES,
    *models.ROUTES,
    *schemas.ROUTES,
    *sessions.ROUTES,
    *settings.ROUTES,
    *usage.ROUTES,
)
