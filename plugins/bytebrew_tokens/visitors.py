"""Visitors of a public page, whose token everybody can read: each gets an identity signed by the engine."""

import base64
import binascii
import time
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from msgspec import Struct

from bytebrew import (
    VISITOR,
    Actor,
    Connection,
    Engine,
    StateKey,
    Unauthorized,
    Unprocessable,
    View,
    new_uuid,
    parse_time,
    rfc3339,
)

PREFIX = "bbv_"
"""Prefix of a visitor's token."""
PUBLIC = "public"
"""Scope of the token of a public page, which only allows creating visitors' tokens."""
SECONDS = 30 * 86400
"""Validity of a visitor's token after its last renewal."""


class Visitor(Struct, frozen=True):
    """The content of a visitor's token: the page's API token, the visitor, and the expiry in seconds since 1970."""

    page: str
    id: str
    expires: int

    @property
    def subject(self) -> str:
        """The subject that owns sessions and memories."""
        return f"token:{self.page}{VISITOR}{self.id}"


class Visitors:
    """Creates and verifies visitors' tokens; none is stored, so that visitors cannot fill the database."""

    def __init__(self, engine: Engine) -> None:
        self._db, self._secrets = engine.db, engine.secrets.derived(b"visitors")

    def new(self, page: str, known: str = "") -> tuple[str, Visitor]:
        """A token for a visitor of a page, with the identity of the `known` token if there is one.

        Raises Unauthorized if that is of another page, or has expired.
        """
        same = self.read(known) if known else None
        if same is not None and same.page != page:
            raise Unauthorized("The visitor's token is of another page; leave it out to begin as a new visitor")
        visitor = Visitor(page, same.id if same else new_uuid(), int(time.time()) + SECONDS)
        sealed = self._secrets.seal(msgspec.json.encode(visitor).decode())
        return PREFIX + base64.urlsafe_b64encode(sealed).decode().rstrip("="), visitor

    def read(self, token: str) -> Visitor:
        """The visitor of a token; Unauthorized if it is invalid or has expired."""
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
        """The actor of a visitor's token; Unauthorized if it or the page's token is not live."""
        visitor = self.read(token)
        stored = await self._db.glance(page, visitor.page)
        if stored is None:
            raise Unauthorized("The page's token is no longer valid")
        return Actor(
            subject=visitor.subject,
            name=f"visitor:{visitor.id}",
            kind="user",
            scopes=frozenset({"chat"}),
            schemas=stored.schemas,
            view=stored.view,
            expires_at=rfc3339(datetime.fromtimestamp(visitor.expires, UTC)),
        )


VISITORS = StateKey[Visitors]("visitors")


class Page(NamedTuple):
    """The schemas of a public page, None for all, and what its visitors see."""

    schemas: tuple[str, ...] | None
    view: View


def page(conn: Connection, token_id: str) -> Page | None:
    """What visitors of a public page may do and see; None if its token is not live."""
    sql = "select schemas, view, expires_at from tokens where id = ? and scopes = ? and revoked_at is null"
    row = conn.execute(sql, (token_id, PUBLIC)).fetchone()
    if row is None or (row["expires_at"] and parse_time(row["expires_at"]) <= datetime.now(UTC)):
        return None
    return Page(tuple(msgspec.json.decode(row["schemas"])) if row["schemas"] else None, row["view"])
