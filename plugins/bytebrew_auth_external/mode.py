"""Verifies the JWTs of another issuer."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Protocol

from msgspec import Meta, Struct

import bytebrew
from bytebrew import Actor, AuthMode, Http, PublicKeys, Scopes, Unauthorized, rfc3339

from .key_file import KeyFile
from .key_set import KeySet

ANY = "*"
"""Setting of the audience that accepts JWTs for any service of the issuer, and of the issuer that accepts any."""
CLAIMS = ("scope", "scopes", "scp", "permissions")
"""Claims with scopes: OAuth 2.0's (RFC 9068), a common plural, Entra's, and Auth0's with role-based access control."""


class External(Struct, frozen=True, kw_only=True):
    """The settings of the external mode."""

    jwt_public_key_path: Annotated[
        Path | None, Meta(description="file of the issuer's public keys: hex lines, PEM blocks, a JWK or a JWK set")
    ] = None
    jwt_jwks_url: Annotated[
        str,
        Meta(
            description="URL of the issuer's JWK set, or of its /.well-known/openid-configuration, in place of a file"
        ),
    ] = ""
    jwt_issuer: Annotated[
        str, Meta(description="the iss that a JWT must have, which a URL of keys needs; * for any")
    ] = ""
    jwt_audience: Annotated[
        str, Meta(description="the aud that a JWT must have, which the external mode needs; * for any, or for none")
    ] = ""
    external_default_scopes: Annotated[
        tuple[str, ...],
        Meta(description="scopes of a JWT that has none of the claims scope, scopes, scp and permissions"),
    ] = ("chat",)


class KeySource(Protocol):
    """Where the issuer's public keys come from."""

    async def start(self) -> None:
        """Gets the keys; SettingsError if that can never work."""

    async def stop(self) -> None:
        """Ends what runs in the background."""

    def current(self) -> PublicKeys:
        """The keys that are good at this moment."""

    async def renew(self) -> bool:
        """Looks for newer keys; whether there may be some."""


class ExternalMode(AuthMode):
    """Verifies JWTs with the issuer's public keys."""

    name = "external"

    def __init__(self, settings: External, scopes: Scopes) -> None:
        self._settings, self._known = settings, scopes
        self._source: KeySource | None = None

    async def start(self, http: Http) -> None:
        """Gets the keys; SettingsError if there are none."""
        settings = self._settings
        if settings.jwt_public_key_path is not None:
            self._source = KeyFile(settings.jwt_public_key_path)
        else:
            self._source = KeySet(settings.jwt_jwks_url, settings.jwt_issuer.removeprefix(ANY), http)
        await self._source.start()

    async def stop(self) -> None:
        """Ends what runs in the background."""
        if self._source is not None:
            await self._source.stop()

    async def authenticate(self, token: str) -> Actor | None:
        """The user in the token's `sub`, with the scopes of its claims."""
        try:
            claims = await self._verified(token)
        except bytebrew.BadToken as error:
            raise Unauthorized(f"Invalid or expired token: {error}") from error
        subject = claims.get("sub")
        if not isinstance(subject, str) or not 0 < len(subject) <= 255 or "\0" in subject:
            raise Unauthorized("Invalid token: its sub is missing, too long or has the character U+0000")
        scopes, until = self._scopes(claims), _time(claims["exp"])
        return Actor(subject=f"user:{subject}", name=subject, kind="user", scopes=scopes, expires_at=until)

    async def _verified(self, token: str) -> dict[str, Any]:
        assert self._source is not None
        issuer, audience = (
            "" if wanted == ANY else wanted for wanted in (self._settings.jwt_issuer, self._settings.jwt_audience)
        )
        try:
            return bytebrew.verify(token, self._source.current(), issuer=issuer, audience=audience)
        except bytebrew.UnknownKey:
            if not await self._source.renew():
                raise
            return bytebrew.verify(token, self._source.current(), issuer=issuer, audience=audience)

    def _scopes(self, claims: dict[str, Any]) -> frozenset[str]:
        """The scopes of the first claim that has one of the engine; the default if there is no claim at all."""
        present = [claims[name] for name in CLAIMS if claims.get(name) is not None]
        if not present:
            return frozenset(self._settings.external_default_scopes)
        for claim in present:
            names: Any = claim.split() if isinstance(claim, str) else claim
            if not isinstance(names, list):
                raise Unauthorized("Invalid token: its scopes are no list")
            # the token may carry scopes of other services, which are ignored
            if known := frozenset(name for name in names if isinstance(name, str) and name in self._known):
                return known
        return frozenset()


def _time(seconds: float) -> str:
    """When a JWT ends; "" for a time that no calendar has."""
    try:
        return rfc3339(datetime.fromtimestamp(seconds, UTC))
    except (OverflowError, ValueError, OSError):
        return ""
