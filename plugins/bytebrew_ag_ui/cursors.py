"""Places in the frames of a turn: the number of an event of the journal, and a place within its frames.

A third number is that of a frame that a run repeats behind that place, as it goes on in the middle of something.
"""

from typing import Annotated

from msgspec import Meta

CursorText = Annotated[str, Meta(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9}){0,2}\Z")]
"""What `read_cursor` takes."""
LAST = 1 << 31
"""The place of the last frame of an event, which the number alone stands for."""
START: tuple[int, ...] = (0, LAST)
"""Before the first event of a turn."""


def cursor_text(place: tuple[int, ...]) -> str:
    """A cursor, such as `17` for all frames of an event, or `17.2` for the second one where more follow."""
    return ".".join(map(str, place[:1] if place[1:] == (LAST,) else place))


def read_cursor(text: object) -> tuple[int, ...] | None:
    """The place of a cursor, None for what is none."""
    parts = text.split(".") if isinstance(text, str) else []
    if not 1 <= len(parts) <= 3 or not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
        return None
    place = tuple(map(int, parts))
    return (*place, LAST) if len(place) == 1 else place
