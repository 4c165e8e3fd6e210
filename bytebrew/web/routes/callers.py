"""Callers: who a credential is, and what it allows."""

from functools import partial
from typing import Literal

from msgspec import Struct

from bytebrew.contract.auth import View
from bytebrew.contract.route import Parameter, Reply, Request, Route
from bytebrew.engine import Engine
from bytebrew.web.http_state import http_state


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
    )
