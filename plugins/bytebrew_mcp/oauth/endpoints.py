"""Requests to authorization servers, whose addresses come from metadata that a server chose."""

import asyncio
import socket
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec
from msgspec import Struct

from bytebrew import Http, ProviderError, ip_of, within

from .errors import OAuthError

SECONDS = 10.0
MAX_BYTES = 256 * 1024
MAX_URL = 2000
T = TypeVar("T", bound=Struct)


def is_loopback(host: str) -> bool:
    """Whether a host's name means this machine."""
    ip = ip_of(host)
    return ip.is_loopback if ip is not None else host == "localhost" or host.endswith(".localhost")


class Endpoints:
    """Sends requests to the endpoints of one MCP server's authorization server.

    They are at public addresses, unless the MCP server itself, which the operator chose, is at a private one.
    """

    def __init__(self, http: Http, server_url: str) -> None:
        self._http = http
        self._server = urlsplit(server_url).hostname or ""
        self._private: bool | None = None

    def check(self, url: str, what: str) -> None:
        """Raises OAuthError for a URL to which nothing is sent: it has to be https, or http on this machine."""
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            host = ""
        plain = url.isascii() and url.isprintable() and len(url) <= MAX_URL
        if not host or "@" in parts.netloc or parts.fragment or not plain:
            raise OAuthError(f"The {what} that it names is no URL")
        here = parts.scheme == "http" and is_loopback(host) and is_loopback(self._server)
        if parts.scheme != "https" and not here:
            raise OAuthError(f"The {what} that it names is not https")

    async def get(self, url: str, what: str, kind: type[T]) -> T | None:
        """A metadata document; None if there is none at this URL."""
        status, body = await self._ask("GET", url, what, {"Accept": "application/json"}, None)
        if status >= 500:
            raise OAuthError(f"The {what} cannot be read: HTTP {status}", passing=True)
        if status != 200:
            return None
        try:
            return msgspec.json.decode(body, type=kind, strict=True)
        except msgspec.ValidationError as error:
            raise OAuthError(f"The {what} is malformed") from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None  # some servers have a page for people at every path

    async def post(
        self,
        url: str,
        what: str,
        *,
        form: Mapping[str, str] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Status and body of the answer to a form or to JSON."""
        content = msgspec.json.encode(json) if form is None else urlencode(form).encode()
        kind = "application/json" if form is None else "application/x-www-form-urlencoded"
        sent = {"Accept": "application/json", "Content-Type": kind, **(headers or {})}
        return await self._ask("POST", url, what, sent, content)

    async def _ask(
        self, method: str, url: str, what: str, headers: Mapping[str, str], content: bytes | None
    ) -> tuple[int, bytes]:
        self.check(url, what)
        try:
            with within(SECONDS):
                answer = await self._http.ask(
                    method,
                    url,
                    headers=headers,
                    content=content,
                    public_only=not await self._is_private(),
                    limit=MAX_BYTES,
                )
        except (ProviderError, TimeoutError) as error:
            raise OAuthError(f"The {what} cannot be reached", passing=True) from error
        if answer.truncated:
            raise OAuthError(f"The {what} answers with more than {MAX_BYTES} bytes")
        return answer.status, answer.body

    async def _is_private(self) -> bool:
        """Whether the MCP server is at an address that is not public."""
        if self._private is None:
            self._private = is_loopback(self._server) or await _resolves_to_private(self._server)
        return self._private


async def _resolves_to_private(host: str) -> bool:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    addresses = [ip_of(str(address[0])) for *_, address in found]
    return any(ip is not None and not ip.is_global for ip in addresses)
