"""Local auth mode: the engine signs admin sessions itself, for callers on the operator's side of the fence."""

import ipaddress
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from msgspec import Meta, Struct

import bytebrew
from bytebrew import Actor, AuthMode, Core, Duration, Forbidden, Reply, Request, Route, SigningKey, hookimpl

if TYPE_CHECKING:
    from bytebrew import Engine

AHEAD = 60.0
"""Seconds by which the clock may have been set back since a session was made."""
SUBJECT = "local-admin"
FORWARDED = ("forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip")
LONGEST = 366 * 86400
"""Seconds of the longest local session."""


class Local(Struct, frozen=True, kw_only=True):
    """The settings of the local mode."""

    local_session_ttl: Annotated[Duration, Meta(description="how long a local session lasts")] = Duration(3600)
    local_session_from: Annotated[
        tuple[str, ...], Meta(description="networks (CIDR) besides loopback that may open a local session")
    ] = ()
    local_session_secret: Annotated[
        str, Meta(min_length=16, description="a secret that opening a local session then takes, as its bearer token")
    ] = ""
    jwt_keys_dir: Annotated[Path | None, Meta(description="folder of the local key pair; <data>/keys if empty")] = None


class LocalSession(Struct, frozen=True, kw_only=True):
    """A local session: the bearer token of the local admin, and when it ends."""

    access_token: str
    expires_at: str
    token_type: str = "Bearer"  # noqa: S105


class LocalMode(AuthMode):
    """Checks and issues JWTs with the engine's own key."""

    name = "local"

    def __init__(self) -> None:
        self._key: SigningKey | None = None

    def load(self, key: SigningKey) -> None:
        """Takes the key pair, once the data folder is there."""
        self._key = key

    async def authenticate(self, token: str) -> Actor | None:
        """The local admin."""
        self.claims(token)
        return Actor(subject=f"user:{SUBJECT}", name=SUBJECT, kind="user", scopes=frozenset({"admin"}))

    def claims(self, token: str) -> dict[str, Any]:
        """The claims of a live session; raises Unauthorized."""
        assert self._key is not None
        try:
            claims = bytebrew.verify(token, {"": self._key.verify_key}, leeway=0)
        except bytebrew.BadToken as error:
            raise bytebrew.Unauthorized(f"Invalid or expired session: {error}") from error
        if claims.get("sub") != SUBJECT:
            raise bytebrew.Unauthorized("Invalid session: it is not the local admin's")
        if claims.get("iat", 0) > time.time() + AHEAD:
            raise bytebrew.Unauthorized("Invalid session: it was made by a clock that was ahead; get a new one")
        return claims

    def session(self, seconds: float) -> LocalSession:
        """A new session, as the session routes answer it."""
        assert self._key is not None
        issued = int(time.time())
        expires = issued + int(seconds)
        token = bytebrew.sign({"sub": SUBJECT, "tenant_id": "", "iat": issued, "exp": expires}, self._key)
        until = datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return LocalSession(access_token=token, expires_at=until)


def check_fences(request: Request[None], settings: Local, core: Core) -> None:
    """Raises Forbidden unless the caller may be handed an admin session.

    The secret, where one is set, opens from anywhere. Otherwise the caller must connect from loopback or an allowed
    network, without a proxy in between, to a host name that cannot be a foreign site's (DNS rebinding). A page of
    another origin is refused always.
    """
    headers = request.headers
    host = headers.get("host", "")
    origin = headers.get("origin")
    foreign = origin is not None and origin.partition("://")[2] != host
    if foreign or headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        raise Forbidden("A page of another origin may not open a local session", code="foreign_origin")
    if settings.local_session_secret:
        given = headers.get("authorization", "").partition(" ")[2]
        if not secrets.compare_digest(given.encode("latin-1"), settings.local_session_secret.encode()):
            words = "Send the value of BYTEBREW_LOCAL_SESSION_SECRET as Authorization: Bearer <secret>"
            raise Forbidden(words, code="secret_required")
        return
    # nginx passes requests on as HTTP/1.0 by default and names nobody; an HTTP/2 upgrade tunnels through many proxies
    named = any(name in FORWARDED or name.startswith("x-forwarded-") for name in headers)
    if named or request.http_version != "1.1":
        words = "A proxy passed this on; set BYTEBREW_LOCAL_SESSION_SECRET to open local sessions through one"
        raise Forbidden(words, code="forwarded")
    networks = [ipaddress.ip_network(text, strict=False) for text in settings.local_session_from]
    if not _within(request.client, networks):
        words = f"{request.client} may not open a local session; add its network to BYTEBREW_LOCAL_SESSION_FROM"
        raise Forbidden(words, code="foreign_address")
    if not _known_host(host, core.host):
        words = "The Host header may be a foreign site's; call the engine by its IP address or as localhost"
        raise Forbidden(words, code="foreign_host")


async def open_session(request: Request[None]) -> Reply:
    """An admin session for the operator's own machine."""
    settings = request.engine.settings
    local = settings.of(Local)
    check_fences(request, local, settings.core)
    return Reply(body=_mode(request.engine).session(local.local_session_ttl), headers={"cache-control": "no-store"})


async def refresh_session(request: Request[None]) -> Reply:
    """A new session for the one in the header Authorization, if it is still alive."""
    token = request.headers.get("authorization", "").partition(" ")[2].strip()
    mode = _mode(request.engine)
    mode.claims(token)
    seconds = request.engine.settings.of(Local).local_session_ttl
    return Reply(body=mode.session(seconds), headers={"cache-control": "no-store"})


@hookimpl
def register_settings(register: Any) -> None:
    register(Local)


@hookimpl
def register_auth_modes(register: Any) -> None:
    register(LocalMode())


@hookimpl
def register_routes(register: Any, engine: "Engine") -> None:
    if engine.auth_mode.name != LocalMode.name:
        return
    path = "/api/v1/auth/local-session"
    register(
        Route(
            method="POST",
            path=path,
            scope=None,
            run=open_session,
            summary="Open a local admin session",
            answer=LocalSession,
            also={403: None},
        )
    )
    register(
        Route(
            method="POST",
            path=f"{path}/refresh",
            scope=None,
            run=refresh_session,
            summary="Refresh a local admin session",
            answer=LocalSession,
            also={401: None},
        )
    )


@hookimpl
async def startup(engine: "Engine") -> None:
    if engine.auth_mode.name != LocalMode.name:
        return
    local, core = engine.settings.of(Local), engine.settings.core
    try:
        for text in local.local_session_from:
            ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise bytebrew.SettingsError(f"BYTEBREW_LOCAL_SESSION_FROM: {error}") from error
    if not 1 <= local.local_session_ttl <= LONGEST:
        raise bytebrew.SettingsError("BYTEBREW_LOCAL_SESSION_TTL: choose between 1s and 366d")
    if not _is_loopback(core.host) and not local.local_session_from and not local.local_session_secret:
        raise bytebrew.SettingsError(
            f"BYTEBREW_HOST: on {core.host} anyone who reaches the port could become admin; "
            "set BYTEBREW_LOCAL_SESSION_SECRET or BYTEBREW_LOCAL_SESSION_FROM, or BYTEBREW_AUTH_MODE=external"
        )
    _mode(engine).load(_load_key(local.jwt_keys_dir or engine.data_dir / "keys"))


def _mode(engine: "Engine") -> LocalMode:
    mode = engine.auth_mode
    assert isinstance(mode, LocalMode)
    return mode


def _load_key(folder: Path) -> SigningKey:
    """The key pair in the folder, made on first use: `.priv` is seed and public key in hex, `.pub` the latter."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    private, public = folder / "jwt_ed25519.priv", folder / "jwt_ed25519.pub"
    if not private.exists():
        key = SigningKey.generate()
        with suppress(FileExistsError):  # another process was first: its pair is the one
            bytebrew.write_private(private, (bytes(key) + bytes(key.verify_key)).hex().encode() + b"\n")
    try:
        raw = bytes.fromhex(private.read_text().strip())
        key = SigningKey(raw[:32])
        if len(raw) != 64 or bytes(key.verify_key) != raw[32:]:
            raise ValueError("seed and public key do not belong together")
    except ValueError as error:
        raise bytebrew.BootError(f"{private} holds no Ed25519 key pair ({error}); restore or remove it") from error
    text = bytes(key.verify_key).hex() + "\n"
    if not public.exists() or public.read_text() != text:
        public.write_text(text)
    return key


def _within(address: str, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return ip.is_loopback or any(ip in network for network in networks)


def _is_loopback(host: str) -> bool:
    return host == "localhost" or _within(host, ())


def _known_host(header: str, listening: str) -> bool:
    """An IP address, localhost, or the name that the engine was told to listen on."""
    try:
        name = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    if name in ("localhost", listening) or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
