"""Splits a file's blocks into chunks."""

import re
import unicodedata
from collections.abc import Iterable, Iterator

from .blocks import MOST_TEXT, Block, Unreadable

SIZE = 1600
"""Size of a chunk in characters: about 400 tokens, which fit embedding models with 512."""
OVERLAP = 200
"""Overlap in characters with the previous chunk under the same heading."""
_ENDS = (re.compile(r"[.!?\u3002\uff01\uff1f][\"'\u201d\u2019)\]]*\s|\n"), re.compile(r"\s"))


def split(blocks: Iterable[Block]) -> Iterator[tuple[str, str]]:
    """Heading and text of each chunk, in order; a heading starts a new chunk."""
    above: tuple[str, ...] = ()
    text, fresh, total, prose = "", False, 0, False
    for block in blocks:
        total += len(block.text)
        if total > MOST_TEXT:
            raise Unreadable(f"It has more than {MOST_TEXT // 1024**2} Mi characters of text")
        if not block.text or block.text.isspace():
            continue
        if block.headings != above:
            if fresh:
                yield _heading(above), text
            above, text, fresh, prose = block.headings, "", False, False
        for piece in filter(None, _pieces(_composed(block.text.replace("\0", " ")))):
            if fresh and len(text) + 1 + len(piece) > SIZE:
                yield _heading(above), text
                kept = _tail(text) if prose and not block.row else ""
                text, fresh = (kept, False) if len(kept) + 1 + len(piece) <= SIZE else ("", False)
            text, fresh, prose = f"{text}\n{piece}" if text else piece, True, not block.row
    if fresh:
        yield _heading(above), text


def _heading(headings: tuple[str, ...]) -> str:
    return " > ".join(" ".join(_composed(one).split())[:200] for one in headings)[:600]


def _composed(text: str) -> str:
    """The text in Unicode normalization form C, which queries use too."""
    return unicodedata.normalize("NFC", text)


def _pieces(text: str) -> Iterator[str]:
    """Splits a block into parts that fit a chunk, at ends of sentences, or else of words."""
    at = 0
    room = SIZE - OVERLAP - 1
    while len(text) - at > SIZE:
        ends = (end.end() for pattern in _ENDS for end in list(pattern.finditer(text, at + room // 2, at + room))[-1:])
        until = next(ends, at + room)
        yield text[at:until].strip()
        at = until
    yield text[at:].strip()


def _tail(text: str) -> str:
    """The last sentences of a chunk, or else its last words."""
    start = max(0, len(text) - OVERLAP)
    for pattern in _ENDS:
        if end := pattern.search(text, start):
            return text[end.end() :].strip()
    return text[start:]
