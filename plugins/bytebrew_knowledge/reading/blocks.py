"""Blocks of text: paragraphs and table rows with their headings."""

import codecs
from typing import NamedTuple

MOST_TEXT = 64 * 1024 * 1024
"""Limit of characters per file."""


class Unreadable(Exception):
    """The file cannot be read; the message is for its owner."""


class Block(NamedTuple):
    """A paragraph or, with `row`, a table row; `headings` are those above it, outermost first."""

    headings: tuple[str, ...]
    text: str
    row: bool = False


class Outline:
    """The headings above a reader's current position."""

    def __init__(self) -> None:
        self._levels: list[tuple[int, str]] = []

    def enter(self, level: int, heading: str) -> None:
        """Enters a heading, which ends those of its level (1 is the outermost) and deeper."""
        self._levels = [one for one in self._levels if one[0] < level]
        if heading:
            self._levels.append((level, heading))

    @property
    def headings(self) -> tuple[str, ...]:
        """The headings from the outermost to the innermost."""
        return tuple(heading for _, heading in self._levels)


def decoded(raw: bytes) -> str:
    """Text in UTF-8, in UTF-16 with a byte order mark, or else in Windows-1252."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16", "replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("windows-1252", "replace")


def row_of(cells: list[str]) -> str:
    """A table row as one line."""
    return " | ".join(cells) if any(cells) else ""
