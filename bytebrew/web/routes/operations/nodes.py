"""The nodes: the engines that share the database."""

from datetime import UTC, datetime
from functools import partial

from msgspec import Struct

from bytebrew.base.formats import now, rfc3339
from bytebrew.contract.entities import Live
from bytebrew.contract.route import Request, Route
from bytebrew.engine import Engine
from bytebrew.nodes import members
from bytebrew.version import __version__


class NodeEntry(Struct, frozen=True, kw_only=True):
    """A node: `id` is null for an engine that has its database alone, `name` that of its data folder.

    `seen_at` is when it last renewed its lease, by the database's clock, and `silent_seconds` how long ago that was: it
    does so each second, and after 10 another node ends it. The one that `leads` carries out what only one may:
    retention, schedules, callbacks, indexing. `answers` is true for the node that answers this request.
    """

    id: int | None
    name: str
    version: str
    started_at: str
    seen_at: Live[str]
    silent_seconds: Live[float]
    leads: bool
    answers: Live[bool]


class NodeList(Struct, frozen=True, kw_only=True):
    """Every node that lives, the oldest first."""

    data: tuple[NodeEntry, ...]


async def list_nodes(engine: Engine, request: Request[None]) -> NodeList:
    """Every node that shares the database, the oldest first, which leads; one that was lost stays for a few seconds."""
    own = engine.node.id
    if own is None:
        alone = NodeEntry(
            id=None,
            name="",
            version=__version__,
            started_at=engine.started_at,
            seen_at=now(),
            silent_seconds=0.0,
            leads=True,
            answers=True,
        )
        return NodeList(data=(alone,))
    rows = await engine.db.read(members.list_all)
    return NodeList(
        data=tuple(
            NodeEntry(
                id=row.id,
                name=row.name,
                version=row.version,
                started_at=row.started_at,
                seen_at=rfc3339(datetime.fromtimestamp(row.seen, UTC)),
                silent_seconds=max(0.0, round(row.silence, 3)),
                leads=n == 0,
                answers=row.id == own,
            )
            for n, row in enumerate(rows)
        )
    )


def routes(engine: Engine) -> tuple[Route, ...]:
    """The routes, bound to the parts of an engine that they use."""
    return (Route("GET", "/api/v1/nodes", "admin", partial(list_nodes, engine), "List nodes", answer=NodeList),)
