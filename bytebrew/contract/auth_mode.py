"""Auth modes: how the engine authenticates requests."""

from collections.abc import Mapping
from typing import Any, ClassVar

from bytebrew.contract.auth import Actor
from bytebrew.contract.connection import Connection
from bytebrew.contract.route import Request


class AuthMode:
    """A way to authenticate requests: the one that BYTEBREW_AUTH_MODE names, or one with `prefixes`, always on.

    A mode of bearer tokens implements `authenticate`; a mode that reads other parts of a request implements `identify`.
    A bearer token that begins with one of the `prefixes` goes to that mode only. `challenge` is the WWW-Authenticate
    header of a 401.
    """

    name: ClassVar[str]
    prefixes: ClassVar[tuple[str, ...]] = ()
    challenge: ClassVar[str] = 'Bearer realm="bytebrew"'

    async def authenticate(self, token: str) -> Actor | None:
        """The actor, or None for a token of another kind; Unauthorized for an invalid one of this mode."""
        raise NotImplementedError

    async def identify(self, request: Request[Any]) -> Actor | None:
        """The actor of a request whose body is not read yet; None or Unauthorized results in a 401.

        While a stream is open it is called again every few seconds; the stream ends once the request would be rejected.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return await self.authenticate(token.strip()) if scheme.lower() == "bearer" and token.strip() else None

    def names(self, conn: Connection) -> Mapping[str, str]:
        """Display names of subjects for `GET /api/v1/usage`, by subject."""
        return {}

    def link(self, url: str) -> str:
        """A secret link that signs the operator in to the engine at this URL; "" if the mode has none."""
        return ""
