"""Two auth modes that read more of a request than a bearer token; unknown callers are refused."""

import asyncio
import hashlib
import hmac
import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from bytebrew import (
    Actor,
    AuthMode,
    Engine,
    Register,
    Request,
    Scopes,
    Settings,
    SettingsError,
    Unauthorized,
    hookimpl,
    ip_of,
)

bytebrew_contract = 3

Network = IPv4Network | IPv6Network
_NAME = re.compile(r"[\w.@+-]{1,255}")


class Doors(Struct, frozen=True, kw_only=True):
    """The settings of both modes."""

    gateway_secret: Annotated[
        str, Meta(description="what the gateway sends in X-Gateway-Secret with each request, 16 characters or more")
    ] = ""
    gateway_from: Annotated[
        tuple[str, ...], Meta(description="addresses or networks of the gateway; from others its headers do not count")
    ] = ()
    gateway_scopes: Annotated[tuple[str, ...], Meta(description="scopes of a user whom the gateway names")] = ("chat",)
    basic_users: Annotated[
        Path | None, Meta(description="file of users, a line each: name:scopes with commas:salt:scrypt in hex")
    ] = None


class Gateway(AuthMode):
    """Trusts X-Forwarded-User of a gateway that sends the secret, from its own addresses where they are set.

    The gateway must strip both headers of clients.
    """

    name = "gateway"
    challenge = "Gateway"

    def __init__(self, secret: str, scopes: frozenset[str], peers: Sequence[Network]) -> None:
        self._secret, self._scopes, self._peers = secret.encode(), scopes, peers

    async def identify(self, request: Request[Any]) -> Actor | None:
        secret = request.headers.get("x-gateway-secret", "").encode()
        user = request.headers.get("x-forwarded-user", "")
        if not (self._secret and hmac.compare_digest(secret, self._secret) and _NAME.fullmatch(user)):
            return None
        # the connected peer: `request.client` may be the address that a trusted proxy names
        peer = ip_of(request.connection[0][0]) if request.connection else None
        if self._peers and not (peer and any(peer in network for network in self._peers)):
            return None
        return Actor(subject=f"user:{user}", name=user, kind="user", scopes=self._scopes)


class Basic(AuthMode):
    """HTTP Basic (RFC 7617), for an engine behind TLS; passwords are kept as scrypt."""

    name = "basic"
    challenge = 'Basic realm="bytebrew", charset="UTF-8"'

    def __init__(self, users: Mapping[str, tuple[frozenset[str], bytes, bytes]]) -> None:
        self._users = users
        self._known: dict[str, bytes] = {}  # cache of verified passwords: scrypt takes 50 ms

    async def identify(self, request: Request[Any]) -> Actor | None:
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            name, _, password = b64decode(encoded, validate=True).decode().partition(":")
        except ValueError as error:
            message = "The Basic credential is not in base64"
            raise Unauthorized(message, missing=True, challenge=self.challenge) from error
        scopes, salt, stored = self._users.get(name, (frozenset[str](), b"nobody", b""))
        quick = hashlib.sha256(salt + password.encode()).digest()
        if not hmac.compare_digest(self._known.get(name, b""), quick):
            if not hmac.compare_digest(await asyncio.to_thread(scrypt, password, salt), stored):
                return None
            self._known[name] = quick
        return Actor(subject=f"user:{name}", name=name, kind="user", scopes=scopes)


def scrypt(password: str, salt: bytes) -> bytes:
    """The stored form of a password: `scrypt(password, salt).hex()`."""
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)


def users(path: Path | None, known: Scopes) -> dict[str, tuple[frozenset[str], bytes, bytes]]:
    """Scopes, salt and hash of each user in the file; SettingsError names a wrong line."""
    found = {}
    for number, line in enumerate(path.read_text().splitlines() if path else (), 1):
        try:
            name, scopes, salt, stored = line.split(":")
            found[name] = (checked(scopes.split(","), known), bytes.fromhex(salt), bytes.fromhex(stored))
        except ValueError as error:
            raise SettingsError(f"BYTEBREW_BASIC_USERS: line {number} of {path}: {error}") from error
    return found


def networks(texts: Sequence[str]) -> list[Network]:
    """The networks; SettingsError names one that is none."""
    try:
        return [ip_network(text) for text in texts]
    except ValueError as error:
        raise SettingsError(
            f"BYTEBREW_GATEWAY_FROM: {error}; write addresses or networks such as 10.0.0.0/24"
        ) from error


def checked(scopes: list[str], known: Scopes) -> frozenset[str]:
    """The scopes; ValueError names one that is none."""
    if unknown := [scope for scope in scopes if scope not in known]:
        raise ValueError(f"'{unknown[0]}' is not a scope")
    return frozenset(scopes)


@hookimpl
def register_settings(register: Register[type[Struct]]) -> None:
    register(Doors)


@hookimpl
def register_auth_modes(register: Register[AuthMode], settings: Settings, engine: Engine) -> None:
    own, chosen = settings.of(Doors), settings.core.auth_mode
    if chosen == "gateway" and len(own.gateway_secret) < 16:
        raise SettingsError("BYTEBREW_GATEWAY_SECRET: write 16 characters or more, and have the gateway send them")
    if chosen == "basic" and own.basic_users is None:
        raise SettingsError("BYTEBREW_BASIC_USERS: name the file of users")
    scopes = checked(list(own.gateway_scopes), engine.scopes)
    register(Gateway(own.gateway_secret, scopes, networks(own.gateway_from)))
    register(Basic(users(own.basic_users, engine.scopes)))
