"""A file's text as the readers hand it on: paragraphs and rows, each under its headings."""

import codecs
from typing import NamedTuple

MOST_TEXT = 64 * 1024 * 1024
"""Characters of text that one file may yield."""


class Unreadable(Exception):
    """The file cannot be read; the message tells its owner why."""


class Block(NamedTuple):
    """A paragraph or, with `row`, the row of a table; `headings` are those above it, the outermost first."""

    headings: tuple[str, ...]
    text: str
    row: bool = False


class Outline:
    """The headings above the place that a reader has come to."""

    def __init__(self) -> None:
        self._levels: list[tuple[int, str]] = []

    def enter(self, level: int, heading: str) -> None:
        """A heading of a level, 1 being the outermost, ends all that are as deep or deeper."""
        self._levels = [one for one in self._levels if one[0] < level]
        if heading:
            self._levels.append((level, heading))

    @property
    def headings(self) -> tuple[str, ...]:
        """From the outermost to the innermost."""
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
    """A table's row in a line."""
    return " | ".join(cells) if any(cells) else ""
