"""Memories over REST, for operators to read and delete."""

from typing import Annotated

from msgspec import Meta

from bytebrew import (
    AFTER,
    OFFSET,
    Detail,
    InvalidRequest,
    Page,
    Parameter,
    Request,
    Route,
    offset_of,
    page_of,
    positive,
)

from . import store
from .store import Entry


class MemoryPage(Page[Entry], frozen=True, kw_only=True):
    """A page of memories, newest first."""


async def list_memory(request: Request[None]) -> list[Entry] | Page[Entry]:
    """A schema's memories, newest first; `user_sub` names one person, `limit` is 1000 and at most 10,000.

    With `offset` or `after` they are a page, as other lists are.
    """
    query, scan = request.query, request.engine.db.scan
    schema, whose = request.path["name"], query.get("user_sub", "")
    limit = positive(query.get("limit"), 1000, 10_000)
    if query.keys().isdisjoint(("offset", "after")):
        return await scan(store.entries, schema, whose, limit)
    start = offset_of(query)
    rows = await scan(store.entries, schema, whose, limit, start)
    return page_of(rows, await scan(store.count, schema, whose), limit, start)


async def clear_memory(request: Request[None]) -> None:
    """Deletes a schema's memories; `user_sub` names one person, and an empty one nobody."""
    whose = request.query.get("user_sub")
    if whose == "":
        message = "user_sub is empty; leave it out to delete the memories of all"
        raise InvalidRequest(message, details=[Detail("$.user_sub", "is empty")])
    await request.write(store.clear, request.path["name"], whose or "")


async def delete_memory(request: Request[None]) -> None:
    """Deletes one memory."""
    await request.write(store.remove, request.path["name"], request.path["entry_id"])


_ALL, _READ, _WRITE = "/api/v1/schemas/{name}/memory", "schemas:read", "schemas:write"
_PERSON = "of this end user alone"

ROUTES = (
    Route(
        method="GET",
        path=_ALL,
        scope=_READ,
        run=list_memory,
        summary="List memories",
        answer=list[Entry] | MemoryPage,
        query={
            "user_sub": _PERSON,
            "limit": Parameter("rows, 1000 unless told and 10,000 at most", int | str),
            "offset": OFFSET,
            "after": AFTER,
        },
    ),
    Route(
        method="DELETE",
        path=_ALL,
        scope=_WRITE,
        run=clear_memory,
        summary="Delete memories",
        status=204,
        query={"user_sub": Parameter(_PERSON, Annotated[str, Meta(min_length=1)])},
    ),
    Route(
        method="DELETE",
        path=f"{_ALL}/{{entry_id}}",
        scope=_WRITE,
        run=delete_memory,
        summary="Delete a memory",
        status=204,
    ),
)
