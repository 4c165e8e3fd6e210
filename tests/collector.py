"""A collector of traces: a server that reads OTLP/HTTP with OpenTelemetry's own messages and keeps the spans."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.upstream import Step, Upstream, head, upstream


@dataclass(frozen=True)
class Received:
    """A span as it came; ids are in hex, times in nanoseconds."""

    trace_id: str
    span_id: str
    parent: str
    name: str
    kind: int
    begun: int
    ended: int
    failed: bool
    attributes: tuple[tuple[str, Any], ...]
    events: tuple[str, ...]
    service: str

    def __getitem__(self, key: str) -> Any:
        """An attribute by name; None if it has none."""
        return dict(self.attributes).get(key)


def taken(rejected: int = 0, words: str = "") -> list[Step]:
    """An answer of a collector that has taken the spans, or not all of them."""
    answer = ExportTraceServiceResponse()
    if rejected:
        answer.partial_success.rejected_spans = rejected
        answer.partial_success.error_message = words
    body = answer.SerializeToString()
    return [head(content_type="application/x-protobuf", content_length=len(body)) + body]


class Collector:
    """The spans that came, in order; what comes twice is in there twice."""

    def __init__(self, double: Upstream) -> None:
        self._double = double
        self.url = double.url

    @property
    def requests(self) -> Sequence[Any]:
        """The exports, as requests."""
        return self._double.requests

    @property
    def spans(self) -> list[Received]:
        """Every span that came."""
        return [span for one in self._double.requests for span in spans_of(one.body)]

    async def until(self, count: int) -> list[Received]:
        """The spans once there are so many."""
        with anyio.fail_after(20):
            while len(self.spans) < count:
                await anyio.sleep(0.02)
        return self.spans


def spans_of(body: bytes) -> list[Received]:
    """The spans of an export."""
    export = ExportTraceServiceRequest.FromString(body)
    return [
        Received(
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            span.name,
            span.kind,
            span.start_time_unix_nano,
            span.end_time_unix_nano,
            span.status.code == 2,
            tuple((one.key, _value(one.value)) for one in span.attributes),
            tuple(one.name for one in span.events),
            next(one.value.string_value for one in resource.resource.attributes if one.key == "service.name"),
        )
        for resource in export.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(_value(one) for one in value.array_value.values)
    return getattr(value, kind)


@asynccontextmanager
async def collector(*answers: Sequence[Step]) -> AsyncIterator[Collector]:
    """A collector on a free port, which gives these answers in order, the last one again and again."""
    async with upstream(*(answers or (taken(),))) as double:
        yield Collector(double)
