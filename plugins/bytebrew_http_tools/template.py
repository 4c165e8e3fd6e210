"""Templates: `${VAR}` is replaced from the environment, `{{param}}` from a call's arguments.

`$${` escapes `${`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlencode

import msgspec
from msgspec import UNSET

from bytebrew import ToolError

VARIABLE = re.compile(r"(?<!\$)\$\{([A-Za-z_][A-Za-z0-9_]{0,254})(?::-([^{}]*))?\}")
PARAMETER = re.compile(r"\{\{ *([A-Za-z_][A-Za-z0-9_-]{0,63}) *\}\}")
URL = re.compile(
    r"(?P<scheme>https?)://(?P<authority>[^/?#\\\x00-\x1f]+)(?P<path>(?:/[^?#]*)?)(?:\?(?P<query>[^#]*))?(?:#.*)?",
    re.IGNORECASE,
)
"""An http or https URL; none with a backslash in its host, which clients parse differently."""
_WRITTEN = re.compile(rf"\$\$\{{|{VARIABLE.pattern}")
_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]+")
_ORIGIN = re.compile(r"(?:[^/?#]*://)?[^/?#]*")


def texts(value: Any) -> Iterator[str]:
    """Every string in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts(inner)


def names(value: Any) -> dict[str, None]:
    """The names of the parameters in a JSON value, in order."""
    return dict.fromkeys(name for text in texts(value) for name in PARAMETER.findall(text))


def variables(value: Any) -> set[str]:
    """The names of the variables in a JSON value."""
    return {name for text in texts(value) for name, _ in VARIABLE.findall(text)}


def unset(value: Any, environment: Mapping[str, str]) -> list[str]:
    """The names of the variables in a JSON value that have neither a value nor a default, in order."""
    written_out = (pair for text in texts(value) for pair in VARIABLE.finditer(text))
    return list(dict.fromkeys(one[1] for one in written_out if one[2] is None and not environment.get(one[1])))


def expanded(value: Any, environment: Mapping[str, str]) -> Any:
    """A JSON value with `${VAR}` and `${VAR:-default}` replaced; unset variables are empty."""

    def fill(match: re.Match[str]) -> str:
        name, default = match.groups()
        if name is None:
            return "${"
        return environment.get(name) or default or ""

    return _mapped(value, lambda text: _WRITTEN.sub(fill, text), str)


def filled(value: Any, arguments: Mapping[str, Any]) -> Any:
    """A JSON value with its parameters replaced.

    A string that is exactly one parameter becomes its value, of any type, and is omitted without one.
    """

    def fill(text: str) -> Any:
        whole = PARAMETER.fullmatch(text)
        return arguments.get(whole[1], UNSET) if whole else written(text, arguments, str)

    return _mapped(value, fill, lambda key: written(key, arguments, str))


def written(text: str, arguments: Mapping[str, Any], encode: Callable[[str], str]) -> str:
    """A text with its parameters replaced by their encoded values; ToolError for a missing argument."""

    def fill(match: re.Match[str]) -> str:
        value = arguments.get(match[1], UNSET)
        if value is UNSET:
            raise ToolError(f"The argument '{match[1]}' is missing")
        return encode(plain(value))

    return PARAMETER.sub(fill, text)


def plain(value: Any) -> str:
    """A string unchanged, anything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def url_of(template: str, params: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    """The URL of a call; no argument can leave its path segment, query value or host."""
    parts = URL.fullmatch(template)
    if parts is None or "@" in parts["authority"]:
        raise ToolError("The tool's url is no http or https URL without a credential; is a ${VAR} in it not set?")
    segments = [_segment(segment, arguments) for segment in parts["path"].split("/")]
    query = [written(parts["query"], arguments, _quoted)] if parts["query"] else []
    pairs = [
        (name, plain(one))
        for name, value in filled(params, arguments).items()
        for one in (value if isinstance(value, list) else [value])
        if one is not None
    ]
    query += [urlencode(pairs, quote_via=quote, safe="")] if pairs else []
    authority = written(parts["authority"], arguments, _host)
    return f"{parts['scheme'].lower()}://{authority}{'/'.join(segments)}" + (f"?{'&'.join(query)}" if query else "")


def origin_of(template: str) -> str:
    """Scheme, host and port of a URL template, with its variables and parameters unreplaced."""
    quoted = VARIABLE.sub(lambda match: quote(match[0], safe="${}"), template)  # a default may hold a slash
    match = _ORIGIN.match(quoted)
    return match[0] if match else ""


def header(name: str, value: str) -> str:
    """The value of a header, stripped; ToolError if it is not printable ASCII."""
    if any(ord(letter) < 32 or ord(letter) > 126 for letter in value):
        raise ToolError(f"The header {name} takes printable ASCII only")
    return value.strip()


def _segment(template: str, arguments: Mapping[str, Any]) -> str:
    segment = written(template, arguments, _quoted)
    named, before = (unquote(one).partition(";")[0] for one in (segment, template))
    # `..` would address another resource (RFC 3986 section 5.2.4), and some servers read parameters after a `;`.
    if (named in ("", ".", "..") and named != before) or segment.count("%3B") > template.count("%3B"):
        name = PARAMETER.findall(template)[0]
        raise ToolError(f"The argument '{name}' cannot be {unquote(segment)[:100]!r}: it is a part of a path")
    return segment


def _quoted(value: str) -> str:
    return quote(value, safe="")


def _host(value: str) -> str:
    if not _HOST.fullmatch(value):
        raise ToolError(f"{value[:100]!r} is no host")
    return value


def _mapped(value: Any, change: Callable[[str], Any], rename: Callable[[str], str]) -> Any:
    """A JSON value with every string and key mapped; what becomes UNSET is omitted."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list | tuple):
        return [one for one in (_mapped(inner, change, rename) for inner in value) if one is not UNSET]
    if not isinstance(value, dict):
        return value
    changed: dict[str, Any] = {}
    for key, inner in value.items():
        one = _mapped(inner, change, rename)
        if one is UNSET:
            continue
        if (name := rename(key)) in changed:
            raise ToolError(f"Two fields would be called '{name[:100]}'")
        changed[name] = one
    return changed
