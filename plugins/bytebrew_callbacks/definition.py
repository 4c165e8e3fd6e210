"""Definitions of callbacks, and which URLs the engine may call."""

from collections.abc import Iterable
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from bytebrew import Detail, Duration, InvalidRequest, Name, NotificationName, SettingsError, Url, webhook_key

Events = Annotated[tuple[NotificationName, ...], Meta(min_length=1, max_length=20)]
Schema = Annotated[str, Meta(max_length=63)]
Secret = Annotated[str, Meta(max_length=255)]
Origin = tuple[str, str, int | None]


class CallbackSettings(Struct, frozen=True, kw_only=True):
    """The plugin's settings."""

    callback_origins: Annotated[
        tuple[str, ...], Meta(description="origins that callbacks may call at any address and over http")
    ] = ()
    callback_secret: Annotated[
        tuple[str, ...],
        Meta(description="the whsec_ secret that signs what a task's callback_url is sent; two while it is replaced"),
    ] = ()
    callback_timeout: Annotated[Duration, Meta(description="time limit of one try of a callback")] = Duration(15)


class NewCallback(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A callback to create: its `url` is sent each of the `events`, of one schema alone if it names one.

    Without a `secret` one is made, which is shown this once.
    """

    name: Name
    url: Url
    events: Events
    schema: Schema = ""
    enabled: bool = True
    secret: Secret = ""


class CallbackPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes to a callback; what is left out stays, and so does the secret when it is empty; it needs one."""

    url: Url | UnsetType = UNSET
    events: Events | UnsetType = UNSET
    schema: Schema | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    secret: Secret | UnsetType | None = UNSET


def changes(patch: Struct) -> dict[str, Any]:
    """The fields that a patch sets."""
    return {name: value for name, value in msgspec.structs.asdict(patch).items() if value is not UNSET}


def origin(url: str) -> Origin:
    """The origin of a URL (RFC 6454 section 4)."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:  # such as a port above 65535
        return url, "", None
    return parts.scheme, parts.hostname or "", port


class Policy:
    """The URLs that callbacks may have: https at public addresses, and any at the operator's listed origins."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._listed = {origin(one) for one in origins}

    def is_listed(self, url: str) -> bool:
        """Whether the operator lists the origin, which may then be at a private address."""
        return origin(url) in self._listed

    def check(self, url: str, path: str) -> None:
        """InvalidRequest unless the URL may be called; its address is checked when it is connected to."""
        if origin(url)[0] != "https" and not self.is_listed(url):
            message = "is no https URL, and BYTEBREW_CALLBACK_ORIGINS does not list its origin"
            raise InvalidRequest(f"'{url[:255]}' {message}", details=[Detail(path, message)])


def checked_secret(secret: str) -> str:
    """A secret that an operator has set; a variable is resolved at each try."""
    if secret and not secret.startswith("${"):
        try:
            webhook_key(secret)
        except ValueError as error:
            raise InvalidRequest(f"The secret {error}", details=[Detail("$.secret", str(error))]) from error
    return secret


def checked_settings(settings: CallbackSettings) -> None:
    """SettingsError unless origins are origins and secrets are secrets."""
    for one in settings.callback_origins:
        scheme, host, port = origin(one)
        if scheme not in ("http", "https") or not host or port is None or urlsplit(one).path not in ("", "/"):
            raise SettingsError(
                f"BYTEBREW_CALLBACK_ORIGINS: '{one}' is no origin; write one such as http://10.0.0.7:8080"
            )
    for secret in settings.callback_secret:
        try:
            webhook_key(secret)
        except ValueError as error:
            raise SettingsError(f"BYTEBREW_CALLBACK_SECRET: a secret {error}") from error
