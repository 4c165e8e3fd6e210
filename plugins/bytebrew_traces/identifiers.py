"""Ids of traces and spans, derived from stored ids: a second export of the same rows makes the same spans."""

from hashlib import sha256

from bytebrew import Turn


def trace_id(traceparent: str | None, root_turn_id: str) -> bytes:
    """The trace of the request's `traceparent`, or else the root turn's own: 16 bytes."""
    return bytes.fromhex(traceparent[3:35]) if traceparent else _digest("trace", root_turn_id)[:16]


def caller_span_id(traceparent: str) -> bytes:
    """The caller's span in a `traceparent`: 8 bytes."""
    return bytes.fromhex(traceparent[36:52])


def turn_span_id(turn_id: str) -> bytes:
    """The span of a turn: 8 bytes."""
    return _digest("turn", turn_id)[:8]


def tool_span_id(turn_id: str, call_id: str) -> bytes:
    """The span of a tool call: 8 bytes."""
    return _digest("tool", turn_id, call_id)[:8]


def model_span_id(turn_id: str, usage_id: int) -> bytes:
    """The span of a model call, by the row of its usage: 8 bytes."""
    return _digest("model", turn_id, str(usage_id))[:8]


def wait_span_id(confirmation_id: str) -> bytes:
    """The span of the wait for a person's answer: 8 bytes."""
    return _digest("wait", confirmation_id)[:8]


def traceparent_of_call(turn: Turn, call_id: str) -> str:
    """The `traceparent` with the span of a tool call; its flag says that the span is sent, which each is."""
    trace = trace_id(turn.traceparent, turn.root_id)
    return f"00-{trace.hex()}-{tool_span_id(turn.id, call_id).hex()}-01"


def _digest(*parts: str) -> bytes:
    return sha256("\0".join(parts).encode()).digest()
