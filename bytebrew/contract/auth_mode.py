"""Auth modes: how the engine authenticates requests."""

from collections.abc import Mapping
from typing import Any, ClassVar

from bytebrew.contract.auth import Actor
from bytebrew.contract.connection import Connection
from bytebrew.contract.route import Request


class AuthMode:
    """A way to authenticate requests: the one that BYTEBREW_AUTH_MODE names, or one with `prefixes`, always on.

    A mode of bearer tokens has `authenticate`; one that looks at anything else of a request has `identify` in its
    place. A bearer token that begins with one of the `prefixes` is for that mode alone, whichever is chosen.
    `challenge` is the WWW-Authenticate of a request that nobody is known to send.
    """

    name: ClassVar[str]
    prefixes: ClassVar[tuple[str, ...]] = ()
    challenge: ClassVar[str] = 'Bearer realm="bytebrew"'

    async def authenticate(self, token: str) -> Actor | None:
        """The actor, or None for a token of another kind; raises Unauthorized for one of ours that is bad."""
        raise NotImplementedError

    async def identify(self, request: Request[Any]) -> Actor | None:
        """The actor of a request whose body is not there yet, or None, which is a 401; raises Unauthorized as well.

        An open stream is looked at again every few seconds, and ends where its request is nobody's any more, or of
        somebody who may not open it.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return await self.authenticate(token.strip()) if scheme.lower() == "bearer" and token.strip() else None

    def names(self, conn: Connection) -> Mapping[str, str]:
        """Names of subjects for people to read in `GET /api/v1/usage`, by subject."""
        return {}

    def link(self, url: str) -> str:
        """A link to the engine at this URL that lets its operator in; "" where the mode has none. It is a secret."""
        return ""
