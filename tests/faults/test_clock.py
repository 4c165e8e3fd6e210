"""The clock that tests set."""

import subprocess
import sys
from pathlib import Path

from tests.faults.clock import DAY, Clock

WATCH = """
import sqlite3, sys, time
from datetime import datetime
database = sqlite3.connect(":memory:")
for line in sys.stdin:
    by_sql = database.execute("select unixepoch('now')").fetchone()[0]
    print(time.time(), datetime.now().timestamp(), by_sql, time.monotonic(), flush=True)
"""


def test_a_process_sees_the_clock_that_is_set_while_it_runs_and_monotonic_time_goes_on(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", WATCH], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clock.environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def look() -> list[float]:
            assert process.stdin is not None
            assert process.stdout is not None
            print(file=process.stdin, flush=True)
            return [float(one) for one in process.stdout.readline().split()]

        true = look()
        for days in (400, -2, 0):
            clock.set(days * DAY)
            seen = look()
            assert [round((b - a) / DAY) for a, b in zip(true, seen, strict=True)] == [days, days, days, 0]
        process.stdin.close()
