"""Visitors of a public page: the page's token is for all to read, so each gets an identity that the engine signs."""

import base64
import binascii
import time
from datetime import UTC, datetime
from typing import Literal

import msgspec
from msgspec import Struct

from bytebrew import VISITOR, Actor, Connection, Engine, StateKey, Unauthorized, Unprocessable, new_uuid, parse_time

PREFIX = "bbv_"
"""What a visitor's token begins with; an API token begins with `bb_`."""
PUBLIC = "public"
"""The scope of a token that stands in a public page: it makes visitors' tokens, and nothing else."""
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


class Visitors:
    """Makes and reads visitors' tokens; none is stored, so that no crowd of visitors fills the file."""

    def __init__(self, engine: Engine) -> None:
        self._db, self._secrets = engine.db, engine.secrets.derived(b"visitors")

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

    async def actor(self, token: str) -> Actor:
        """Whom a visitor's token is for, as long as the page's own is live; raises Unauthorized."""
        visitor = self.read(token)
        schemas = await self._db.glance(page, visitor.page)
        if schemas is None:
            raise Unauthorized("The page's token is no longer valid")
        return Actor(
            subject=visitor.subject,
            name=f"visitor:{visitor.id}",
            kind="user",
            scopes=frozenset({"chat"}),
            schemas=None if schemas == "all" else schemas,
        )


VISITORS = StateKey[Visitors]("visitors")


def page(conn: Connection, token_id: str) -> tuple[str, ...] | Literal["all"] | None:
    """The schemas that visitors of a public page may chat with; None where its token is no longer live."""
    sql = "select schemas, expires_at from tokens where id = ? and scopes = ? and revoked_at is null"
    row = conn.execute(sql, (token_id, PUBLIC)).fetchone()
    if row is None or (row["expires_at"] and parse_time(row["expires_at"]) <= datetime.now(UTC)):
        return None
    return tuple(msgspec.json.decode(row["schemas"])) if row["schemas"] else "all"
