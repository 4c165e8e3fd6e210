"""Callers: who a credential is, what it allows, and tickets for its event streams."""

from functools import partial
from typing import Annotated, Literal

from msgspec import Meta, Struct

from bytebrew.contract.auth import View
from bytebrew.contract.route import Parameter, Reply, Request, Route
from bytebrew.engine import Engine
from bytebrew.web.access import check_scope
from bytebrew.web.http_state import http_state
from bytebrew.web.tickets import SECONDS


class Caller(Struct, frozen=True, kw_only=True):
    """The caller of a request.

    `kind` is `token` for an API token, and `user` for everybody else. The scope `admin` includes every other one. With
    `schemas` the caller is limited to these. `expires_at` is null for a credential that does not end by itself.
    """

    subject: str
    name: str
    kind: Literal["user", "token"]
    scopes: list[str]
    schemas: list[str] | None
    view: View
    expires_at: str | None


async def whoami(engine: Engine, request: Request[None]) -> Reply:
    """Who the caller is by the credential of the request, whatever its scopes."""
    actor = request.actor = await http_state(engine).access.authenticate(request)
    known = Caller(
        subject=actor.subject,
        name=actor.name,
        kind=actor.kind,
        scopes=[name for name in engine.scopes if name in actor.scopes],
        schemas=None if actor.schemas is None else [*actor.schemas],
        view=actor.view,
        expires_at=actor.expires_at or None,
    )
    return Reply(body=known, headers={"cache-control": "no-store"})


class NewTicket(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The path of an event stream, such as `/api/v1/sessions/{id}/events`, without a query."""

    path: Annotated[str, Meta(min_length=1, max_length=2048)]


class Ticket(Struct, frozen=True, kw_only=True):
    """A ticket, and for how many seconds it opens its stream."""

    ticket: str
    expires_in: int


async def issue_ticket(engine: Engine, request: Request[NewTicket]) -> Reply:
    """A ticket with which a browser's `EventSource` opens an event stream, as `?ticket=`, since it sends no headers.

    It stands for the credential of this request, at this one path and for a minute. The stream that it has opened ends
    as any other: with the credential.
    """
    state, path = http_state(engine), request.body.path
    actor = request.actor = await state.access.authenticate(request)
    route = state.tickets.route_of(path)
    assert route.scope is not None
    check_scope(actor, route.scope, engine.scopes)
    ticket = state.tickets.issue(path, request.headers.get("authorization", ""))
    return Reply(body=Ticket(ticket=ticket, expires_in=SECONDS), headers={"cache-control": "no-store"})


def routes(engine: Engine) -> tuple[Route, ...]:
    """The routes, bound to the parts of an engine that they use."""
    return (
        Route(
            "GET",
            "/api/v1/auth/whoami",
            None,
            partial(whoami, engine),
            "Who the caller is",
            headers={"Authorization": Parameter("Bearer and the token", required=True)},
            answer=Caller,
            also={401: None, 403: None},
        ),
        Route(
            "POST",
            "/api/v1/auth/tickets",
            None,
            partial(issue_ticket, engine),
            "Make a ticket for an event stream",
            headers={"Authorization": Parameter("Bearer and the token", required=True)},
            body=NewTicket,
            example={"path": "/api/v1/events"},
            answer=Ticket,
            action="ticket.create",
            also={401: None, 403: None},
        ),
    )
