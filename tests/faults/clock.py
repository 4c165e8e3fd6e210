"""A wall clock that a test sets while a real process runs: a small library in C between it and the system."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

DAY = 86400.0


class Clock:
    """The wall clock of the processes that are started with `environment`; monotonic time goes on as it is."""

    def __init__(self, folder: Path) -> None:
        """Compiles the library into the folder; skips the test where there is no compiler."""
        compiler = shutil.which("cc") or pytest.skip("compiling needs cc")
        library, self._file = folder / "clock.so", folder / "clock.offset"
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(Path(__file__).with_suffix(".c"))]
        subprocess.run([*command, "-ldl"], check=True)
        self.set(0)
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(self._file)}

    def set(self, seconds: float) -> None:
        """Puts the clock so far ahead of the true time, or behind it where that is negative; at once."""
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=q", round(seconds * 1e9)))
