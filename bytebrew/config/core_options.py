"""The core's own runtime options."""

import logging
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from msgspec import Meta

from bytebrew.contract.provider import Provider
from bytebrew.contract.runtime_option import Option
from bytebrew.store import retention

Origin = Annotated[
    str,
    Meta(pattern=r"^https?://[^\s/?#*]+\Z", max_length=255, description="an origin: scheme, host and perhaps a port"),
]
"""A page's origin (RFC 6454 section 6.2), such as https://app.example."""
HeaderName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}\Z", description="the name of a header")]
ANY_BASE_URL = Option(
    key="byok.base_url",
    type=bool,
    default=False,
    help="whether callers with a key of their own may name its base URL, at a public address",
)
OWN_KEY_ORIGINS = Option(
    key="byok.origins",
    type=Annotated[tuple[Origin, ...], Meta(max_length=100)],
    default=(),
    help="origins of base URLs that callers with a key of their own may name, also at private addresses",
)
BODY_HEADERS = Option(
    key="chat.body_headers",
    type=Annotated[tuple[HeaderName, ...], Meta(max_length=100)],
    default=(),
    help="names of headers that a chat's body may bring for tools; none replaces a header of the request",
)
CORS_ORIGINS = Option(
    key="widget.origins",
    type=Annotated[tuple[Origin, ...], Meta(max_length=500)],
    default=(),
    help="origins whose pages may call, such as https://app.example, beside those of BYTEBREW_CORS_ORIGINS",
)


def core_options(log_level: str, providers: Iterable[Provider]) -> Iterator[Option]:
    """Every option of the core; `log_level` is the default of `log.level`."""
    yield from (*retention.OPTIONS, ANY_BASE_URL, OWN_KEY_ORIGINS, BODY_HEADERS)
    yield from map(own_key_option, providers)
    yield Option(
        key="log.level",
        type=Literal["debug", "info", "warning", "error"],
        default=log_level,
        help="least severe record to log, in the place of BYTEBREW_LOG_LEVEL",
        applied=lambda level: logging.getLogger().setLevel(level.upper()),
    )
    yield CORS_ORIGINS


def own_key_option(provider: Provider) -> Option:
    """The option that lets callers bring their own key for a provider."""
    words = f"whether callers may bring their own key for {provider.type}"
    return Option(key=f"byok.{provider.type}", type=bool, default=False, help=words)
