"""Authenticates API tokens and visitors' tokens."""

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from bytebrew import Actor, AuthMode, Connection, Engine, StorageError, View, now, parse_time

from . import visitors

PREFIX = "bb_"
"""Prefix of every API token."""
_TOKEN = re.compile(r"bb_[0-9a-f]{64}")


class TokenMode(AuthMode):
    """Looks up each token, so that revocation takes effect at the next request."""

    name = "api_tokens"
    prefixes = (PREFIX, visitors.PREFIX)

    def __init__(self, engine: Engine) -> None:
        self._db = engine.db
        self._visitors = visitors.Visitors(engine)
        engine.state[visitors.VISITORS] = self._visitors

    async def authenticate(self, token: str) -> Actor | None:
        """The holder of a live token; Unauthorized otherwise."""
        if token.startswith(visitors.PREFIX):
            return await self._visitors.actor(token)
        if not _TOKEN.fullmatch(token):
            return None
        if (row := await self._db.glance(actor, token)) is None:
            return None
        who, stale = row
        if stale:
            with suppress(StorageError):  # a full disk must not lock out the operator
                await self._db.write(touch, token)
        return who

    def names(self, conn: Connection) -> Mapping[str, str]:
        """The name of every token, including revoked ones."""
        return dict(conn.execute("select 'token:' || id, name from tokens").fetchall())


def actor(conn: Connection, token: str) -> tuple[Actor, bool] | None:
    """The actor of a live token, and whether its `last_used_at` is older than a minute."""
    sql = """select id, name, scopes, schemas, view, expires_at, last_used_at from tokens
      where hash = ? and revoked_at is null"""
    row = conn.execute(sql, (token_hash(token),)).fetchone()
    moment = datetime.now(UTC)
    if row is None or (row["expires_at"] and parse_time(row["expires_at"]) <= moment):
        return None
    *own, used = row
    return _actor(*own), used is None or not 0 <= (moment - parse_time(used)).total_seconds() < 60


@lru_cache(1024)
def _actor(id: str, name: str, scopes: str, schemas: str | None, view: View, expires_at: str | None) -> Actor:
    """The actor of a token's row, shared by requests of the same token: streams last long."""
    return Actor(
        subject=f"token:{id}",
        name=name,
        kind="token",
        scopes=frozenset(scopes.split()),
        schemas=tuple(msgspec.json.decode(schemas)) if schemas else None,
        view=view,
        expires_at=expires_at or "",
    )


def touch(conn: Connection, token: str) -> None:
    """Updates the token's `last_used_at`."""
    conn.execute("update tokens set last_used_at = ? where hash = ?", (now(), token_hash(token)))


def token_hash(token: str) -> str:
    """The stored form of a token: its SHA-256 in hex."""
    return hashlib.sha256(token.encode()).hexdigest()
