"""Metrics for Prometheus: what the engine counts, and what other plugins tell at a scrape."""

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.openmetrics import exposition as openmetrics

from bytebrew import (
    TRAFFIC,
    Engine,
    Outcome,
    Register,
    Reply,
    Request,
    Route,
    Sample,
    StateKey,
    ToolCall,
    Turn,
    hookimpl,
)

log = logging.getLogger(__name__)

MOST = 200
"""Limit of values per label, and of series per plugin metric; further ones become "other", or are omitted."""
TICK = 0.25
"""Seconds between measurements of the event loop's lag."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
LLM_SECONDS = (0.1, 0.5, 1, 2, 5, 10, 30, 60)
DELTA_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
LAG_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
PATH = "/metrics"
OPENMETRICS = "application/openmetrics-text"
_WORD = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
_SERIES = {
    "counter": ("", "_total", "_created"),
    "gauge": ("",),
    "histogram": ("", "_bucket", "_count", "_sum", "_created"),
    "summary": ("", "_count", "_sum", "_created"),
}
"""Suffixes of a metric's series, by type; no other metric may use these names."""
PLAIN = "text/plain; version=0.0.4; charset=utf-8"


class MetricsSettings(Struct, frozen=True, kw_only=True):
    """Settings for access to the metrics."""

    metrics_token_required: Annotated[
        bool, Meta(description="whether GET /metrics wants a token with the scope admin")
    ] = False


class Values:
    """The values of one label; only the first 200 are distinguished."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, value: str) -> str:
        """The value, or "other"."""
        value = value[:100]
        if value not in self._seen:
            if len(self._seen) == MOST:
                return "other"
            self._seen.add(value)
        return value


class Metrics:
    """An engine's metrics."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._registry = registry = CollectorRegistry()
        self._providers, self._models, self._tools = Values(), Values(), Values()
        self._requests = Counter(
            "bytebrew_http_requests_total",
            "Requests that were answered, by the path of their route; those refused unread are in refused_turns alone.",
            ("method", "path", "status"),
            registry=registry,
        )
        self._request_seconds = Histogram(
            "bytebrew_http_request_duration_seconds",
            "From a request to the end of its answer, a stream's included.",
            ("method", "path"),
            registry=registry,
        )
        self._answered: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}  # to look their labels up once
        self._tool_calls = Counter(
            "bytebrew_tool_calls_total",
            "Tool calls that ended, well (completed) or not (failed).",
            ("tool_name", "status"),
            registry=registry,
        )
        self._llm_requests = Counter(
            "bytebrew_llm_requests_total",
            "Model calls, well or not, under the model that answered; counted when their turn ends.",
            ("provider", "model"),
            registry=registry,
        )
        self._llm_seconds = Histogram(
            "bytebrew_llm_request_duration_seconds",
            "From a model call to its end, retries and fallbacks included.",
            ("provider", "model"),
            buckets=LLM_SECONDS,
            registry=registry,
        )
        self._turns = Counter("bytebrew_turns_total", "Turns that ended.", ("status",), registry=registry)
        self._first_delta = Histogram(
            "bytebrew_time_to_first_delta_seconds",
            "From a turn's beginning to the first words or thoughts of its answer.",
            buckets=DELTA_SECONDS,
            registry=registry,
        )
        self._tokens = Counter(
            "bytebrew_tokens_total",
            "Tokens of turns that ended; cached ones are part of the input, thinking of the output.",
            ("kind",),
            registry=registry,
        )
        self._cost = Counter(
            "bytebrew_cost_usd_total",
            "US dollars for the model calls of turns that ended, where the price is known.",
            registry=registry,
        )
        self._lag = Histogram(
            "bytebrew_event_loop_lag_seconds",
            "How late the event loop wakes what sleeps.",
            buckets=LAG_SECONDS,
            registry=registry,
        )
        for status in ("completed", "failed", "cancelled"):
            self._turns.labels(status)
        for kind in ("input", "output", "cached", "thinking", "cache_write"):
            self._tokens.labels(kind)
        self._watch: asyncio.Task[None] | None = None

    async def scrape(self, request: Request[None]) -> Reply:
        """The metrics as text: OpenMetrics where the client accepts it."""
        page = Page(self._registry, list(self._read()), self._engine.samples())
        write: Callable[[Any], bytes]
        if OPENMETRICS in request.headers.get("accept", ""):
            write, kind = openmetrics.generate_latest, openmetrics.CONTENT_TYPE_LATEST
        else:
            write, kind = generate_latest, PLAIN
        return Reply(body=await asyncio.to_thread(write, page), headers={"content-type": kind})

    def _read(self) -> Iterator[Metric]:
        turns, db = list(self._engine.turns.values()), self._engine.db
        sessions = len({turn.session_id for turn in turns})
        queued = sum(turn.status == "queued" for turn in turns)
        traffic = self._engine.state[TRAFFIC]()
        yield GaugeMetricFamily("bytebrew_active_sessions", "Sessions with a turn that runs or waits.", sessions)
        yield GaugeMetricFamily("bytebrew_open_streams", "Streams that clients are reading.", traffic.open_streams)
        yield GaugeMetricFamily("bytebrew_queue_depth", "Turns that wait for another of their session.", queued)
        refused = "Requests that were refused because the engine had too many turns."
        yield CounterMetricFamily("bytebrew_refused_turns", refused, traffic.refused_turns)
        works = "Pieces of work in each commit to the database."
        rows = "Events in each commit to the database."
        yield SummaryMetricFamily("bytebrew_commit_works", works, db.commits, db.committed_works)
        yield SummaryMetricFamily("bytebrew_commit_events", rows, db.commits, db.committed_rows)
        yield from _of_nodes(self._engine)

    def request_ended(self, method: str, path: str, status: int, seconds: float) -> None:
        """Counts a request."""
        if (found := self._answered.get((method, path, status))) is None:
            labels = method if method in METHODS else "other", path or "other"
            found = self._requests.labels(*labels, str(status)), self._request_seconds.labels(*labels)
            if method in METHODS:
                self._answered[method, path, status] = found
        count, times = found
        count.inc()
        times.observe(seconds)

    def tool_ended(self, call: ToolCall, result: Outcome) -> None:
        """Counts a tool call; unknown tools count as "other", because a model may invent names."""
        nowhere = f"There is no tool named '{call.tool}'", f"No tool '{call.tool}' can be reached"
        made_up = result.has_error and result.output.startswith(nowhere)
        name = "other" if made_up else self._tools(call.tool)
        self._tool_calls.labels(name, "failed" if result.has_error else "completed").inc()

    def turn_ended(self, turn: Turn) -> None:
        """Counts a turn and its model calls; tokens of spawned agents are counted in the root turn."""
        self._turns.labels(turn.status).inc()
        if turn.first_delta_seconds is not None:
            self._first_delta.observe(turn.first_delta_seconds)
        for provider, model, seconds in turn.model_calls:
            labels = self._providers(provider), self._models(model)
            self._llm_requests.labels(*labels).inc()
            self._llm_seconds.labels(*labels).observe(seconds)
        if not turn.spawned:
            usage = turn.usage
            for kind in ("input", "output", "cached", "thinking"):
                self._tokens.labels(kind).inc(max(0, getattr(usage, f"{kind}_tokens")))  # some vendors send -1
            self._cost.inc(max(0, usage.cost_usd or 0))

    def start(self) -> None:
        """Starts measuring the event loop's lag."""
        self._watch = asyncio.create_task(self._watch_lag(), name="event loop lag")

    def stop(self) -> None:
        """Stops measuring."""
        if self._watch is not None:
            self._watch.cancel()

    async def _watch_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + TICK
            await asyncio.sleep(TICK)
            self._lag.observe(max(0.0, loop.time() - due))


def _of_nodes(engine: Engine) -> Iterator[Metric]:
    """How the engine is among the nodes that share its database; nothing where it has that alone."""
    if (node := engine.node.figures()) is None:
        return
    for name, value, text in (
        ("nodes", node.nodes, "Nodes that share the database, this one among them."),
        ("node_leads", engine.node.leads, "Whether this node leads: 1 on one of the nodes."),
        ("node_lease_age_seconds", node.lease_age, "Since this node renewed its lease, which others end at 10."),
        ("node_silence_seconds", node.silence, "Since the least heard of the other nodes renewed its lease."),
    ):
        yield GaugeMetricFamily(f"bytebrew_{name}", text, value)
    for name, value, text in (
        ("nodes_ended", node.nodes_ended, "Nodes that this one has ended, whose lease had run out."),
        ("turns_taken_over", node.turns_taken_over, "Open turns that this node has taken over from others."),
        ("signals_sent", node.signals_sent, "Signals that this node has sent to the others."),
        ("signals_received", node.signals_received, "Signals of other nodes that have come here."),
    ):
        yield CounterMetricFamily(f"bytebrew_{name}", text, value)
    text = "From an event at another node to its arrival here, where somebody follows it; by the clocks of both."
    yield SummaryMetricFamily("bytebrew_remote_event_delay_seconds", text, node.events, node.event_seconds)


class Page:
    """The metrics of one scrape; encoded in a thread, because they may be many."""

    def __init__(self, registry: CollectorRegistry, read: Sequence[Metric], samples: Sequence[Sample]) -> None:
        self._registry = registry
        self._read = read
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        """Counted metrics, the engine's gauges, and plugins' metrics whose names are free."""
        own = [*self._registry.collect(), *self._read]
        yield from own
        yield from families(self._samples, {name for family in own for name in _names(family)})


def _names(family: Metric) -> set[str]:
    return {family.name + end for end in _SERIES[family.type]}


def families(samples: Iterable[Sample], taken: set[str]) -> list[Metric]:
    """Samples as metrics; invalid ones, and those with names in `taken`, are logged and omitted."""
    metrics: dict[str, Metric] = {}
    seen: set[tuple[Any, ...]] = set()
    for name, value, labels, kind, description in samples:
        base = name.removesuffix("_total") if kind == "counter" else name
        try:
            family_type = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
            family = metrics.get(base) or family_type(base, description)
            series = (base, *sorted(labels.items()))
            if family.type != kind or series in seen or (base not in metrics and taken & _names(family)):
                raise ValueError("another metric has this name")
            if not all(map(_WORD.fullmatch, (name, *labels))):
                raise ValueError("names are of letters, digits and _, and begin with no __")
            if len(family.samples) < MOST:
                family.add_sample(
                    f"{base}_total" if kind == "counter" else base,
                    {key: str(text) for key, text in labels.items()},
                    float(value),
                )
            metrics[base] = family
            seen.add(series)
            taken |= _names(family)
        except (TypeError, ValueError) as error:
            log.warning("the sample %s of a plugin is left out: %s", name, error)
    return list(metrics.values())


METRICS = StateKey[Metrics]("metrics")


@hookimpl
def register_settings(register: Register[type[Struct]]) -> None:
    register(MetricsSettings)


@hookimpl
def register_routes(register: Register[Route], engine: Engine) -> None:
    scope = "admin" if engine.settings.of(MetricsSettings).metrics_token_required else None
    engine.state[METRICS] = metrics = Metrics(engine)
    register(
        Route(
            method="GET",
            path=PATH,
            scope=scope,
            run=metrics.scrape,
            summary="Metrics for Prometheus",
            gives=("text/plain", OPENMETRICS),
        )
    )


@hookimpl
async def startup(engine: Engine) -> None:
    engine.state[METRICS].start()


@hookimpl
async def tool_finished(engine: Engine, turn: Turn, call: ToolCall, result: Outcome) -> None:
    engine.state[METRICS].tool_ended(call, result)


@hookimpl
async def turn_finished(engine: Engine, turn: Turn) -> None:
    engine.state[METRICS].turn_ended(turn)


@hookimpl
async def request_answered(engine: Engine, method: str, path: str, status: int, seconds: float) -> None:
    if status:
        engine.state[METRICS].request_ended(method, path, status, seconds)


@hookimpl
async def shutdown(engine: Engine) -> None:
    engine.state[METRICS].stop()
