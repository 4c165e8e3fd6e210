"""Every operation fails once, for each act of a client and each start; nothing is lost and nothing hangs."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.commands import install
from tests.faults.acts import ACTS, STEPS, Client
from tests.faults.layer import FAULTS, Fault
from tests.faults.sweep import Report, Sweep, boots, engine_in

pytestmark = pytest.mark.sqlite

ALL = "ALL_FAULTS" in os.environ
EVERY, LANES = (1, 3) if ALL else (9, 2)
"""Each how manieth operation fails, and how many engines are tried at a time."""
SWEPT = FAULTS if ALL else tuple(fault for fault in FAULTS if str(fault) not in ("write EIO", "statement FULL"))
THIN = {"memory ENOMEM": (7, 40), "read EIO": (1, 3), "statement MemoryError": (1, 3), "statement SIGKILL": (4, 9)}
"""Of what there is in thousands or takes long, each how manieth of those, in the long form and the short."""

Record = Callable[[str, Any], None]


def stride(fault: Fault) -> int:
    return EVERY * THIN.get(str(fault), (1, 1))[not ALL]


def shown(report: Report, record_property: Record) -> None:
    record_property("swept", report.swept)
    record_property("violations", len(report.violations))
    print(report)
    assert report.swept
    assert not report.violations, str(report)


@pytest.mark.slow
@pytest.mark.timeout(3600 if ALL else 300)
@pytest.mark.parametrize("act", ACTS)
async def test_nothing_is_lost_whatever_operation_fails_once(act: str, tmp_path: Path, record_property: Record) -> None:
    report, left = Report(), list(SWEPT)

    async def lane(folder: Path) -> None:
        async with engine_in(folder) as engine:
            while left:
                fault = left.pop(0)
                await Sweep(engine, act, fault, report).run(1 + len(left) % stride(fault), stride(fault))
            assert await engine.stop() == 0

    async with asyncio.TaskGroup() as group:
        for n in range(LANES):
            group.create_task(lane(tmp_path / f"{n}"))
    shown(report, record_property)


@pytest.mark.slow
@pytest.mark.timeout(3600 if ALL else 300)
@pytest.mark.parametrize("fault", FAULTS if ALL else FAULTS[3:4], ids=str)
async def test_a_start_whose_operation_fails_serves_or_ends_in_words(
    fault: Fault, tmp_path: Path, record_property: Record
) -> None:
    report = Report()
    async with engine_in(tmp_path) as engine:
        client = Client(engine, approves=False)
        asking = asyncio.create_task(client.chat("fault", STEPS))
        await asyncio.sleep(0)
        while b"event: confirmation" not in b"".join(engine.seen.frames[client.sessions[0]].values()):
            await asyncio.sleep(0.01)
        asking.cancel()
        await boots(engine, fault, report, start=1, stride=stride(fault) * 5)
        await engine.again()
        await engine.idle()
        report.violations += engine.violations()
    shown(report, record_property)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", [FAULTS[0], FAULTS[2]], ids=str)
async def test_health_is_degraded_for_as_long_as_the_disk_fails(
    fault: Fault, tmp_path: Path, record_property: Record
) -> None:
    report = Report()
    async with engine_in(tmp_path) as engine:
        for n in (1, 5, 17):
            client = Client(engine)
            engine.control.arm(fault, n, lasting=True)
            asking = asyncio.create_task(client.chat("fault", STEPS))
            while not (engine.control.hits or asking.done()):
                await asyncio.sleep(0.01)
            for _ in range(5):
                assert "'status': 'degraded'" in await engine.health()
                await asyncio.sleep(0.1)
            report.swept += engine.control.hits
            engine.control.disarm()
            async with asyncio.timeout(20):
                await asking
            assert await engine.health() == "ok"
            report.violations += client.problems
        await engine.idle()
        report.violations += engine.violations()
    shown(report, record_property)


async def test_an_engine_that_is_swept_has_the_code_of_the_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from bytebrew import hookimpl\n@hookimpl\nasync def startup(engine): ..."
    install(tmp_path / "path", "own", source)
    monkeypatch.syspath_prepend(str(tmp_path / "path"))
    async with engine_in(tmp_path / "engine") as engine:
        plugins = (await engine.http.get("/api/v1/plugins")).json()["data"]
    assert "own" in {one["name"] for one in plugins}
