"""The core's runtime options."""

import logging
from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from bytebrew.base.urls import Origin
from bytebrew.contract.configuration.runtime_option import Option
from bytebrew.store import retention

HeaderName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}\Z", description="the name of a header")]
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


def core_options(log_level: str) -> Iterator[Option]:
    """Every option of the core; `log_level` is the default of `log.level`."""
    yield from (*retention.OPTIONS, BODY_HEADERS)
    yield Option(
        key="log.level",
        type=Literal["debug", "info", "warning", "error"],
        default=log_level,
        help="least severe record to log, in the place of BYTEBREW_LOG_LEVEL",
        applied=lambda level: logging.getLogger().setLevel(level.upper()),
    )
    yield CORS_ORIGINS
