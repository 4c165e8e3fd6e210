"""Finds the authorization server of an MCP server: RFC 9728, RFC 8414 and OpenID Connect Discovery."""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from msgspec import Struct

from bytebrew import Http, ProviderError, UpstreamError, within

from ..config import ServerRow, origin
from ..http_transports import ACCEPT
from ..jsonrpc import CLIENT, LEGACY
from .challenges import Challenge, challenge_of, scopes_of
from .endpoints import SECONDS, Endpoints
from .errors import OAuthError

_PROBE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": LEGACY[0], "capabilities": {}, "clientInfo": CLIENT},
}
CODE = re.compile(r"[a-z0-9_]{1,60}")
"""An error code that is repeated to people."""


class ResourceMetadata(Struct, frozen=True):
    """What a protected resource says of itself (RFC 9728 section 2)."""

    resource: str
    authorization_servers: tuple[str, ...] | None = None
    scopes_supported: tuple[str, ...] | None = None


class Issuer(Struct, frozen=True):
    """The metadata of an authorization server (RFC 8414 section 2)."""

    issuer: str
    token_endpoint: str
    authorization_endpoint: str = ""
    registration_endpoint: str | None = None
    revocation_endpoint: str | None = None
    scopes_supported: tuple[str, ...] | None = None
    grant_types_supported: tuple[str, ...] | None = None
    code_challenge_methods_supported: tuple[str, ...] | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] | None = None
    authorization_response_iss_parameter_supported: bool | None = None
    client_id_metadata_document_supported: bool | None = None


class Authority(NamedTuple):
    """Who authorizes the use of a server: `resource` identifies that (RFC 8707), None for `scopes` means unknown."""

    issuer: Issuer
    resource: str
    scopes: tuple[str, ...] | None


async def discover(
    http: Http, endpoints: Endpoints, server: ServerRow, headers: Mapping[str, str], challenge: Challenge | None = None
) -> Authority:
    """The authority of a server; OAuthError in words if there is none that can be used."""
    if challenge is None:
        challenge = await _challenge(http, server, headers)
    resource = await _resource(endpoints, server.url, challenge)
    listed = (resource.authorization_servers or ()) if resource else (_root(server.url),)  # 2025-03-26 has no RFC 9728
    if not listed:
        raise OAuthError("The server names no authorization server")
    if resource and server.auth_issuer and not any(same_issuer(server.auth_issuer, one) for one in listed):
        raise OAuthError("The server names another authorization server than its auth_issuer")
    wanted = server.auth_issuer or listed[0]
    scopes = challenge.scopes
    if scopes is None and resource is not None and resource.scopes_supported is not None:
        scopes = scopes_of(" ".join(resource.scopes_supported))
    return Authority(await _issuer(endpoints, wanted), resource.resource if resource else canonical(server.url), scopes)


def canonical(url: str) -> str:
    """The canonical URI of a server (RFC 8707 section 2)."""
    parts = urlsplit(url)
    path = "" if parts.path == "/" and not parts.query else parts.path
    return parts._replace(scheme=parts.scheme.lower(), netloc=parts.netloc.lower(), path=path, fragment="").geturl()


def same_issuer(issuer: str, other: str) -> bool:
    """Whether two identifiers are equal; a slash alone is no path."""
    return issuer == other or (issuer.rstrip("/") == other.rstrip("/") and urlsplit(issuer).path in ("", "/"))


async def _challenge(http: Http, server: ServerRow, headers: Mapping[str, str]) -> Challenge:
    """The challenge to a request without a token, empty if the server has none."""
    method, body = ("GET", None) if server.type == "sse" else ("POST", _PROBE)
    try:
        with within(SECONDS):
            async with http.request(method, server.url, headers={"Accept": ACCEPT, **headers}, json=body):
                return Challenge()
    except UpstreamError as error:
        return challenge_of(error.headers) if error.status in (401, 403) else Challenge()
    except (ProviderError, TimeoutError) as error:
        raise OAuthError("The server cannot be reached", passing=True) from error


async def _resource(endpoints: Endpoints, url: str, challenge: Challenge) -> ResourceMetadata | None:
    what = "metadata of the protected resource"
    for at in [challenge.resource_metadata] if challenge.resource_metadata else _resource_urls(url):
        found = await endpoints.get(at, what, ResourceMetadata)
        if found is None:
            continue
        if not _covers(found.resource, url):
            raise OAuthError(f"The {what} is for another resource")
        return found
    if challenge.resource_metadata:
        raise OAuthError(f"There is no {what} where the server says")
    return None


def _resource_urls(url: str) -> Iterator[str]:
    path = urlsplit(url).path.rstrip("/")
    well_known = f"{_root(url)}/.well-known/oauth-protected-resource"
    if path:
        yield well_known + path
    yield well_known


def _covers(resource: str, url: str) -> bool:
    """Whether a resource is the server, or one that has the server below its path.

    Servers under one origin may share a resource; the check keeps a token for another one from being asked for.
    """
    try:
        if origin(canonical(resource)) != origin(canonical(url)) or "#" in resource:
            return False
    except ValueError:
        return False
    whole, part = urlsplit(url).path.rstrip("/") + "/", urlsplit(resource).path.rstrip("/") + "/"
    return whole.startswith(part)


async def _issuer(endpoints: Endpoints, wanted: str) -> Issuer:
    what = "metadata of the authorization server"
    endpoints.check(wanted, "authorization server")
    for url in _issuer_urls(wanted):
        found = await endpoints.get(url, what, Issuer)
        if found is None:
            continue
        if not same_issuer(found.issuer, wanted):
            raise OAuthError(f"The {what} is that of another issuer")
        for field in ("token_endpoint", "authorization_endpoint", "registration_endpoint", "revocation_endpoint"):
            if address := getattr(found, field):
                endpoints.check(address, field.replace("_", " "))
        return found
    raise OAuthError("The authorization server has no metadata (RFC 8414)")


def _issuer_urls(issuer: str) -> Iterator[str]:
    root, path = _root(issuer), urlsplit(issuer).path.rstrip("/")
    yield f"{root}/.well-known/oauth-authorization-server{path}"
    yield f"{root}/.well-known/openid-configuration{path}"
    if path:
        yield f"{root}{path}/.well-known/openid-configuration"


def _root(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
