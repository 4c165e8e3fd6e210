"""Bring your own key: a caller's own model for one request, from its headers."""

from typing import Any

import msgspec

from bytebrew.api import Request
from bytebrew.config import Url
from bytebrew.errors import Detail, Forbidden, InvalidRequest
from bytebrew.options import Option
from bytebrew.providers import BoundModel, Provider, Target, named
from bytebrew.store import settings
from bytebrew.wording import told

PROVIDER, KEY, MODEL, BASE_URL = "x-model-provider", "x-model-api-key", "x-model-name", "x-model-base-url"
HEADERS = frozenset({PROVIDER, KEY, MODEL, BASE_URL})
"""Each of them alone says that the caller means to bring a model of its own."""
ANY_BASE_URL = Option(
    key="byok.base_url",
    type=bool,
    default=False,
    help="whether callers with a key of their own may name its base URL, which this machine then calls, private or not",
)


def option(provider: Provider) -> Option:
    """The setting that lets callers bring keys for a provider."""
    words = f"whether callers may bring their own key for {provider.type}"
    return Option(key=f"byok.{provider.type}", type=bool, default=False, help=words)


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
    allowed = await engine.db.read(settings.value, option(provider).key, False)
    if not allowed:
        words = f"Own keys are off for provider '{provider.type}'; an admin sets byok.{provider.type} to true"
        raise Forbidden(words, code="byok_disabled")
    for name in (KEY, MODEL):
        if not headers.get(name):
            header = name.title().replace("Api", "API")
            words = f"{header} is missing: own keys need X-Model-Provider, X-Model-API-Key and X-Model-Name"
            raise InvalidRequest(words, details=[Detail(f"$.headers.{header}", "is missing")])
    base_url = await _base_url(request, provider)
    target = Target(name=f"own:{provider.type}", type=provider.type, model_name=headers[MODEL], base_url=base_url)
    return engine.models.bind(target, key=headers[KEY])


async def _base_url(request: Request[Any], provider: Provider) -> str:
    text = request.headers.get(BASE_URL, "")
    where = "$.headers.X-Model-Base-URL"
    if not text:
        if "base_url" in provider.needs:
            words = f"X-Model-Base-URL is missing: provider '{provider.type}' has no address of its own"
            raise InvalidRequest(words, details=[Detail(where, "is missing")])
        return ""
    if not await request.engine.db.read(settings.value, ANY_BASE_URL.key, False):
        words = f"Callers may not name a base URL; an admin sets {ANY_BASE_URL.key} to true"
        raise Forbidden(words, code="byok_disabled")
    try:
        return msgspec.convert(text, Url)
    except msgspec.ValidationError as error:
        details = [Detail(where, told(str(error), Url))]
        raise InvalidRequest("X-Model-Base-URL: write an http or https URL", details=details) from error
