"""The engine under test: a process on a real socket and a real file, whose clock alone may be set."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from bytebrew.testing import ADMIN
from tests.chaos.model import Model
from tests.chaos.process import Process
from tests.commands import install

SECRETS = {"model": "sk-soak-model-secret", "tool": "soak-tool-secret-value", "mcp": "soak-mcp-secret-value"}
"""What the engine is given in confidence, beside its tokens."""
_SECRET = re.compile("|".join((ADMIN, *SECRETS.values(), r"bb_[0-9a-f]{64}", "sk-chaos")))


class Engine(Process):
    """One engine after the other on one data folder."""

    def __init__(self, folder: Path, model: Model, planted: str = "") -> None:
        super().__init__(folder, model)
        install(folder / "plugins", "soak", Path(__file__).with_name("plugin.py").read_text())
        if planted:
            install(folder / "plugins", "planted", planted)
        self.number = 0
        """How many engines were started before this one."""
        self._read = 0

    def disturbed_by(self) -> dict[str, str]:
        """The clock: the disk is sound."""
        return self._clock.environment

    async def start(self) -> bool:
        """Starts an engine; whether it serves."""
        served = await super().start()
        self.number += served
        return served

    def read_log(self) -> None:
        """Looks for traces and secrets in what was logged since it was read last."""
        if not self._log.exists():
            return
        with self._log.open("rb") as log:
            log.seek(self._read)
            text = log.read().decode(errors="replace")
        whole = text.rfind("\n") + 1
        self._read += len(text[:whole].encode())
        for found in re.finditer("Traceback", text[:whole]):
            self.model.violation(f"a trace in the log: {text[max(0, found.start() - 300) : found.start() + 4000]}")
        if secret := _SECRET.search(text[:whole]):
            self.model.violation(f"a secret in the log: {text[max(0, secret.start() - 200) : secret.start()]}...")

    def children(self, words: str) -> list[int]:
        """The processes that the engine has started whose command has these words."""
        return [pid for pid in _below(self.pid) if words in _command(pid)]

    def kill_children(self, words: str) -> int:
        """Kills these processes; how many there were."""
        pids = self.children(words)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(pids)


def _below(pid: int) -> Iterator[int]:
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield int(child)
                yield from _below(int(child))


def _command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""
