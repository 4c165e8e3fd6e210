"""Tool arguments that are mirrored into HTTP headers (MCP 2026-07-28, x-mcp-header)."""

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any

_MARK = "x-mcp-header"
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_PLAIN = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?")
_SAFE = 2**53 - 1


def marked(schema: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The path of each argument that is mirrored, by its header's name; ValueError for an invalid `x-mcp-header`."""
    headers: dict[str, tuple[str, ...]] = {}
    for name, kind, path in _properties(schema, ()):
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise ValueError(f"{_MARK} {name!r:.80} is not the name of a header")
        if kind not in ("string", "integer", "boolean"):
            raise ValueError(f"{_MARK} {name} is on an argument of type {kind!r:.80}")
        if name.lower() in {header.lower() for header in headers}:
            raise ValueError(f"{_MARK} {name} comes twice")
        headers[name] = path
    if len(headers) != _marks(schema):
        raise ValueError(f"a {_MARK} is where no argument is sure to be")
    return headers


def mirrored(paths: Mapping[str, tuple[str, ...]], arguments: Any) -> dict[str, str]:
    """The headers of one call."""
    headers = {}
    for name, path in paths.items():
        value = arguments
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        if isinstance(value, bool):
            headers[f"Mcp-Param-{name}"] = str(value).lower()
        elif isinstance(value, str) or (isinstance(value, int) and abs(value) <= _SAFE):
            headers[f"Mcp-Param-{name}"] = encoded(str(value))
    return headers


def encoded(value: str) -> str:
    """The value of a header, base64-encoded if it is not safe in plain text."""
    if _PLAIN.fullmatch(value) and not (value.startswith("=?base64?") and value.endswith("?=")):
        return value
    return f"=?base64?{b64encode(value.encode('utf-8', 'replace')).decode()}?=" if value else ""


def _properties(schema: Any, path: tuple[str, ...]) -> Iterator[tuple[Any, Any, tuple[str, ...]]]:
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        return
    for name, one in properties.items():
        if isinstance(one, dict):
            if _MARK in one:
                yield one[_MARK], one.get("type"), (*path, name)
            yield from _properties(one, (*path, name))


def _marks(value: Any, *, names: bool = False) -> int:
    """How often `x-mcp-header` is used; a property of that name does not count."""
    if isinstance(value, list):
        return sum(_marks(one) for one in value)
    if not isinstance(value, dict):
        return 0
    own = _MARK in value and not names
    return own + sum(_marks(one, names=key == "properties" and not names) for key, one in value.items())
