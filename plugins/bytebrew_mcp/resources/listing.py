"""Resources and prompts as a server lists them: read leniently, and shown without what nobody sees."""

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from msgspec import Struct

from bytebrew import Masker, visible

MAX_ITEMS = 1000
MAX_TEXT = 4000
Item = TypeVar("Item")


class ShownResource(Struct, frozen=True, kw_only=True):
    """A resource of a server; `size` is in bytes, where it is known."""

    uri: str
    name: str
    title: str
    description: str
    mime_type: str
    size: int | None


class PromptArgument(Struct, frozen=True, kw_only=True):
    """An argument of a prompt."""

    name: str
    description: str
    required: bool


class ShownPrompt(Struct, frozen=True, kw_only=True):
    """A prompt of a server."""

    name: str
    title: str
    description: str
    arguments: tuple[PromptArgument, ...]


class ServerPage(Struct, Generic[Item], frozen=True, kw_only=True):
    """A page as the server cuts it; `next` is the `after` of the page behind, which the server alone understands."""

    data: list[Item]
    next: str | None


def resource(item: Mapping[str, Any]) -> ShownResource | None:
    """A resource; None without a URI."""
    size = item.get("size")
    return (
        ShownResource(
            uri=_text(item, "uri"),
            name=_text(item, "name"),
            title=_text(item, "title"),
            description=_text(item, "description"),
            mime_type=_text(item, "mimeType"),
            size=size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None,
        )
        if _text(item, "uri")
        else None
    )


def prompt(item: Mapping[str, Any]) -> ShownPrompt | None:
    """A prompt; None without a name."""
    arguments = item.get("arguments")
    known = [one for one in arguments if isinstance(one, dict)] if isinstance(arguments, list) else []
    return (
        ShownPrompt(
            name=_text(item, "name"),
            title=_text(item, "title"),
            description=_text(item, "description"),
            arguments=tuple(
                PromptArgument(
                    name=_text(one, "name"),
                    description=_text(one, "description"),
                    required=one.get("required") is True,
                )
                for one in known[:MAX_ITEMS]
            ),
        )
        if _text(item, "name")
        else None
    )


def items(answer: Mapping[str, Any], key: str, mask: Masker) -> list[dict[str, Any]]:
    """The objects of a page, without the server's credentials."""
    listed = answer.get(key)
    found = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return [{name: _masked(value, mask) for name, value in one.items()} for one in found[:MAX_ITEMS]]


def cursor(answer: Mapping[str, Any]) -> str | None:
    """The cursor of the next page; None at the end."""
    following = answer.get("nextCursor")
    return following if isinstance(following, str) and following else None


def _masked(value: Any, mask: Masker) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, list):
        return [_masked(one, mask) for one in value]
    return {name: _masked(one, mask) for name, one in value.items()} if isinstance(value, dict) else value


def _text(item: Mapping[str, Any], name: str) -> str:
    value = item.get(name)
    return str(visible(value[:MAX_TEXT])) if isinstance(value, str) else ""
