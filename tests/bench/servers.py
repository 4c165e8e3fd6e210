"""Servers as processes of their own: started on a core, measured from /proc, and ended whatever happens."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from bytebrew.testing import ADMIN

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = (CORES[0], CORES[1]) if len(CORES) > 1 else (None, None)
"""Where the servers under test run, and where the load and the double do; None where there is but one core."""


def cpu_of_tree(pid: int) -> float:
    """Seconds that a process has used, with all that it has started (proc(5), fields 14 to 17 of stat)."""
    with suppress(FileNotFoundError):  # it has ended, and its parent counts it
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        own = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
        return own + sum(cpu_of_tree(int(child)) for child in children)
    return 0.0


class Server:
    """A running server, and what it has used so far."""

    def __init__(self, pid: int, port: int) -> None:
        self.port = port
        self._pid = pid
        self._proc = Path(f"/proc/{pid}")

    @property
    def cpu_seconds(self) -> float:
        """User and system time of all its threads and workers."""
        return cpu_of_tree(self._pid)

    @property
    def rss_kb(self) -> float:
        """Memory that is resident now."""
        return int((self._proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


@contextmanager
def running(
    *command: str, core: int | None, errors: Path, python: str = sys.executable, **environment: str
) -> Iterator[Server]:
    """A Python module that prints a line ending in its URL once it listens; gone afterwards."""
    pin = None if core is None else partial(os.sched_setaffinity, 0, {core})
    # its own session, so that Ctrl-C reaches the bench alone, which then ends its servers in order
    with (
        errors.open("ab") as log,
        subprocess.Popen(
            [python, "-m", *command],
            env={name: value for name, value in os.environ.items() if not name.startswith("BYTEBREW_")} | environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
            preexec_fn=pin,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            ready = re.search(r"http://127\.0\.0\.1:(\d+)$", process.stdout.readline().strip())
            if ready is None:
                raise SystemExit(f"{' '.join(command)} did not start:\n{errors.read_text()[-2000:]}")
            yield Server(process.pid, int(ready[1]))
        finally:
            process.terminate()
            try:
                process.wait(10)
            finally:
                process.kill()


@contextmanager
def running_engine(data: Path, **more: str) -> Iterator[Server]:
    """`bytebrew serve` on a data folder, with the test kit's admin token and more settings."""
    settings = {
        "BYTEBREW_PORT": "0",
        "BYTEBREW_DATA_DIR": str(data),
        "BYTEBREW_BOOTSTRAP_ADMIN_TOKEN": ADMIN,
        "BYTEBREW_DRAIN_SECONDS": "0",
        **more,
    }
    with running("bytebrew", "serve", core=SERVER_CORE, errors=data.parent / "errors.log", **settings) as server:
        yield server
