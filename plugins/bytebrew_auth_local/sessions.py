"""Local sessions: JWTs for the local admin, signed and verified with the engine's own key."""

import time
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

import bytebrew
from bytebrew import FRONT_PAGE, Actor, AuthMode, Conflict, Engine, StateKey, Unauthorized, new_uuid

from . import ended_sessions
from .attempt_limiter import AttemptLimiter
from .keys import Keys
from .peer_check_queue import PeerCheckQueue
from .settings import Local
from .sign_in_token import SignInToken

AHEAD = 60.0
"""Tolerated amount by which the clock was set back since a session was issued."""
SUBJECT = "local-admin"


class LocalSession(Struct, frozen=True, kw_only=True):
    """A local session: the bearer token of the local admin, and when it ends."""

    access_token: str
    expires_at: str
    token_type: str = "Bearer"  # noqa: S105


class LocalMode(AuthMode):
    """Issues and verifies JWTs with the engine's own key.

    Of the claims, `sid` identifies a session across refreshes, `auth_time` is when it was opened, and `gen` is the
    generation of sessions.
    """

    name = "local"

    def load(self, engine: Engine, keys: Keys) -> None:
        """Creates the sign-in token; the data folder must exist."""
        self._db, self._keys = engine.db, keys
        has_page = FRONT_PAGE in engine.state
        self._opens = engine.state[FRONT_PAGE] if has_page else "/sign-in"
        self.sign_in_token = SignInToken(engine.data_dir)
        self.attempts = AttemptLimiter()
        self.owners = PeerCheckQueue(engine.data_dir)

    async def authenticate(self, token: str) -> Actor | None:
        """The local admin."""
        until = _time((await self.claims(token))["exp"])
        scopes = frozenset({"admin"})
        return Actor(subject=f"user:{SUBJECT}", name=SUBJECT, kind="user", scopes=scopes, expires_at=until)

    def link(self, url: str) -> str:
        """The URL of the page that opens a session with the sign-in token: the engine's own, if it has one."""
        return f"{url}{self._opens}#t={self.sign_in_token.token}"

    async def claims(self, token: str) -> dict[str, Any]:
        """The claims of a live session; raises Unauthorized."""
        key = self._keys.current()
        try:
            claims = bytebrew.verify(token, {"": key.verify_key} if key else {}, leeway=0)
        except bytebrew.BadToken as error:
            way = "open a new one, or make an API token (bytebrew token create)"
            raise Unauthorized(f"Invalid or expired session: {error}; {way}") from error
        if claims.get("sub") != SUBJECT:
            raise Unauthorized("Invalid session: it is not the local admin's")
        if claims.get("iat", 0) > time.time() + AHEAD:
            raise Unauthorized("Invalid session: it was made by a clock that was ahead; get a new one")
        if await self._db.glance(ended_sessions.is_ended, claims.get("sid", ""), claims.get("gen", 0)):
            raise Unauthorized("Invalid session: it was ended; open a new one")
        return claims

    async def open(self, local: Local) -> LocalSession:
        """A new session; Conflict without a key."""
        return issue(self._keys, await self._db.glance(ended_sessions.generation), local)

    async def refresh(self, token: str, local: Local) -> LocalSession:
        """A live session with a later expiry, within `local_session_max`; raises Unauthorized."""
        claims, now = await self.claims(token), time.time()
        left = local.end(claims) - now
        if left < 1:
            raise Unauthorized("Invalid session: it has had all its time; open a new one")
        return _signed(self._keys, claims, now, min(local.local_session_ttl, left))


MODE = StateKey[LocalMode]("auth_local")


def issue(keys: Keys, generation: int, local: Local) -> LocalSession:
    """A new session of a generation; Conflict without a key."""
    now = time.time()
    begun = {"auth_time": int(now), "sid": new_uuid(), "gen": generation}
    return _signed(keys, begun, now, local.local_session_ttl)


def _signed(keys: Keys, begun: dict[str, Any], now: float, seconds: float) -> LocalSession:
    if (key := keys.current()) is None:
        raise Conflict("The key pair of local sessions cannot be used; the engine's log says why", code="no_key")
    issued = int(now)
    expires = issued + int(seconds)
    kept: dict[str, Any] = {name: begun[name] for name in ("auth_time", "sid", "gen") if name in begun}
    kept.setdefault("auth_time", begun.get("iat", issued))
    token = bytebrew.sign({"sub": SUBJECT, "tenant_id": "", "iat": issued, "exp": expires, **kept}, key)
    return LocalSession(access_token=token, expires_at=_time(expires))


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
