"""How deep a JSON text is nested is seen in C: everybody waits meanwhile, and a text may consist of brackets."""

import sys
from types import FrameType
from typing import Any

from bytebrew.wording import depth


def lines(text: bytes) -> int:
    """How many lines of Python it takes to say how deep a text is."""
    found = 0

    def look(frame: FrameType, what: str, _: object) -> Any:
        nonlocal found
        found += what == "line"
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        depth(text)
    finally:
        sys.settrace(before)
    return found


def test_brackets_are_counted_in_as_many_steps_however_many_there_are() -> None:
    assert lines(b"[[]]" * 100_000) == lines(b"[[]]")


def test_brackets_within_texts_do_not_count() -> None:
    texts = (b"", b"1", b'"[["', b'[{"a]": "}"}]', b"[][[]]")
    assert [depth(text) for text in texts] == [0, 0, 0, 2, 2]
