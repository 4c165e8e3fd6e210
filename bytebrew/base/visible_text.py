"""Makes invisible characters and bidi controls visible in texts that a person approves."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any
from unicodedata import category

_DRAWS_A_SYMBOL = "\ufe0f"
"""Variation selector 16, which only selects the emoji form of a symbol."""
_HIDDEN = re.compile(
    "[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\xad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200f"
    "\\u2028-\\u202e\\u2060-\\u206f\\u2800\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\ufffb\\U0001bca0-\\U0001bca3"
    "\\U0001d173-\\U0001d17a\\U000e0000-\\U000e0fff]+"
    r"|\r(?!\n)|\[(?=U\+[0-9A-F]{4,6}\])"
)
"""Controls, default ignorable characters (bidi and zero-width ones among them), blank letters, a carriage return that
overwrites its line, and texts that look like a mark."""


def shown(text: str) -> str:
    """The text with marks such as `[U+202E]` for such characters; different texts stay different."""
    return _HIDDEN.sub(_marked, text)


def _marked(hidden: re.Match[str]) -> str:
    run, at = hidden[0], hidden.start()
    if run[0] == _DRAWS_A_SYMBOL and at and category(hidden.string[at - 1]) == "So":
        return run[0] + "".join(map(_mark, run[1:]))
    return "".join(map(_mark, run))


@cache
def _mark(character: str) -> str:
    return f"[U+{ord(character):04X}]"


def visible(value: Any) -> Any:
    """A JSON value with marks in all its strings and keys."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, dict):
        return {shown(name): visible(one) for name, one in value.items()}
    return [visible(one) for one in value] if isinstance(value, list | tuple) else value


def restore_exact(sent: Any, exact: Any) -> Any:
    """Restores the exact texts in a value that was shown with marks and is sent back."""
    behind = {marked: text for text in _texts(exact) if (marked := shown(text)) != text}
    return _put_back(sent, behind) if behind else sent


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, one in value.items():
            yield name
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


def _put_back(value: Any, behind: dict[str, str]) -> Any:
    if isinstance(value, str):
        return behind.get(value, value)
    if isinstance(value, dict):
        return {behind.get(name, name): _put_back(one, behind) for name, one in value.items()}
    return type(value)(_put_back(one, behind) for one in value) if isinstance(value, list | tuple) else value
