"""Parser of Server-Sent Events (WHATWG HTML, section 9.2)."""

import re

from msgspec import Struct

_LINE_END = re.compile(rb"\r\n|\r|\n")
_EVENT = re.compile(r"(?:event: (.*)\n)?data: (.*)\n\n")
_EVENTS = re.compile(r"(?:(?:event: .*\n)?data: .*\n\n)*+")
"""What most chunks are: whole events in their shortest form."""
_BOM = b"\xef\xbb\xbf"


class ServerSentEvent(Struct, frozen=True):
    """A dispatched event; `event` defaults to `message`."""

    event: str
    data: str
    id: str


class Parser:
    """Parses a stream in chunks of any size.

    Lines end at CR, LF or CRLF. Raises ValueError for a line or an event longer than `limit` bytes.
    """

    def __init__(self, limit: int = 8 * 1024 * 1024) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._event = ""
        self._id = ""
        self._data: list[bytes] = []
        self._size = 0
        self._begun = False
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """The events that this chunk completes."""
        if not self._begun:
            self._rest += chunk
            if len(self._rest) < len(_BOM) and _BOM.startswith(self._rest):
                return []
            chunk, self._rest = bytes(self._rest).removeprefix(_BOM), bytearray()
            self._begun = True
        if not chunk:
            return []
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")  # the second half of a CRLF
        self._after_cr = chunk.endswith(b"\r")
        if chunk.endswith(b"\n\n") and len(chunk) <= self._limit and b"\r" not in chunk and self._between_events():
            text = chunk.decode("utf-8", "replace")
            parts = text[6:-2].split("\n\ndata: ")
            if text.startswith("data: ") and text.count("\n") == 2 * len(parts):
                return [ServerSentEvent("message", data, self._id) for data in parts]
            if _EVENTS.fullmatch(text):
                return [ServerSentEvent(name or "message", data, self._id) for name, data in _EVENT.findall(text)]
        lines = _LINE_END.split(chunk) if b"\r" in chunk else chunk.split(b"\n")
        self._rest += lines[0]  # in place: a long line may come in many chunks
        if len(lines) > 1:
            lines[0] = bytes(self._rest)
            self._rest = bytearray(lines[-1])
        if len(self._rest) > self._limit:
            raise ValueError(f"a line of the event stream is longer than {self._limit} bytes")
        events: list[ServerSentEvent] = []
        for line in lines[:-1]:
            if line:
                self._field(line)
                continue
            if self._data:
                data = b"\n".join(self._data).decode("utf-8", "replace")
                events.append(ServerSentEvent(self._event or "message", data, self._id))
            self._event, self._data, self._size = "", [], 0
        return events

    def _between_events(self) -> bool:
        return not (self._rest or self._data or self._event)

    def _field(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            if self._size + len(value) > self._limit:
                raise ValueError(f"an event of the stream is longer than {self._limit} bytes")
            self._size += len(value) + 1
            self._data.append(value)
        elif field == b"event":
            self._event = value.decode("utf-8", "replace")
        elif field == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
