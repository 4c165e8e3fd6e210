"""Parser of Server-Sent Events (WHATWG HTML, section 9.2)."""

import re
from typing import NamedTuple

_LINE_END = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"


class Frame(NamedTuple):
    """A dispatched event; `id` is its own, empty where it has none: such an event is not stored."""

    id: str
    event: str
    data: str


class Parser:
    """Parses a stream in chunks of any size; lines end at CR, LF or CRLF and nowhere else."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._begun = self._after_cr = False
        self._id, self._event, self._data = "", "", list[bytes]()

    def feed(self, chunk: bytes) -> list[Frame]:
        """The frames that this chunk completes."""
        if not self._begun:
            self._rest += chunk
            if len(self._rest) < len(_BOM) and _BOM.startswith(self._rest):
                return []
            chunk, self._rest = bytes(self._rest).removeprefix(_BOM), bytearray()
            self._begun = True
        if self._after_cr and chunk:
            chunk, self._after_cr = chunk.removeprefix(b"\n"), False
        if not chunk:
            return []
        self._after_cr = chunk.endswith(b"\r")
        first, *others = _LINE_END.split(chunk)
        self._rest += first
        frames = []
        for following in others:
            if frame := self._line(bytes(self._rest)):
                frames.append(frame)
            self._rest = bytearray(following)
        return frames

    def _line(self, line: bytes) -> Frame | None:
        if not line:
            frame = Frame(self._id, self._event or "message", b"\n".join(self._data).decode("utf-8", "replace"))
            complete = bool(self._data)
            self._id, self._event, self._data = "", "", []
            return frame if complete else None
        field, _, value = line.partition(b":")  # a comment has an empty field
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._event = value.decode("utf-8", "replace")
        elif field == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        return None
