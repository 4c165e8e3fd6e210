"""An issuer's JWK set at a URL: cached, refreshed in the background, and fetched anew for a key that is not known."""

import asyncio
import ipaddress
import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

import bytebrew
from bytebrew import EngineError, Http, ProviderError, PublicKeys, SettingsError

log = logging.getLogger(__name__)

VARIABLE = "BYTEBREW_JWT_JWKS_URL"
REFRESH_SECONDS = 300.0
"""How long a key that the issuer has withdrawn is good here, at most, while the issuer answers."""
RETRY_SECONDS = 30.0
"""Least time from one fetch to the next, whatever the JWTs of callers name as their key."""
STALE_SECONDS = 3600.0
"""How long the last keys stay valid while the issuer cannot be reached."""
FETCH_SECONDS = 10.0
MAX_BYTES = 512 * 1024
DISCOVERY = ("/.well-known/openid-configuration", "/.well-known/oauth-authorization-server")
"""Ends of paths of metadata (OpenID Connect Discovery 1.0, RFC 8414), whose jwks_uri is the URL of the set."""


class IssuerUnreachable(EngineError):
    """The keys of the JWTs' issuer cannot be fetched, so that no JWT can be verified for the moment."""

    status: ClassVar[int] = 503
    code = "issuer_unreachable"

    def __init__(self) -> None:
        message = "The keys of the tokens' issuer cannot be fetched for the moment; try again"
        super().__init__(message, headers={"Retry-After": f"{RETRY_SECONDS:g}"})


class Metadata(Struct):
    """What is used of an issuer's metadata."""

    jwks_uri: str
    issuer: str = ""


class KeySet:
    """The keys at the URL BYTEBREW_JWT_JWKS_URL, or at the jwks_uri of the metadata there."""

    def __init__(
        self,
        url: str,
        issuer: str,
        http: Http,
        *,
        refresh: float = REFRESH_SECONDS,
        retry: float = RETRY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url, self._issuer, self._http, self._clock = url, issuer, http, clock
        self._refresh, self._retry = refresh, retry
        self._keys: PublicKeys = {}
        self._fetched = self._tried = -math.inf
        self._failure = ""
        self._fetching: asyncio.Task[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Fetches the keys; SettingsError for an answer that is none, and only a warning if there is no answer."""
        try:
            await self._fetch()
        except (ProviderError, TimeoutError) as error:
            self._failed(error)
        except ValueError as error:
            raise SettingsError(f"{VARIABLE}: {_shown(self._url)}: {error}") from error
        self._refreshing = asyncio.create_task(self._keep_fresh(), name="issuer's keys")

    async def stop(self) -> None:
        """Ends the refreshing."""
        for task in filter(None, (self._refreshing, self._fetching)):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def current(self) -> PublicKeys:
        """The keys that were fetched last; IssuerUnreachable if they are too old."""
        if self._clock() - self._fetched > STALE_SECONDS:
            raise IssuerUnreachable
        return self._keys

    async def renew(self) -> bool:
        """Fetches the keys for a JWT of an unknown key; False if they were fetched a moment ago."""
        if self._fetching is None:
            if self._clock() - self._tried < self._retry:
                return False
            self._fetching = asyncio.create_task(self._try(), name="issuer's new keys")
            self._fetching.add_done_callback(self._done)
        await asyncio.shield(self._fetching)  # it goes on for others if this caller goes away
        return True

    def _done(self, task: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(self._retry if self._failure else self._refresh)
            await self._try()

    async def _try(self) -> None:
        try:
            await self._fetch()
        except (ProviderError, TimeoutError, ValueError) as error:
            self._failed(error)

    async def _fetch(self) -> None:
        """Fetches the set; ProviderError and TimeoutError if the issuer is away, ValueError for another answer."""
        self._tried = self._clock()
        async with asyncio.timeout(FETCH_SECONDS):
            url = self._url
            if urlsplit(url).path.endswith(DISCOVERY):
                url = self._jwks_uri(await self._get(url))
            body = await self._get(url)
            if not body.lstrip().startswith(b"{"):
                raise ValueError("it is no JWK set")
            keys = bytebrew.read_public_keys(body.decode())
        if self._failure:
            log.info("%s: %s answers again", VARIABLE, _shown(self._url))
        self._keys, self._fetched, self._failure = keys, self._clock(), ""

    async def _get(self, url: str) -> bytes:
        answer = await self._http.ask("GET", url, headers={"Accept": "application/json"}, limit=MAX_BYTES)
        if answer.status in (408, 425, 429) or answer.status >= 500:
            raise ProviderError(f"it answers HTTP {answer.status}")
        if 300 <= answer.status < 400:
            raise ValueError(f"it redirects (HTTP {answer.status}); set the URL that it leads to")
        if answer.status != 200:
            raise ValueError(f"it answers HTTP {answer.status}")
        if answer.truncated:
            raise ValueError(f"the answer is longer than {MAX_BYTES} bytes")
        return answer.body

    def _jwks_uri(self, body: bytes) -> str:
        try:
            metadata = msgspec.json.decode(body, type=Metadata)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ValueError("it is no metadata of an issuer with a jwks_uri") from error
        if self._issuer and metadata.issuer != self._issuer:
            raise ValueError(f"the metadata is of the issuer {metadata.issuer[:300]!r}, not of BYTEBREW_JWT_ISSUER")
        if fault := url_fault(metadata.jwks_uri):
            raise ValueError(f"its jwks_uri {fault}")
        if not _is_loopback(self._url) and _is_loopback(metadata.jwks_uri):
            raise ValueError("its jwks_uri is on this machine, and the metadata is not")
        return metadata.jwks_uri

    def _failed(self, error: Exception) -> None:
        """Logs a failure, once for each reason."""
        reason = str(error) or f"no answer within {FETCH_SECONDS:g} s"
        if reason != self._failure:
            left = STALE_SECONDS - (self._clock() - self._fetched)
            state = f"the last keys are good for {left:.0f} s more" if left > 0 else "no JWT can be verified"
            log.error("%s: the keys cannot be fetched, so %s: %s: %s", VARIABLE, state, _shown(self._url), reason)
        self._failure = reason


def url_fault(url: str) -> str:
    """Why keys may not be fetched from a URL; "" if they may."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is no URL"
    if parts.username is not None:
        return "holds a user name; keys of an issuer are public"
    if parts.scheme not in ("http", "https") or not host:
        return "is not https://... in full"
    if parts.scheme == "http" and not _is_loopback(url):
        return "is not https: whoever sits on the way could put keys of their own in"
    return ""


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shown(url: str) -> str:
    """The URL without its query."""
    return url.partition("?")[0]
