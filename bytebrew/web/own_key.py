"""Bring your own key: a caller's own model for one request, from its headers."""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

from msgspec.structs import replace

from bytebrew.base.errors import Detail, Forbidden, InvalidRequest, ProviderError
from bytebrew.base.http_client.client import Http, UpstreamError
from bytebrew.config.core_options import ANY_BASE_URL, OWN_KEY_ORIGINS, own_key_option
from bytebrew.contract.messages import ModelRequest
from bytebrew.contract.provider import Provider, ProviderEvent, Target, named
from bytebrew.contract.route import Request
from bytebrew.conversation.model_calls import BoundModel
from bytebrew.store import settings

PROVIDER, KEY, MODEL, BASE_URL = "x-model-provider", "x-model-api-key", "x-model-name", "x-model-base-url"
HEADERS = frozenset({PROVIDER, KEY, MODEL, BASE_URL})
"""Each of them alone says that the caller means to bring a model of its own."""
_PLAIN = re.compile(
    r"https?://(?:\[[0-9A-F:.]+\]|[A-Z0-9.-]+)(?::[0-9]{1,5})?(?:/[A-Z0-9._~:@/-]*)?", re.IGNORECASE | re.ASCII
)
_MODEL = re.compile(r"[A-Za-z0-9@._~:/+ -]{1,500}")
_CLIMBS = re.compile(r"(?:^|/)\.{1,2}(?:/|$)")


async def own_model(request: Request[Any]) -> BoundModel:
    """The model that the headers name, with the key that they carry, which is kept in memory alone.

    Raises Forbidden where the settings do not allow it, and InvalidRequest where a header is missing: a caller who
    means to pay never falls back to the operator's model.
    """
    engine, headers = request.engine, request.headers
    provider = named(engine.providers, headers.get(PROVIDER, ""))
    if provider is None:
        words = f"X-Model-Provider: known are {', '.join(sorted(engine.providers))}"
        raise InvalidRequest(words, details=[Detail("$.headers.X-Model-Provider", "is no provider")])
    allowed = await engine.db.read(settings.value, own_key_option(provider).key, False)
    if not allowed:
        words = f"Own keys are off for provider '{provider.type}'; an admin sets byok.{provider.type} to true"
        raise Forbidden(words, code="byok_disabled")
    for name in (KEY, MODEL):
        if not headers.get(name):
            header = name.title().replace("Api", "API")
            words = f"{header} is missing: own keys need X-Model-Provider, X-Model-API-Key and X-Model-Name"
            raise InvalidRequest(words, details=[Detail(f"$.headers.{header}", "is missing")])
    if not _MODEL.fullmatch(headers[MODEL]) or _CLIMBS.search(headers[MODEL]):
        details = [Detail("$.headers.X-Model-Name", "is no name of a model")]  # for some vendors it is part of a path
        raise InvalidRequest("X-Model-Name: write letters, digits and . _ - : / @ + only", details=details)
    base_url, listed = await _base_url(request, provider)
    target = Target(name=f"own:{provider.type}", type=provider.type, model_name=headers[MODEL], base_url=base_url)
    bound = engine.models.bind(target, key=headers[KEY])
    return replace(bound, provider=Elsewhere(provider, listed=listed)) if base_url else bound


class Elsewhere(Provider):
    """A provider whose base URL a caller has named: only public addresses are called, or those on the operator's list.

    Of a listed one, which may be private, nothing but the status of a failure is shown: a caller is not to read there.
    """

    def __init__(self, provider: Provider, *, listed: bool) -> None:
        vars(self).update(type=provider.type, capabilities=provider.capabilities)  # an author states them by class
        self._provider, self._listed = provider, listed

    async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
        """The provider's events."""
        try:
            async with aclosing(self._provider.stream(request, http if self._listed else http.public)) as events:
                async for event in events:
                    yield event
        except UpstreamError as error:
            if not self._listed:
                raise
            raise UpstreamError(error.status, b"", error.retry_after) from error
        except ProviderError as error:
            if not self._listed:
                raise
            words = "The model at X-Model-Base-URL failed; what the address answered is not shown"
            raise ProviderError(words, code=error.code, retry=error.retry, retry_after=error.retry_after) from error


async def _base_url(request: Request[Any], provider: Provider) -> tuple[str, bool]:
    """The base URL that the headers name, or "", and whether its origin is on the operator's list."""
    text = request.headers.get(BASE_URL, "")
    where = "$.headers.X-Model-Base-URL"
    if not text:
        if "base_url" in provider.needs:
            words = f"X-Model-Base-URL is missing: provider '{provider.type}' has no address of its own"
            raise InvalidRequest(words, details=[Detail(where, "is missing")])
        return "", False
    if not _PLAIN.fullmatch(text) or _CLIMBS.search(text) or len(text) > 2000:
        details = [Detail(where, "is no http or https URL of a host and a path, without ?, #, % and ..")]
        raise InvalidRequest("X-Model-Base-URL: write a plain http or https URL", details=details)
    stored = await request.engine.db.read(settings.changed)
    if _origin(text) in {_origin(one) for one in stored.get(OWN_KEY_ORIGINS.key, ((), ""))[0]}:
        return text, True
    if not stored.get(ANY_BASE_URL.key, (False, ""))[0]:
        words = f"Callers may not name this base URL; an admin adds its origin to {OWN_KEY_ORIGINS.key}"
        raise Forbidden(f"{words}, or sets {ANY_BASE_URL.key} to true for public ones", code="byok_disabled")
    return text, False


def _origin(url: str) -> tuple[str, str, int | None]:
    """The parts of a URL that say whom it reaches (RFC 6454 section 4)."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:  # such as a port past 65535, to which no request goes
        return url, "", None
    return parts.scheme, parts.hostname or "", port
