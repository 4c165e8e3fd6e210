"""Event cursors: the number of the last event that a client has seen, and the epoch of its history."""

import re
from collections.abc import Mapping
from typing import Annotated, NamedTuple

from msgspec import Meta

from bytebrew.base.errors import Detail, HistoryChanged, InvalidRequest

Number = Annotated[int, Meta(ge=0, lt=10**15)]
EventId = Annotated[str, Meta(pattern=r"^([0-9]{1,15}:)?[0-9]{1,15}\Z")]
_ID = re.compile(r"(?:([0-9]{1,15}):)?([0-9]{1,15})")


class Cursor(NamedTuple):
    """An event number, 0 for the position before the first, and the epoch of its history."""

    epoch: int
    number: int

    def check(self, epoch: int, last: int) -> None:
        """Raises HistoryChanged unless the session has the event; `last` is the number of its newest event."""
        if self.number and (self.epoch != epoch or self.number > last):
            raise HistoryChanged(
                f"There is no {self} in this session; if it was seen, the database was restored or has lost its newest"
                " part since: read again from the start, with after=0"
            )

    def __str__(self) -> str:
        return str(self.number) if self.epoch == 1 else f"{self.epoch}:{self.number}"


def event_cursor(headers: Mapping[str, str], query: Mapping[str, str]) -> Cursor:
    """The cursor of a request: the event id in `Last-Event-ID`, or else in `after`."""
    seen, after = _read(headers, "last-event-id", "$.headers.Last-Event-ID"), _read(query, "after", "$.after")
    return seen or after or Cursor(1, 0)


def _read(source: Mapping[str, str], name: str, path: str) -> Cursor | None:
    if (text := source.get(name)) is None:
        return None
    if (found := _ID.fullmatch(text)) is None:
        message = f"{path.rpartition('.')[2]} is the id of an event, such as 17"
        raise InvalidRequest(message, details=[Detail(path, "no id of an event")])
    return Cursor(int(found[1] or 1), int(found[2]))
