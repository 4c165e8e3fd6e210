"""URLs and origins that callers send: what every program can read."""

from typing import Annotated

from msgspec import Meta

_HEX = "[0-9A-Fa-f]{1,4}"
_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV6 = "|".join(
    [f"({_HEX}:){{7}}{_HEX}", f"::({_HEX}(:{_HEX}){{0,6}})?"]
    + [f"({_HEX}(:{_HEX}){{{n - 1}}})?::({_HEX}(:{_HEX}){{0,{6 - n}}})?" for n in range(1, 7)]
    + [f"({_HEX}:){{7}}:", rf"::([Ff]{{4}}:)?({_OCTET}\.){{3}}{_OCTET}"]
)
"""An IPv6 address (RFC 4291 section 2.2); of those with an IPv4 one in them, the forms that are in use."""
Url = Annotated[
    str,
    Meta(
        max_length=2000,
        pattern=rf"^(https?://(\[({_IPV6})\](:[0-9]*)?|[^\s/?#@\\\[\]]+)([/?#]\S*)?)?\Z",
        description="an http or https URL, without a user and password: it is shown",
    ),
]
Origin = Annotated[
    str,
    Meta(
        pattern=rf"^https?://(\[({_IPV6})\](:[0-9]*)?|[^\s/?#*\[\]]+)\Z",
        max_length=255,
        description="an origin: scheme, host and perhaps a port",
    ),
]
"""A web origin (RFC 6454 section 6.2), such as https://app.example."""
