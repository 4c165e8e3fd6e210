"""API tokens."""

from bytebrew.api import Request, Route
from bytebrew.store import tokens


async def list_tokens(request: Request[None]) -> list[tokens.Token]:
    """Every live token, without its secret."""
    return await request.engine.db.scan(tokens.list_all)


async def create_token(request: Request[tokens.NewToken]) -> tokens.CreatedToken:
    """A new token, shown this once, and again to whoever repeats the request with its Idempotency-Key."""
    return await request.write(tokens.create, request.body)


async def revoke_token(request: Request[None]) -> None:
    """Ends a token at once, and the streams that it has open within 15 seconds."""
    await request.write(tokens.revoke, request.path["id"])


ROUTES = (
    Route(
        method="GET",
        path="/api/v1/auth/tokens",
        scope="admin",
        run=list_tokens,
        summary="List API tokens",
        answer=list[tokens.Token],
    ),
    Route(
        method="POST",
        path="/api/v1/auth/tokens",
        scope="admin",
        run=create_token,
        summary="Create an API token",
        body=tokens.NewToken,
        example={"name": "ci", "scopes": ["chat", "tasks"], "expires_at": "2099-01-01T00:00:00Z"},
        answer=tokens.CreatedToken,
        status=201,
        idempotent=True,
    ),
    Route(
        method="DELETE",
        path="/api/v1/auth/tokens/{id}",
        scope="admin",
        run=revoke_token,
        summary="Revoke an API token",
        status=204,
    ),
)
