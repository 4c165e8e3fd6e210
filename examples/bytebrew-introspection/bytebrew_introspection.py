"""An auth mode of opaque tokens: the authorization server says who has one, and for how long (RFC 7662)."""

import asyncio
import re
import time
from base64 import b64encode
from collections import OrderedDict
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any
from urllib.parse import quote_plus, urlencode, urlsplit

import msgspec
from msgspec import Meta, Struct

from bytebrew import (
    Actor,
    AuthMode,
    Duration,
    Engine,
    EngineError,
    ProviderError,
    Register,
    Settings,
    SettingsError,
    StateKey,
    Unauthorized,
    hookimpl,
    ip_of,
    rfc3339,
)

bytebrew_contract = 3

MOST_KEPT = 10_000
"""Answers in the cache; the oldest goes first."""
MOST_AT_ONCE = 32
"""Requests to the server at a time, so that a flood of tokens is none of requests."""
REFUSED_SECONDS = 10.0
"""How long a token that is not active is refused without asking again."""
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{1,4096}=*")
"""RFC 6750, section 2.1."""
Moment = Annotated[float, Meta(ge=0, lt=253_402_300_800)]
"""Seconds since 1970, before the year 10000."""


class Introspection(Struct, frozen=True, kw_only=True):
    """The settings of the mode."""

    introspection_url: Annotated[str, Meta(description="introspection endpoint of the authorization server")] = ""
    introspection_client_id: Annotated[str, Meta(description="client id of the engine at that server")] = ""
    introspection_client_secret: Annotated[str, Meta(description="secret of that client")] = ""
    introspection_audience: Annotated[
        str, Meta(description="audience that tokens must be for; * if the server names none")
    ] = ""
    introspection_cache: Annotated[
        Duration, Meta(description="how long an answer counts; a token that is revoked works as long")
    ] = Duration(30)
    introspection_timeout: Annotated[Duration, Meta(description="how long an answer may take")] = Duration(5)


class State(Struct):
    """The answer of the server; fields that it has beside these do not count."""

    active: bool
    sub: str = ""
    username: str = ""
    scope: str = ""
    aud: str | list[str] = ""
    exp: Moment | None = None
    nbf: Moment | None = None
    token_type: str = "Bearer"
    cnf: dict[str, Any] | None = None


class Unavailable(EngineError):
    """The authorization server cannot be asked, so nobody is let in."""

    status = 503
    code = "auth_unavailable"


class Kept(Struct, frozen=True):
    """The actor of a token, None if it is refused, until a time of the monotonic clock."""

    actor: Actor | None
    until: float


class IntrospectionMode(AuthMode):
    """BYTEBREW_AUTH_MODE=introspection. Whatever is not certain is a refusal."""

    name = "introspection"

    def __init__(self, engine: Engine, own: Introspection) -> None:
        self._engine, self._own = engine, own
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[Kept]] = {}
        self._places = asyncio.Semaphore(MOST_AT_ONCE)

    async def authenticate(self, token: str) -> Actor | None:
        if not TOKEN.fullmatch(token):
            raise Unauthorized("The token is not in the form of RFC 6750")
        key = sha256(token.encode()).digest()  # a dump of the memory shows no token of the cache
        kept = self._kept.get(key)
        if kept is None or kept.until <= time.monotonic():
            kept = await self._ask_once(key, token)
        if kept.actor is None:
            raise Unauthorized("The authorization server does not accept the token for this engine")
        return kept.actor

    async def _ask_once(self, key: bytes, token: str) -> Kept:
        """Asks about a token once for all requests that wait for it."""
        if (task := self._asking.get(key)) is None:
            task = self._asking[key] = asyncio.create_task(self._ask(key, token))
            task.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(task)

    def _forget(self, key: bytes, task: asyncio.Task[Kept]) -> None:
        del self._asking[key]
        if not task.cancelled():
            task.exception()  # each request that waits has it; without any it is of no interest

    async def close(self) -> None:
        """Ends the requests that run."""
        tasks = [*self._asking.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, key: bytes, token: str) -> Kept:
        own = self._own
        credential = f"{quote_plus(own.introspection_client_id)}:{quote_plus(own.introspection_client_secret)}"
        headers = {
            "Authorization": f"Basic {b64encode(credential.encode()).decode()}",  # RFC 6749, section 2.3.1
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }
        body = urlencode({"token": token, "token_type_hint": "access_token"}).encode()
        try:
            async with asyncio.timeout(own.introspection_timeout), self._places:
                answer = await self._engine.http.ask(
                    "POST", own.introspection_url, headers=headers, content=body, limit=64 << 10
                )
        except (ProviderError, TimeoutError) as error:
            raise Unavailable("The authorization server cannot be reached; try again") from error
        if answer.status != 200 or answer.truncated:
            raise Unavailable(f"The authorization server answered {answer.status}; the operator can see why there")
        try:
            state = msgspec.json.decode(answer.body, type=State)
        except msgspec.DecodeError as error:
            raise Unavailable("The authorization server's answer is no introspection response") from error
        kept = self._judge(state)
        self._kept[key] = kept
        self._kept.move_to_end(key)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return kept

    def _judge(self, state: State) -> Kept:
        now, clock = time.time(), time.monotonic()
        audience, names = self._own.introspection_audience, [state.aud] if isinstance(state.aud, str) else state.aud
        good = (
            state.active
            and 0 < len(state.sub) <= 255
            and state.sub.isprintable()
            and state.token_type.lower() == "bearer"
            and not state.cnf  # the token is bound to a key of the client, which a bearer does not prove
            and (audience == "*" or audience in names)
            and (state.exp is None or state.exp > now)
            and (state.nbf is None or state.nbf <= now)
        )
        if not good:
            return Kept(None, clock + REFUSED_SECONDS)
        lasts = float(self._own.introspection_cache)
        scopes = frozenset(self._engine.scopes.keys() & set(state.scope.split()))
        actor = Actor(
            subject=f"user:{state.sub}",
            name=state.username or state.sub,
            kind="user",
            scopes=scopes,
            expires_at="" if state.exp is None else rfc3339(datetime.fromtimestamp(state.exp, UTC)),
        )
        return Kept(actor, clock + (lasts if state.exp is None else min(lasts, state.exp - now)))


MODE = StateKey[IntrospectionMode]("introspection")


def checked(own: Introspection) -> None:
    """SettingsError if the mode could not be safe."""
    url = urlsplit(own.introspection_url)
    address = ip_of(url.hostname or "")
    near = url.hostname == "localhost" or (address is not None and address.is_loopback)
    if not url.hostname or not (url.scheme == "https" or (url.scheme == "http" and near)):
        message = "write the address of the server's introspection endpoint, with https unless it is on this machine"
        raise SettingsError(f"BYTEBREW_INTROSPECTION_URL: {message}")
    if not own.introspection_client_id or not own.introspection_client_secret:
        message = "register the engine as a client of the server, and set its id and secret"
        raise SettingsError(f"BYTEBREW_INTROSPECTION_CLIENT_ID, BYTEBREW_INTROSPECTION_CLIENT_SECRET: {message}")
    if not own.introspection_audience:
        message = "name the engine as the server does in aud, so that tokens for others are refused; * for any"
        raise SettingsError(f"BYTEBREW_INTROSPECTION_AUDIENCE: {message}")


@hookimpl
def register_settings(register: Register[type[Struct]]) -> None:
    register(Introspection)


@hookimpl
def register_auth_modes(register: Register[AuthMode], settings: Settings, engine: Engine) -> None:
    own = settings.of(Introspection)
    if settings.core.auth_mode == IntrospectionMode.name:
        checked(own)
    engine.state[MODE] = IntrospectionMode(engine, own)
    register(engine.state[MODE])


@hookimpl
async def shutdown(engine: Engine) -> None:
    await engine.state[MODE].close()
