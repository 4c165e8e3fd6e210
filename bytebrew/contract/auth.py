"""Who is calling and what they may do: actors, scopes, and auth modes."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from msgspec import Struct

if TYPE_CHECKING:
    from bytebrew.contract.route import Request

PUBLIC = "public"
"""The scope of a token that stands in a public page: it makes visitors' tokens, and nothing else."""
VISITOR = ":visitor:"
"""Stands in the subject of a visitor of a public page, behind that of the page's token, under which usage counts."""
SCOPES: dict[str, int] = {
    "chat": 1,
    "tasks": 2,
    "agents:read": 4,
    "config": 8,
    "admin": 16,
    "agents:write": 32,
    "models:read": 64,
    "models:write": 128,
    "mcp:read": 256,
    "mcp:write": 512,
    "schemas:read": 4096,
    "schemas:write": 8192,
    "approvals": 16384,
    PUBLIC: 32768,
}
"""Every scope and its bit in a `scopes_mask`."""
BINDABLE = frozenset({"chat", "tasks", "approvals", PUBLIC})
"""The scopes that can be bound to schemas: those whose routes look at the schema."""

_ALIASES: dict[str, frozenset[str]] = {
    **{noun: frozenset({f"{noun}:read"}) for noun in ("agents", "models", "mcp", "schemas")},
    "api": frozenset({"chat", "tasks", *(scope for scope in SCOPES if scope.endswith(":read"))}),
}


class Actor(Struct, frozen=True, kw_only=True):
    """The caller of one request.

    `subject` owns sessions and tasks and is unique over all kinds of credentials; `schemas` limits a chat token to some
    schemas, None being no limit.
    """

    subject: str
    name: str
    kind: Literal["user", "token"]
    scopes: frozenset[str]
    schemas: tuple[str, ...] | None = None

    @property
    def is_admin(self) -> bool:
        """Whether the scope `admin`, which covers every other, is among the actor's."""
        return "admin" in self.scopes

    @property
    def token(self) -> str | None:
        """The subject of the API token that was shown, or stands in the page that was visited; None for a JWT."""
        return account(self.subject) if self.subject.startswith("token:") else None


def account(subject: str) -> str:
    """The subject under which another's usage counts: of a visitor the page's token, of all others their own."""
    return subject.partition(VISITOR)[0] if subject.startswith("token:") else subject


class AuthMode:
    """A way to know who calls without an API token; one is chosen by BYTEBREW_AUTH_MODE.

    A mode of bearer tokens has `authenticate`; one that looks at anything else of a request has `identify` in its
    place. `challenge` is the WWW-Authenticate of a request that nobody is known to send.
    """

    name: ClassVar[str]
    challenge: ClassVar[str] = 'Bearer realm="bytebrew"'

    async def authenticate(self, token: str) -> Actor | None:
        """The actor, or None for a token of another kind; raises Unauthorized for one of ours that is bad."""
        raise NotImplementedError

    async def identify(self, request: "Request[Any]") -> Actor | None:
        """The actor of a request whose body is not there yet, or None, which is a 401; raises Unauthorized as well.

        An open stream is looked at again every few seconds, and ends where its request is nobody's any more, or of
        somebody who may not open it.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return await self.authenticate(token.strip()) if scheme.lower() == "bearer" and token.strip() else None

    def link(self, url: str) -> str:
        """A link to the engine at this URL that lets its operator in; "" where the mode has none. It is a secret."""
        return ""


def parse_scopes(names: Iterable[str], mask: int = 0) -> frozenset[str]:
    """Scopes from names, their aliases and a bit mask; ValueError names the first that is unknown."""
    scopes: set[str] = set()
    for name in names:
        if name not in SCOPES and name not in _ALIASES:
            raise ValueError(f"'{name}' is not a scope; the scopes are {', '.join(SCOPES)}")
        scopes |= _ALIASES.get(name, {name})
    if mask & ~sum(SCOPES.values()):
        raise ValueError(f"{mask} has bits that stand for no scope")
    return frozenset(scopes | {scope for scope, bit in SCOPES.items() if mask & bit})


def scopes_mask(scopes: Iterable[str]) -> int:
    """The bits of the scopes."""
    return sum(SCOPES[scope] for scope in scopes)
