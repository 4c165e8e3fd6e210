"""Bring your own key: request headers select a caller's own model for one message."""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any
from urllib.parse import urlsplit

from msgspec import Meta

from bytebrew import (
    ChosenModel,
    Detail,
    Engine,
    Forbidden,
    Http,
    InvalidRequest,
    ModelChooser,
    ModelRequest,
    Option,
    Origin,
    Provider,
    ProviderError,
    ProviderEvent,
    Register,
    Request,
    Target,
    UpstreamError,
    hookimpl,
    option_value,
)

PROVIDER, KEY, MODEL, BASE_URL = "x-model-provider", "x-model-api-key", "x-model-name", "x-model-base-url"
_PLAIN = re.compile(
    r"https?://(?:\[[0-9A-F:.]+\]|[A-Z0-9.-]+)(?::[0-9]{1,5})?(?:/[A-Z0-9._~:@/-]*)?", re.IGNORECASE | re.ASCII
)
_MODEL = re.compile(r"[A-Za-z0-9@._~:/+ -]{1,500}")
_CLIMBS = re.compile(r"(?:^|/)\.{1,2}(?:/|$)")


ANY_BASE_URL = Option(
    key="byok.base_url",
    type=bool,
    default=False,
    help="whether callers with a key of their own may name its base URL, at a public address",
    before="chat.body_headers",
)
ORIGINS = Option(
    key="byok.origins",
    type=Annotated[tuple[Origin, ...], Meta(max_length=100)],
    default=(),
    help="origins of base URLs that callers with a key of their own may name, also at private addresses",
    before="chat.body_headers",
)


def provider_option(provider: Provider) -> Option:
    """The option that lets callers bring their own key for a provider."""
    message = f"whether callers may bring their own key for {provider.type}"
    return Option(key=f"byok.{provider.type}", type=bool, default=False, help=message, before="log.level")


class OwnKey(ModelChooser):
    """Chooses the caller's model if any of its headers is sent."""

    headers = {
        "X-Model-Provider": "the type of a model of the caller's own, for this message",
        "X-Model-API-Key": "its key",
        "X-Model-Name": "its name with its vendor",
        "X-Model-Base-URL": "its address, where the type needs one",
    }

    async def choose(self, request: Request[Any]) -> ChosenModel:
        """The model of the headers, with their key, which is kept in memory only.

        Raises Forbidden if the settings do not allow it, and InvalidRequest if a header is missing: the request never
        falls back to the operator's model.
        """
        engine, headers = request.engine, request.headers
        provider = _named(engine, headers.get(PROVIDER, ""))
        if provider is None:
            message = f"X-Model-Provider: known are {', '.join(sorted(engine.providers))}"
            raise InvalidRequest(message, details=[Detail("$.headers.X-Model-Provider", "is no provider")])
        allowed = await engine.db.read(option_value, provider_option(provider))
        if not allowed:
            message = f"Own keys are off for provider '{provider.type}'; an admin sets byok.{provider.type} to true"
            raise Forbidden(message, code="byok_disabled")
        for name in (KEY, MODEL):
            if not headers.get(name):
                header = name.title().replace("Api", "API")
                message = f"{header} is missing: own keys need X-Model-Provider, X-Model-API-Key and X-Model-Name"
                raise InvalidRequest(message, details=[Detail(f"$.headers.{header}", "is missing")])
        if not _MODEL.fullmatch(headers[MODEL]) or _CLIMBS.search(headers[MODEL]):
            details = [Detail("$.headers.X-Model-Name", "is no name of a model")]  # some vendors' URLs contain it
            raise InvalidRequest("X-Model-Name: write letters, digits and . _ - : / @ + only", details=details)
        base_url, listed = await _base_url(request, provider)
        target = Target(name=f"own:{provider.type}", type=provider.type, model_name=headers[MODEL], base_url=base_url)
        served = CustomUrlProvider(provider, listed=listed) if base_url else None
        return ChosenModel(target=target, key=headers[KEY], provider=served)


class CustomUrlProvider(Provider):
    """A provider at a base URL that the caller chose; connects to public addresses and to allowed origins only.

    An error of an allowed origin, which may be private, shows only the status, so that its content does not leak.
    """

    def __init__(self, provider: Provider, *, listed: bool) -> None:
        vars(self).update(type=provider.type, capabilities=provider.capabilities)  # class variables of the provider
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
            message = "The model at X-Model-Base-URL failed; what the address answered is not shown"
            raise ProviderError(message, code=error.code, retry=error.retry, retry_after=error.retry_after) from error


async def _base_url(request: Request[Any], provider: Provider) -> tuple[str, bool]:
    """The base URL in the headers, or "", and whether its origin is on the operator's list."""
    text = request.headers.get(BASE_URL, "")
    where = "$.headers.X-Model-Base-URL"
    if not text:
        if "base_url" in provider.needs:
            message = f"X-Model-Base-URL is missing: provider '{provider.type}' has no address of its own"
            raise InvalidRequest(message, details=[Detail(where, "is missing")])
        return "", False
    if not _PLAIN.fullmatch(text) or _CLIMBS.search(text) or len(text) > 2000:
        details = [Detail(where, "is no http or https URL of a host and a path, without ?, #, % and ..")]
        raise InvalidRequest("X-Model-Base-URL: write a plain http or https URL", details=details)
    db = request.engine.db
    if _origin(text) in {_origin(one) for one in await db.read(option_value, ORIGINS)}:
        return text, True
    if not await db.read(option_value, ANY_BASE_URL):
        message = f"Callers may not name this base URL; an admin adds its origin to {ORIGINS.key}"
        raise Forbidden(f"{message}, or sets {ANY_BASE_URL.key} to true for public ones", code="byok_disabled")
    return text, False


def _origin(url: str) -> tuple[str, str, int | None]:
    """The origin of a URL (RFC 6454 section 4)."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:  # such as a port above 65535
        return url, "", None
    return parts.scheme, parts.hostname or "", port


def _named(engine: Engine, name: str) -> Provider | None:
    """The provider of a type, or of one of its aliases."""
    providers = engine.providers
    return providers.get(name) or next((one for one in providers.values() if name in one.aliases), None)


@hookimpl
def register_model_choosers(register: Register[ModelChooser]) -> None:
    register(OwnKey())


@hookimpl
def register_options(register: Register[Option], engine: Engine) -> None:
    for option in (ANY_BASE_URL, ORIGINS, *map(provider_option, engine.providers.values())):
        register(option)
