"""The settings of the local auth mode."""

import ipaddress
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from bytebrew import Core, Duration, SettingsError

from .addresses import is_loopback

LONGEST = 366 * 86400
"""Longest local session, in seconds."""


class Local(Struct, frozen=True, kw_only=True):
    """The settings of the local mode."""

    local_session_ttl: Annotated[Duration, Meta(description="how long a local session lasts")] = Duration(3600)
    local_session_max: Annotated[
        Duration, Meta(description="how long it may last with all its refreshing, where that is longer")
    ] = Duration(86400)
    local_session_from: Annotated[
        tuple[str, ...],
        Meta(description="networks (CIDR) from which anyone may open a local session, with no proof of who it is"),
    ] = ()
    local_session_secret: Annotated[
        str, Meta(min_length=16, description="a secret that opening a local session then takes, as its bearer token")
    ] = ""
    jwt_keys_dir: Annotated[Path | None, Meta(description="folder of the local key pair; <data>/keys if empty")] = None

    def end(self, claims: dict[str, Any]) -> float:
        """The latest expiry of a session with all its refreshes, in seconds since 1970."""
        begun: float = claims.get("auth_time", claims.get("iat", 0))
        return begun + max(self.local_session_ttl, self.local_session_max)

    def check(self, core: Core) -> None:
        """Raises SettingsError for invalid values, and if anyone who reaches the port would become admin."""
        try:
            for text in self.local_session_from:
                ipaddress.ip_network(text, strict=False)
        except ValueError as error:
            raise SettingsError(f"BYTEBREW_LOCAL_SESSION_FROM: {error}") from error
        for name, seconds in (("TTL", self.local_session_ttl), ("MAX", self.local_session_max)):
            if not 1 <= seconds <= LONGEST:
                raise SettingsError(f"BYTEBREW_LOCAL_SESSION_{name}: choose between 1s and 366d")
        if not is_loopback(core.host) and not self.local_session_from and not self.local_session_secret:
            raise SettingsError(
                f"BYTEBREW_HOST: on {core.host} others reach the port, so say how they become admin: "
                "set BYTEBREW_LOCAL_SESSION_SECRET or BYTEBREW_LOCAL_SESSION_FROM, or BYTEBREW_AUTH_MODE=external"
            )
