"""The routes: a session's turns, a turn's spans, and one of these with what went in and out."""

from bytebrew import Request, page_window

from .details import SpanDetail, detail
from .spans import Timeline, timeline
from .turns import TurnPage, page


async def list_turns(request: Request[None]) -> TurnPage:
    """The turns of a session, oldest first, with those that a fork shares; messages that steered a turn are not."""
    limit, offset = page_window(request.query, 100, 500)
    return await request.engine.db.scan(page, request.path["id"], request.actor, limit, offset)


async def get_spans(request: Request[None]) -> Timeline:
    """What a turn and the agents that it spawned have done, by the time at which it began: calls, waits and agents."""
    return await request.engine.db.scan(timeline, request.path["id"], request.actor, request.path["turn_id"])


async def get_span(request: Request[None]) -> SpanDetail:
    """A span with its input and its output."""
    path = request.path
    return await request.engine.db.scan(detail, path["id"], request.actor, path["turn_id"], path["span_id"])
