"""External auth mode: JWTs of another issuer, verified with its Ed25519 public keys."""

import logging
import math
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

import bytebrew
from bytebrew import (
    Actor,
    AuthMode,
    Engine,
    PublicKeys,
    Register,
    Settings,
    SettingsError,
    StateKey,
    Unauthorized,
    hookimpl,
    rfc3339,
)

log = logging.getLogger(__name__)

ANY = "*"
"""Setting of the audience that accepts JWTs for any service of the issuer."""
BROKEN_SECONDS = 60.0
"""How long the last keys stay valid while the file cannot be read, for example half written."""


class External(Struct, frozen=True, kw_only=True):
    """The settings of the external mode."""

    jwt_public_key_path: Annotated[
        Path | None, Meta(description="file of the issuer's public keys: hex lines, PEM blocks, a JWK or a JWK set")
    ] = None
    jwt_issuer: Annotated[str, Meta(description="the iss that a JWT must have, if any")] = ""
    jwt_audience: Annotated[
        str, Meta(description="the aud that a JWT must have, which the external mode needs; * for any, or for none")
    ] = ""
    external_default_scopes: Annotated[
        tuple[str, ...], Meta(description="scopes of a JWT that has no scope or scopes claim")
    ] = ("chat",)


class ExternalMode(AuthMode):
    """Verifies JWTs with the keys in a file, which is reloaded when it changes."""

    name = "external"

    def __init__(self, settings: External, engine: Engine) -> None:
        self._settings = settings
        self._known = engine.scopes
        self._keys: PublicKeys = {}
        self._seen: tuple[int, int, int] | None = None
        self._broken_since = math.inf

    def load(self) -> None:
        """Reads the key file; SettingsError if it is invalid."""
        path = self._settings.jwt_public_key_path
        assert path is not None
        try:
            self._seen = _version(path)
            self._keys = bytebrew.read_public_keys(path.read_text())
        except (OSError, ValueError) as error:
            raise SettingsError(f"BYTEBREW_JWT_PUBLIC_KEY_PATH: {path} holds no Ed25519 public key: {error}") from error
        self._broken_since = math.inf

    async def authenticate(self, token: str) -> Actor | None:
        """The user in the token's `sub`, with the scopes of its claim."""
        self._follow_file()
        settings = self._settings
        audience = "" if settings.jwt_audience == ANY else settings.jwt_audience
        try:
            claims = bytebrew.verify(token, self._keys, issuer=settings.jwt_issuer, audience=audience)
        except bytebrew.BadToken as error:
            raise Unauthorized(f"Invalid or expired token: {error}") from error
        subject = claims.get("sub")
        if not isinstance(subject, str) or not 0 < len(subject) <= 255:
            raise Unauthorized("Invalid token: its sub is missing or too long")
        scopes, until = self._scopes(claims), _time(claims["exp"])
        return Actor(subject=f"user:{subject}", name=subject, kind="user", scopes=scopes, expires_at=until)

    def _scopes(self, claims: dict[str, Any]) -> frozenset[str]:
        claim = next((claims[name] for name in ("scope", "scopes") if claims.get(name) is not None), None)
        if claim is None:
            names: Any = self._settings.external_default_scopes
        else:
            names = claim.split() if isinstance(claim, str) else claim
        if not isinstance(names, list | tuple):
            raise Unauthorized("Invalid token: its scopes are no list")
        # the token may carry scopes of other services, which are ignored
        return frozenset(name for name in names if isinstance(name, str) and name in self._known)

    def _follow_file(self) -> None:
        """Reloads a changed file; drops the keys when the file is deleted, or invalid for too long."""
        path = self._settings.jwt_public_key_path
        assert path is not None
        try:
            if _version(path) != self._seen:
                self._broken_since = min(self._broken_since, time.monotonic())
                self.load()
        except FileNotFoundError:
            if self._keys:
                log.error("BYTEBREW_JWT_PUBLIC_KEY_PATH: %s is gone, so no JWT is good until it is back", path)
            self._keys, self._seen = {}, None
        except OSError:
            self._broken_since, self._seen = min(self._broken_since, time.monotonic()), None
        except SettingsError as error:
            log.error("the keys that were read last stay in force for %g s: %s", BROKEN_SECONDS, error)
        if self._keys and time.monotonic() - self._broken_since > BROKEN_SECONDS:
            log.error("BYTEBREW_JWT_PUBLIC_KEY_PATH: %s has no key, so no JWT is good until it has", path)
            self._keys = {}


def _time(seconds: float) -> str:
    """When a JWT ends; "" for a time that no calendar has."""
    try:
        return rfc3339(datetime.fromtimestamp(seconds, UTC))
    except (OverflowError, ValueError, OSError):
        return ""


def _version(path: Path) -> tuple[int, int, int]:
    """Identifies a version of a file; the modification time alone is not unique."""
    status = path.stat()
    return status.st_mtime_ns, status.st_ino, status.st_size


MODE = StateKey[ExternalMode]("auth_external")


@hookimpl
def register_settings(register: Register[type[Struct]]) -> None:
    register(External)


@hookimpl
def register_auth_modes(register: Register[AuthMode], settings: Settings, engine: Engine) -> None:
    own = settings.of(External)
    faults = []
    if unknown := [name for name in own.external_default_scopes if name not in engine.scopes]:
        faults.append(f"BYTEBREW_EXTERNAL_DEFAULT_SCOPES: no such scope: {', '.join(unknown)}")
    if settings.core.auth_mode == ExternalMode.name:
        if own.jwt_public_key_path is None:
            faults.append("BYTEBREW_JWT_PUBLIC_KEY_PATH: the external auth mode needs the issuer's public key")
        if not own.jwt_audience:
            message = "without it a JWT that was made for another service of the issuer would be good here: set the aud"
            faults.append(f"BYTEBREW_JWT_AUDIENCE: {message} that is this engine's, or {ANY} if the issuer gives none")
    if faults:
        raise SettingsError("\n".join(faults))
    engine.state[MODE] = mode = ExternalMode(own, engine)
    register(mode)


@hookimpl
async def startup(engine: Engine) -> None:
    if engine.settings.core.auth_mode == ExternalMode.name:
        engine.state[MODE].load()
