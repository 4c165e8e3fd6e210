"""The challenge of a resource server: `WWW-Authenticate` with the scheme Bearer (RFC 6750, RFC 9728 section 5.1)."""

import re
from collections.abc import Mapping
from typing import NamedTuple

MAX_HEADER = 8192
MAX_SCOPES, MAX_SCOPE = 100, 200
_PART = re.compile(
    r"""(?P<name>[A-Za-z0-9!#$%&'*+.^_`|~-]+)
    (?:\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"]+)))?""",
    re.VERBOSE,
)
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
"""A scope token (RFC 6749 section 3.3)."""


class Challenge(NamedTuple):
    """What a server wants; `scopes` is None if it does not say."""

    error: str = ""
    scopes: tuple[str, ...] | None = None
    resource_metadata: str = ""


def challenge_of(headers: Mapping[str, str]) -> Challenge:
    """The Bearer challenge of an answer, empty without one."""
    parameters: dict[str, str] = {}
    bearer = False
    for part in _PART.finditer(headers.get("www-authenticate", "")[:MAX_HEADER]):
        value = part["quoted"] if part["quoted"] is not None else part["plain"]
        if value is None:
            bearer = part["name"].lower() == "bearer"
        elif bearer:
            parameters.setdefault(part["name"].lower(), re.sub(r"\\(.)", r"\1", value))
    return Challenge(
        parameters.get("error", ""),
        scopes_of(parameters["scope"]) if "scope" in parameters else None,
        parameters.get("resource_metadata", ""),
    )


def scopes_of(text: str) -> tuple[str, ...]:
    """The scopes of a list with spaces, each once; malformed ones are left out."""
    found = [scope for scope in text.split(" ") if len(scope) <= MAX_SCOPE and _SCOPE.fullmatch(scope)]
    return tuple(dict.fromkeys(found))[:MAX_SCOPES]
