"""Every operation fails once, or the engine is killed there: every ended turn's trace has arrived in the end."""

from collections import defaultdict
from pathlib import Path

import anyio
import pytest
from bytebrew_traces.identifiers import model_span_id, tool_span_id, turn_span_id, wait_span_id

from tests.collector import Received, collector
from tests.faults.layer import FAULTS
from tests.faults.sweep import Engine, Report, Sweep, engine_in
from tests.faults.test_sweep import ALL, Record, shown, stride
from tests.stored import opened

KILL = FAULTS[-1]
SWEPT = FAULTS if ALL else (FAULTS[0], KILL)


def expected(engine: Engine) -> dict[str, str]:
    """The spans of all turns that have ended, with what they are of."""
    ended = "(select id from turns where status not in ('queued', 'running'))"
    found: dict[str, str] = {}
    with opened(engine.data) as conn:
        for row in conn.execute(f"select id from turns where id in {ended}"):
            found[turn_span_id(row["id"]).hex()] = f"turn {row['id']}"
        for row in conn.execute(f"select turn_id, call_id from tool_calls where turn_id in {ended}"):
            found[tool_span_id(row["turn_id"], row["call_id"]).hex()] = f"call {row['call_id']} of {row['turn_id']}"
        for row in conn.execute(f"select id, turn_id from usage where turn_id in {ended}"):
            found[model_span_id(row["turn_id"], row["id"]).hex()] = f"model call {row['id']} of {row['turn_id']}"
        for row in conn.execute(f"select id, turn_id from confirmations where turn_id in {ended}"):
            found[wait_span_id(row["id"]).hex()] = f"wait {row['id']} of {row['turn_id']}"
    return found


@pytest.mark.slow
@pytest.mark.timeout(3600 if ALL else 300)
async def test_no_trace_is_lost_and_one_that_comes_twice_is_the_same(tmp_path: Path, record_property: Record) -> None:
    report = Report()
    async with collector() as traces, engine_in(tmp_path, BYTEBREW_OTLP_ENDPOINT=traces.url) as engine:
        for fault in SWEPT:
            await Sweep(engine, "turn", fault, report).run(1, stride(fault))
        await engine.again()
        await engine.idle()
        wanted = expected(engine)
        with anyio.move_on_after(30):
            while wanted.keys() - {span.span_id for span in traces.spans}:
                await anyio.sleep(0.5)
        seen: defaultdict[str, set[Received]] = defaultdict(set)
        for span in traces.spans:
            seen[span.span_id].add(span)
        assert await engine.stop() == 0
    report.violations += [f"{wanted[one]} has no span" for one in wanted.keys() - seen.keys()]
    report.violations += [f"a span of no ended turn: {seen[one]}" for one in seen.keys() - wanted.keys()]
    report.violations += [f"one span came as {spans}" for spans in seen.values() if len(spans) > 1]
    assert len(wanted) > 50
    record_property("spans", len(wanted))
    shown(report, record_property)
