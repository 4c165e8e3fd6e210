"""Actors and scopes: who makes a request, and what the credential allows."""

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

View = Literal["full", "public"]
VISITOR = ":visitor:"
"""Separates the subject of a public page's token, which pays for usage, from the id of the visitor."""


class Scope(Struct, frozen=True, kw_only=True):
    """A permission that a credential grants and a route needs.

    `description` says what it allows, in a sentence for operators. `bit` represents it in a `scopes_mask`. Each of its
    `aliases` grants every scope that has this alias. Only `bindable` scopes may
    go with a credential that is limited to schemas: their routes check the schema.
    """

    name: str
    bit: int
    aliases: tuple[str, ...] = ()
    bindable: bool = False
    description: str = ""


class Scopes(dict[str, Scope]):
    """Every scope of an engine by name, in the order of the bits."""

    def __init__(self, scopes: Iterable[Scope]) -> None:
        super().__init__((scope.name, scope) for scope in sorted(scopes, key=lambda scope: scope.bit))
        self.bindable = frozenset(scope.name for scope in self.values() if scope.bindable)
        self._granted: dict[str, frozenset[str]] = {}
        for scope in self.values():
            aliases = {*scope.aliases} - self.keys()  # an alias that is also the name of a scope means that scope
            for name in {scope.name, *aliases}:
                self._granted[name] = self._granted.get(name, frozenset()) | {scope.name}

    def parse(self, names: Iterable[str], mask: int = 0) -> frozenset[str]:
        """Scopes from names, their aliases and a bit mask; ValueError names the first unknown one."""
        scopes: set[str] = set()
        for name in names:
            if name not in self._granted:
                raise ValueError(f"'{name}' is not a scope; the scopes are {', '.join(self)}")
            scopes |= self._granted[name]
        if mask & ~self.mask(self):
            raise ValueError(f"{mask} has bits that stand for no scope")
        return frozenset(scopes | {name for name, scope in self.items() if mask & scope.bit})

    def mask(self, names: Iterable[str]) -> int:
        """The bits of the scopes; a scope of a plugin that is not loaded has none."""
        return sum(self[name].bit for name in names if name in self)


SCOPES = (
    Scope(
        name="chat",
        bit=1,
        aliases=("api",),
        bindable=True,
        description="Chat with schemas, and read and answer the caller's own sessions",
    ),
    Scope(
        name="tasks",
        bit=2,
        aliases=("api",),
        bindable=True,
        description="Give tasks to agents, and follow, change and cancel the caller's own",
    ),
    Scope(
        name="agents:read",
        bit=4,
        aliases=("agents", "api"),
        description="Read agents, their versions and what they may do",
    ),
    Scope(
        name="config", bit=8, description="Export and import the whole configuration, and read the health of the engine"
    ),
    Scope(
        name="admin", bit=16, description="Everything, for all callers: keys, settings, backups and the audit included"
    ),
    Scope(name="agents:write", bit=32, description="Create, change and delete agents"),
    Scope(
        name="models:read",
        bit=64,
        aliases=("models", "api"),
        description="Read models and the catalog; no key is ever shown",
    ),
    Scope(name="models:write", bit=128, description="Create, change, verify and delete models, and write their keys"),
    Scope(
        name="schemas:read",
        bit=4096,
        aliases=("schemas", "api"),
        description="Read schemas and how their agents are connected",
    ),
    Scope(name="schemas:write", bit=8192, description="Create, change and delete schemas, and open them for chats"),
    Scope(
        name="approvals",
        bit=16384,
        bindable=True,
        description="Answer the questions of agents that wait for a person, and see all that they ask",
    ),
)
"""The scopes of the core's own routes."""


class Actor(Struct, frozen=True, kw_only=True):
    """The caller of one request.

    `subject` owns sessions and tasks and is unique across all kinds of credentials; `schemas` limits a chat token to
    some schemas, None is no limit. The `view` "public" shows nothing of how an answer came about: no tools, reasoning,
    internal names or cost. `expires_at` is when the credential ends, "" if that is never or not known.
    """

    subject: str
    name: str
    kind: Literal["user", "token"]
    scopes: frozenset[str]
    schemas: tuple[str, ...] | None = None
    view: View = "full"
    expires_at: str = ""

    @property
    def is_admin(self) -> bool:
        """Whether the actor has the scope `admin`, which includes every other."""
        return "admin" in self.scopes

    @property
    def token(self) -> str | None:
        """The subject of the API token that was sent, or that the visited page uses; None for a JWT."""
        return account(self.subject) if self.subject.startswith("token:") else None


def account(subject: str) -> str:
    """The subject that pays for usage: for a visitor the subject of the page's token, otherwise the actor's own."""
    return subject.partition(VISITOR)[0] if subject.startswith("token:") else subject
