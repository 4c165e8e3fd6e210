"""Visitors of a public page: the page's token is for all to read, so each gets an identity that the engine signs."""

import base64
import binascii
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from bytebrew.base.errors import Unauthorized, Unprocessable
from bytebrew.base.formats import new_uuid
from bytebrew.base.secrets import Secrets
from bytebrew.contract.auth import VISITOR, Actor
from bytebrew.store import tokens

if TYPE_CHECKING:
    from bytebrew.engine import Engine

PREFIX = "bbv_"
"""What a visitor's token begins with; an API token begins with `bb_`."""
SECONDS = 30 * 86400
"""How long a visitor is known, from the latest visit on which the page has its token renewed."""


class Visitor(Struct, frozen=True):
    """Who a visitor's token is for: of the page of which API token, and until when, in seconds since 1970."""

    page: str
    id: str
    expires: int

    @property
    def subject(self) -> str:
        """Whom sessions and memories belong to."""
        return f"token:{self.page}{VISITOR}{self.id}"


@dataclass(slots=True, frozen=True)
class Visitors:
    """Makes and reads visitors' tokens; none is stored, so that no crowd of visitors fills the file."""

    _secrets: Secrets

    def new(self, page: str, known: str = "") -> tuple[str, Visitor]:
        """A token for a visitor of a page; of one who shows the token of an earlier visit, with the same identity.

        Raises Unauthorized where that is not of this page, or no longer valid.
        """
        same = self.read(known) if known else None
        if same is not None and same.page != page:
            raise Unauthorized("The visitor's token is of another page; leave it out to begin as a new visitor")
        visitor = Visitor(page, same.id if same else new_uuid(), int(time.time()) + SECONDS)
        sealed = self._secrets.seal(msgspec.json.encode(visitor).decode())
        return PREFIX + base64.urlsafe_b64encode(sealed).decode().rstrip("="), visitor

    def read(self, token: str) -> Visitor:
        """Whom a token is for; raises Unauthorized where the engine has not made it, or it has expired."""
        text = token.removeprefix(PREFIX)
        try:
            sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            visitor = msgspec.json.decode(self._secrets.open(sealed), type=Visitor)
        except (binascii.Error, ValueError, Unprocessable) as error:  # msgspec's errors are ValueErrors
            raise Unauthorized from error
        if visitor.expires <= time.time():
            raise Unauthorized("The visitor's token has expired; POST /api/v1/auth/visitors makes a new one")
        return visitor


async def actor(engine: "Engine", visitors: Visitors, token: str) -> Actor:
    """Whom a visitor's token is for, as long as the page's own is live; raises Unauthorized."""
    visitor = visitors.read(token)
    schemas = await engine.db.glance(tokens.page, visitor.page)
    if schemas is None:
        raise Unauthorized("The page's token is no longer valid")
    return Actor(
        subject=visitor.subject,
        name=f"visitor:{visitor.id}",
        kind="user",
        scopes=frozenset({"chat"}),
        schemas=None if schemas == "all" else schemas,
    )
