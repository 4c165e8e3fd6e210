"""Checks the fields of a server with `auth_type: oauth2`."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from bytebrew import Detail

from .endpoints import is_loopback


def oauth_faults(values: Mapping[str, Any]) -> Iterator[Detail]:
    """What does not fit, each with its path."""
    if values["type"] == "stdio":
        yield Detail("$.auth_type", "oauth2 is for servers with a url; a command has its credentials in env")
        return
    for field in ("url", "auth_issuer"):
        if values[field] and not _is_safe(values[field]):
            yield Detail(f"$.{field}", "has to be https with oauth2, except on this machine")
    if any(name.lower() == "authorization" for name in values["headers"]):
        yield Detail("$.headers.Authorization", "is the access token with oauth2")
    secret = bool(values["sealed_key"] or values["auth_key_env"])
    if values["auth_client_id"] and not values["auth_issuer"]:
        yield Detail("$.auth_issuer", "is needed with auth_client_id: its secret is for no other authorization server")
    if secret and not values["auth_client_id"]:
        yield Detail("$.auth_client_id", "is needed with a secret")
    if values["auth_grant"] == "client_credentials" and not (values["auth_client_id"] and secret):
        yield Detail("$.auth_client_id", "client_credentials needs it, with the secret in auth_key")


def _is_safe(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" or is_loopback(parts.hostname or "")
    except ValueError:
        return False
