"""What the engine answers with, besides events: one dataclass for each kind of JSON object.

All fields have defaults: the public view leaves some out, and an older engine does not have the newest.
"""

import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def record(kind: Callable[..., T], data: Mapping[str, Any], **more: Any) -> T:
    """A record of a JSON object; fields that this version does not know are left out."""
    known = {name: _value(hint, data[name]) for name, hint in _hints(kind).items() if name in data}
    return kind(**{**known, **more})


@cache
def _hints(kind: Callable[..., Any]) -> Mapping[str, Any]:
    hints = get_type_hints(kind)
    return {one.name: hints[one.name] for one in fields(kind)}  # type: ignore[arg-type]


def _value(hint: Any, value: Any) -> Any:
    if is_dataclass(hint) and isinstance(hint, type):
        return record(hint, value) if isinstance(value, dict) else value
    if isinstance(value, list) and get_origin(hint) is tuple:
        return tuple(_value(get_args(hint)[0], one) for one in value)
    if get_origin(hint) in (Union, types.UnionType):
        for one in get_args(hint):
            if (is_dataclass(one) and isinstance(value, dict)) or (
                get_origin(one) is tuple and isinstance(value, list)
            ):
                return _value(one, value)
    return value


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens of model calls; cached and cache_write tokens are part of the input, thinking tokens of the output.

    `cost_usd` is None where no price is known.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    thinking_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float | None = None


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    """Rows of a list; `next` is the `after` of the page behind, None at the end."""

    data: tuple[T, ...] = ()
    total: int = 0
    limit: int = 0
    offset: int = 0
    next: str | None = None


@dataclass(frozen=True, kw_only=True)
class ForkedFrom:
    """The session that a fork shares its history with, up to the event `after`."""

    session_id: str = ""
    after: int = 0


@dataclass(frozen=True, kw_only=True)
class Session:
    """A conversation; its status is that of its last turn."""

    id: str = ""
    agent: str = ""
    schema: str = ""
    title: str = ""
    status: Literal["active", "completed", "failed", "cancelled"] | str = ""
    user_sub: str = ""
    created_at: str = ""
    updated_at: str = ""
    message_count: int = 0
    forked_from: ForkedFrom | None = None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What the model has in place of the messages through number `through`."""

    content: str = ""
    through: int = 0
    created_at: str = ""


@dataclass(frozen=True, kw_only=True)
class SessionMessage:
    """A message of a session; `broken_off` says how its turn ended where the answer did not come to its end."""

    id: str = ""
    turn_id: str = ""
    role: str = ""
    content: str = ""
    created_at: str = ""
    thinking: str = ""
    tool_calls: tuple[dict[str, Any], ...] = ()
    tool: str = ""
    call_id: str = ""
    has_error: bool = False
    broken_off: str = ""
    attachments: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True)
class ClientCall:
    """A call of a tool that the client runs, whose result a turn waits for."""

    turn_id: str = ""
    call_id: str = ""
    confirmation_id: str = ""
    tool: str = ""
    input: dict[str, Any] = field(default_factory=dict)
    created_at: str = ""
    expires_at: str | None = None


@dataclass(frozen=True, kw_only=True)
class SessionDetail(Session):
    """A session with its newest messages: a thousand at most, with `earlier_messages` before them."""

    usage: Usage = Usage()
    summary: Summary | None = None
    messages: tuple[SessionMessage, ...] = ()
    earlier_messages: int = 0
    client_calls: tuple[ClientCall, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Approval:
    """A question to a person about a tool call, and what became of it."""

    id: str = ""
    session_id: str = ""
    turn_id: str = ""
    call_id: str = ""
    kind: Literal["confirm", "unknown_outcome", "elicitation", "client_tool"] | str = ""
    agent: str = ""
    source: str = ""
    tool: str = ""
    risk: Literal["safe", "caution", "dangerous"] | str = ""
    input: dict[str, Any] = field(default_factory=dict)
    args_digest: str = ""
    status: Literal["pending", "approved", "rejected", "spent", "expired", "cancelled"] | str = ""
    verdict: str | None = None
    edited: dict[str, Any] | None = None
    reason: str = ""
    answered_by: str | None = None
    answered_at: str | None = None
    created_at: str = ""
    expires_at: str | None = None
    input_schema: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What an answer was taken for; `is_error` is of a result of the client's tool, `approved` of a question."""

    confirmation_id: str = ""
    call_id: str = ""
    approved: bool | None = None
    confirmation: Approval | None = None
    is_error: bool | None = None
    status: str = ""


@dataclass(frozen=True, kw_only=True)
class CallRecord:
    """A tool call of a turn, with its result once it has one."""

    tool: str = ""
    input: dict[str, Any] = field(default_factory=dict)
    output: str = ""
    call_id: str = ""
    has_error: bool = False


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The code and the sentence of a turn's `error`."""

    error: str = ""
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class TurnState:
    """A turn as the engine has it now, whole or on its way."""

    session_id: str = ""
    turn_id: str = ""
    message: str = ""
    tool_calls: tuple[CallRecord, ...] = ()
    usage: Usage = Usage()
    status: Literal["queued", "running", "needs_input", "completed", "failed", "cancelled"] | str = ""
    finish_reason: str | None = None
    data: Any = None
    questions: tuple[Approval, ...] = ()
    client_calls: tuple[ClientCall, ...] = ()
    form: dict[str, Any] | None = None
    position: int = 0
    failure: Failure | None = None
    agent_version: int = 0


@dataclass(frozen=True, kw_only=True)
class Task:
    """Work for an agent in the background; `result` and `error` say how it ended."""

    id: str = ""
    title: str = ""
    description: str = ""
    agent: str = ""
    agent_name: str = ""
    schema: str = ""
    status: (
        Literal["draft", "approved", "pending", "in_progress", "needs_input", "completed", "failed", "cancelled"] | str
    ) = ""
    source: str = ""
    mode: str = ""
    priority: int = 0
    acceptance_criteria: tuple[str, ...] = ()
    blocked_by: tuple[str, ...] = ()
    parent_task_id: str | None = None
    callback_url: str = ""
    digest: str = ""
    session_id: str = ""
    result: str | None = None
    error: str | None = None
    attempts: int = 0
    cost_usd: float | None = None
    confirmation_id: str | None = None
    created_at: str = ""
    approved_at: str | None = None
    started_at: str | None = None
    completed_at: str | None = None
