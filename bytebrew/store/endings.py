"""Turns that have ended, as their streams have told them."""

from typing import Any

import msgspec
from msgspec import Struct

from bytebrew.contract.connection import Connection
from bytebrew.contract.events import FinishReason
from bytebrew.contract.messages import Usage
from bytebrew.store import forms, turns
from bytebrew.store.journal import last_number, read_events


class Ended(Struct, frozen=True, kw_only=True):
    """A turn as its stream has told it; `failure` is the HTTP status of its error, `code` and `words` are what it says.

    `form` is the one with which it ended, until the session goes on. Events `first` to `last` are its own; `last` is
    None while it has not ended.
    """

    id: str
    session_id: str
    status: turns.Status
    first: int | None = None
    last: int | None = None
    text: str = ""
    usage: Usage
    failure: int | None = None
    code: str = ""
    words: str = ""
    retry_after: int | None = None
    finish_reason: FinishReason = "stop"
    form: dict[str, Any] | None = None


def ended(conn: Connection, turn_id: str, *, whole: bool = True) -> Ended | None:
    """A turn as it stands in the file, None where its session was deleted; `whole` reads what its events say too."""
    counts = ", ".join(Usage.__struct_fields__)
    sql = f"""select session_id, status, first_event, last_event, failure, {counts} from turns
      where id = ? and session_id not in (select session_id from removals)"""
    row = conn.execute(sql, (turn_id,)).fetchone()
    if row is None:
        return None
    first, last = row["first_event"], row["last_event"]
    said: list[str] = []
    code = words = ""
    retry_after: int | None = None
    finish_reason: FinishReason = "stop"
    form: dict[str, Any] | None = None
    at = (first or 1) - 1
    while whole and last is not None and at < last and (events := read_events(conn, row["session_id"], at, last)):
        at = events[-1][0]
        for _, name, data in events:
            if name == forms.EVENT:
                form = forms.form(data) or form
            elif name in ("message_delta", "message_restart", "error", "done"):
                event = msgspec.json.decode(data)
                if name == "error":
                    code, words, retry_after = event["code"], event["message"], event.get("retry_after")
                elif name == "done":
                    finish_reason = event.get("finish_reason", "stop")
                elif "agent" not in event:
                    if name == "message_restart":
                        said.clear()
                    said.append(event["content"])
    return Ended(
        id=turn_id,
        session_id=row["session_id"],
        status=row["status"],
        first=first,
        last=last,
        text="".join(said),
        usage=Usage(*(row[name] for name in Usage.__struct_fields__)),
        failure=row["failure"],
        code=code,
        words=words,
        retry_after=retry_after,
        finish_reason=finish_reason,
        form=form if row["status"] == "completed" and last_number(conn, row["session_id"]) == last else None,
    )
