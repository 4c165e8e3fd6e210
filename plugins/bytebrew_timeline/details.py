"""One span with what went into it and what came out."""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from bytebrew import Actor, Connection, Message, NotFound, Row, ToolCall

from .spans import Span, numbered, spans
from .times import of_seconds

_decode = msgspec.json.Decoder(Message).decode


class SpanDetail(Struct, frozen=True, kw_only=True):
    """A span; of a tool call, a question or an agent with the arguments, of a model call with its answer.

    `edited` are the arguments as a person changed them. `messages_before` is the number of the session's last message
    before an answer: up to there they were sent to the model, as far as they fit.
    """

    span: Span
    input: Any = None
    edited: Any = None
    output: str = ""
    thinking: str = ""
    tool_calls: list[ToolCall] = []
    reason: str = ""
    args_digest: str = ""
    messages_before: int | None = None


def detail(conn: Connection, session_id: str, actor: Actor, turn_id: str, span_id: str) -> SpanDetail:
    """A span of a turn that the actor may see; NotFound for others."""
    numbered(conn, session_id, actor, turn_id)
    span = next((one for one in spans(conn, turn_id) if one.id == span_id), None)
    if span is None:
        raise NotFound(f"The turn has no span '{span_id[:255]}'")
    if span.kind == "model":
        return SpanDetail(span=span, **_answer(conn, span))
    if span.kind == "queue":
        return SpanDetail(span=span)
    return SpanDetail(span=span, **_call(conn, span))


def _call(conn: Connection, span: Span) -> dict[str, Any]:
    caller = span.turn_id
    if span.kind == "agent":
        row = conn.execute("select parent_turn_id from turns where id = ?", (span.turn_id,)).fetchone()
        caller = row["parent_turn_id"]
    call = _row(conn, "select input, output from tool_calls where turn_id = ? and call_id = ?", caller, span.call_id)
    sql = "select input, edited, reason, args_digest from confirmations where turn_id = ? and call_id = ? and id = ?"
    asked = _row(conn, sql, caller, span.call_id, span.confirmation_id)
    source = asked or call
    return {
        "input": Raw(source["input"].encode()) if source else None,
        "edited": Raw(asked["edited"].encode()) if asked and asked["edited"] else None,
        "output": (call["output"] or "") if call and span.kind != "person" else "",
        "reason": asked["reason"] if asked else "",
        "args_digest": asked["args_digest"] if asked else "",
    }


def _row(conn: Connection, sql: str, *values: str) -> Row | None:
    row: Row | None = conn.execute(sql, values).fetchone()
    return row


def _answer(conn: Connection, span: Span) -> dict[str, Any]:
    """The message that a model call has made: the first of its turn that was stored after it, before the next call."""
    if span.ended_at is None or not span.id.startswith("m"):
        return {}
    sql = "select min(started_at) from usage where turn_id = ? and id > ? and purpose = 'step'"
    following = conn.execute(sql, (span.turn_id, int(span.id[1:]))).fetchone()[0]
    sql = """select n, body from messages where session_id = ? and turn_id = ? and created_at >= ? and created_at < ?
      order by n"""
    until = of_seconds(following) or "~"
    for row in conn.execute(sql, (span.session_id, span.turn_id, span.ended_at, until)):
        message = _decode(row["body"])
        if message.role == "assistant":
            return {
                "output": message.content,
                "thinking": message.thinking,
                "tool_calls": list(message.tool_calls),
                "messages_before": row["n"] - 1,
            }
    return {}
