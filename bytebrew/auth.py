"""Who is calling and what they may do: actors, scopes, and auth modes."""

from collections.abc import Iterable
from typing import ClassVar, Literal

from msgspec import Struct

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
        return self.subject.partition(VISITOR)[0] if self.subject.startswith("token:") else None


class AuthMode:
    """A way to turn a bearer token that is no API token into an Actor; one is chosen by BYTEBREW_AUTH_MODE."""

    name: ClassVar[str]

    async def authenticate(self, token: str) -> Actor | None:
        """The actor, or None for a token of another kind; raises Unauthorized for one of ours that is bad."""
        raise NotImplementedError


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
