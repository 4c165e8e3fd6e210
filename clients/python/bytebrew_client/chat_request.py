"""The request of a chat, out of what the caller wants."""

import enum
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict

from bytebrew_client.attachments import Attachment
from bytebrew_client.flow import path
from bytebrew_client.json_schema import schema_of
from bytebrew_client.tools import AnyTool, declared
from bytebrew_client.turn import Turn


class Unset(enum.Enum):
    """Of a response format that the caller leaves to the agent."""

    UNSET = "unset"


UNSET = Unset.UNSET


class ChatOptions(TypedDict, total=False):
    """What a chat may have besides its message.

    `session_id` is of a session to go on with, or a new UUID that begins one. `replaces` is a turn of it, whose message
    this one takes the place of, in a fork. `tools` run here. `on_busy` says what to do while the session answers
    another message. With `subagents` the events of spawned agents come too. `headers` are for the agent's tools.
    `idempotency_key` and `after` (`last_event_id`) of an earlier chat with the same message go on with that one, in
    another process too.
    """

    session_id: str
    replaces: str
    attachments: Iterable[Attachment | Path]
    tools: Iterable[AnyTool]
    on_busy: Literal["queue", "interrupt", "reject", "steer"]
    subagents: bool
    headers: Mapping[str, str]
    user_sub: str
    idempotency_key: str
    after: str


def new_turn(
    schema: str, message: str | Mapping[str, Any], response_format: Any, options: ChatOptions, seconds: float
) -> Turn:
    """The turn of a message that is not sent yet; ValueError for options that do not go together."""
    specs, functions = declared(options.get("tools", ()))
    session_id, replaces = options.get("session_id", ""), options.get("replaces", "")
    files = [Attachment.file(one) if isinstance(one, Path) else one for one in options.get("attachments", ())]
    if replaces and not session_id:
        raise ValueError("replaces is a turn of the session session_id, which is missing")
    optional = {
        "session_id": "" if replaces else session_id,
        "turn_id": replaces,
        "attachments": [one.body() for one in files],
        "client_tools": specs,
        "on_busy": options.get("on_busy", ""),
        "subagents": options.get("subagents", False),
        "headers": dict(options.get("headers", {})),
        "user_sub": options.get("user_sub", ""),
    }
    body = {"message": message, **{name: value for name, value in optional.items() if value}}
    if response_format is not UNSET:
        body["response_format"] = _format(response_format)
    return Turn(
        path("sessions", session_id, "edit") if replaces else path("schemas", schema, "chat"),
        body,
        seconds=seconds,
        tools=functions,
        shape=Any if response_format is UNSET or isinstance(response_format, Mapping | None) else response_format,
        key=options.get("idempotency_key", ""),
        after=options.get("after", ""),
    )


def _format(wanted: Any) -> Mapping[str, Any] | None:
    """A format out of a type, a JSON Schema or a format; None for no format, whatever the agent has."""
    if wanted is None:
        return None
    if isinstance(wanted, Mapping):
        return wanted if wanted.get("type") in ("json_schema", "text") else {"type": "json_schema", "schema": wanted}
    name = {"name": wanted.__name__} if isinstance(wanted, type) else {}
    return {"type": "json_schema", **name, "schema": schema_of(wanted)}
