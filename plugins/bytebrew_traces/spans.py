"""Spans of a turn after OpenTelemetry's conventions for generative AI, which are in development.

https://github.com/open-telemetry/semantic-conventions-genai, as of November 2026.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from bytebrew import Row, __version__, parse_time, redact

from . import content
from .identifiers import caller_span_id, model_span_id, tool_span_id, trace_id, turn_span_id, wait_span_id
from .turn_rows import TurnRows

Value = str | bool | int | float | Sequence[str] | None
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PROVIDERS = {
    "openai_compatible": "openai",
    "azure_openai": "azure.ai.openai",
    "google": "gcp.gemini",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
"""The conventions' names of vendors; others are the type of the model."""
_FINISH = {
    "end": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_calls": "tool_call",
    "refusal": "content_filter",
}
_SAMPLED = 1


class Spans:
    """Makes spans; with `content` they have messages, and the input and output of tools."""

    def __init__(self, name: str, *, content: bool) -> None:
        self.content = content
        self._resource = Resource(attributes=_attributes({"service.name": name, "service.version": __version__}))
        self._scope = InstrumentationScope(name="bytebrew", version=__version__)

    def request(self, spans: Sequence[Span]) -> bytes:
        """The body of an export."""
        scoped = ScopeSpans(scope=self._scope, spans=spans)
        whole = ExportTraceServiceRequest(resource_spans=[ResourceSpans(resource=self._resource, scope_spans=[scoped])])
        body: bytes = whole.SerializeToString()
        return body

    def rejected(self, body: bytes) -> str:
        """What the collector says in its answer of spans that it did not take; empty if it took all."""
        try:
            partial = ExportTraceServiceResponse.FromString(body).partial_success
        except DecodeError:  # some collectors answer JSON or nothing
            return ""
        if not partial.rejected_spans and not partial.error_message:
            return ""
        return f"has rejected {partial.rejected_spans} spans: {redact(partial.error_message[:1000])}"

    def of_turn(self, rows: TurnRows) -> Iterator[Span]:
        """The span of a turn, then those of what it did."""
        yield self._turn(rows)
        for n, call in enumerate(rows.calls):
            yield self._model_call(rows, n, call)
        for tool in rows.tools:
            yield self._tool_call(rows, tool)
        for wait in rows.waits:
            yield _wait(rows, wait)

    def _turn(self, rows: TurnRows) -> Span:
        turn, last = rows.turn, rows.calls[-1] if rows.calls else None
        agent = last["agent"] if last else turn["agent"]
        values: dict[str, Value] = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": _provider(last["provider"]) if last else None,
            "gen_ai.request.model": last["model_name"] if last else None,
            "gen_ai.agent.name": agent,
            "gen_ai.agent.version": str(turn["agent_version"]) if turn["agent_version"] else None,
            "bytebrew.schema": turn["schema"] or None,
            "bytebrew.turn.id": turn["id"],
            "bytebrew.turn.status": turn["status"],
        }
        if self.content:
            own = [message for _, message in rows.messages]
            values["gen_ai.input.messages"] = content.messages(own[:1])
            if own and own[-1].role == "assistant":
                values["gen_ai.output.messages"] = content.messages(own[-1:], _finish(last) or "stop")
        if turn["parent_turn_id"]:
            parent = tool_span_id(turn["parent_turn_id"], turn["parent_call_id"])
        else:
            parent = caller_span_id(turn["traceparent"]) if turn["traceparent"] else b""
        span = _span(rows, turn_span_id(turn["id"]), f"invoke_agent {agent}", values, rows.error, parent=parent)
        _lasts(span, _nanoseconds(turn["created_at"]), _nanoseconds(turn["finished_at"]))
        if turn["started_at"] and turn["started_at"] != turn["created_at"]:
            span.events.add(name="bytebrew.turn.started", time_unix_nano=_nanoseconds(turn["started_at"]))
        return span

    def _model_call(self, rows: TurnRows, n: int, call: Row) -> Span:
        finish = _finish(call)
        values: dict[str, Value] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": _provider(call["provider"]),
            "gen_ai.request.model": call["model_name"],
            "gen_ai.response.finish_reasons": [finish] if finish else None,
            "gen_ai.usage.input_tokens": call["input_tokens"],
            "gen_ai.usage.output_tokens": call["output_tokens"],
            "gen_ai.usage.cache_read.input_tokens": call["cached_tokens"] or None,
            "gen_ai.usage.cache_creation.input_tokens": call["cache_write_tokens"] or None,
            "gen_ai.usage.reasoning.output_tokens": call["thinking_tokens"] or None,
            "gen_ai.usage.cost": call["cost_usd"],
            "bytebrew.model": call["model"],
            "bytebrew.purpose": call["purpose"],
        }
        if self.content and call["purpose"] == "step":
            later = [one["started_at"] for one in rows.calls[n + 1 :] if one["purpose"] == "step"]
            before = [message for moment, message in rows.messages if moment < call["started_at"]]
            values["gen_ai.input.messages"] = content.messages(before)
            answer = [
                message
                for moment, message in rows.messages
                if message.role == "assistant" and moment >= call["finished_at"] and not (later and moment > later[0])
            ]
            if answer:
                values["gen_ai.output.messages"] = content.messages(answer[:1], finish or "error")
        name = f"chat {call['model_name']}"
        span = _span(rows, model_span_id(rows.turn["id"], call["id"]), name, values, "" if finish else "interrupted")
        span.kind = Span.SPAN_KIND_CLIENT
        _lasts(span, round(call["started_at"] * 1e6) * 1000, round(call["finished_at"] * 1e6) * 1000)
        return span

    def _tool_call(self, rows: TurnRows, tool: Row) -> Span:
        error = {"completed": "", "failed": "tool_error"}.get(tool["status"], "interrupted")
        values: dict[str, Value] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": tool["tool"],
            "gen_ai.tool.call.id": tool["call_id"],
            "gen_ai.tool.type": "function",
        }
        if self.content:
            values["gen_ai.tool.call.arguments"] = content.text(tool["input"])
            values["gen_ai.tool.call.result"] = None if tool["output"] is None else content.text(tool["output"])
        span_id = tool_span_id(rows.turn["id"], tool["call_id"])
        span = _span(rows, span_id, f"execute_tool {tool['tool']}", values, error)
        ended = tool["finished_at"] or rows.turn["finished_at"]
        _lasts(span, _nanoseconds(tool["started_at"] or tool["asked_at"]), _nanoseconds(ended))
        return span


def _wait(rows: TurnRows, wait: Row) -> Span:
    """The span of a question's wait for a person; the conventions have none."""
    values: dict[str, Value] = {
        "gen_ai.tool.name": wait["tool"],
        "gen_ai.tool.call.id": wait["call_id"],
        "bytebrew.confirmation.id": wait["id"],
        "bytebrew.confirmation.kind": wait["kind"],
        "bytebrew.confirmation.status": wait["status"],
        "bytebrew.confirmation.verdict": wait["verdict"],
    }
    span = _span(rows, wait_span_id(wait["id"]), f"wait_for_person {wait['tool']}", values, "")
    late = wait["expires_at"] if wait["status"] == "expired" else None
    ended = wait["answered_at"] or late or rows.turn["finished_at"]
    _lasts(span, _nanoseconds(wait["created_at"]), _nanoseconds(ended))
    return span


def _span(
    rows: TurnRows, span_id: bytes, name: str, values: Mapping[str, Value], error: str, *, parent: bytes | None = None
) -> Span:
    turn = rows.turn
    shared = {"gen_ai.conversation.id": turn["session_id"], "session.id": turn["session_id"]}
    return Span(
        trace_id=trace_id(turn["traceparent"], turn["root_turn_id"]),
        span_id=span_id,
        parent_span_id=turn_span_id(turn["id"]) if parent is None else parent,
        name=name,
        kind=Span.SPAN_KIND_INTERNAL,
        flags=_SAMPLED,
        attributes=_attributes({**values, **shared, "error.type": error or None}),
        status=Status(code=Status.STATUS_CODE_ERROR) if error and error != "cancelled" else None,
    )


def _lasts(span: Span, begun: int, ended: int) -> None:
    """Sets the times of a span; a clock that was set back meanwhile makes it empty."""
    span.start_time_unix_nano = begun
    span.end_time_unix_nano = max(begun, ended)


def _nanoseconds(moment: str) -> int:
    return (parse_time(moment) - _EPOCH) // timedelta(microseconds=1) * 1000


def _provider(type: str) -> str:
    return _PROVIDERS.get(type, type)


def _finish(call: Row | None) -> str:
    return _FINISH.get(call["stop"], "") if call else ""


def _attributes(values: Mapping[str, Value]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in values.items() if value is not None]


def _value(value: Value) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value.encode("utf-8", "replace").decode())
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(array_value=ArrayValue(values=[_value(one) for one in value or ()]))
