"""An engine with the agent and the schema `support`, for the commands of the pages as they stand but for the host."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from bytebrew.testing import ADMIN
from tests.commands import environment
from tests.docs import ROOT
from tests.processes import serving


def commands(page: str, heading: str) -> list[str]:
    """The blocks of commands in a section of a page of docs/."""
    section = (ROOT / "docs" / page).read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"```bash\n(.*?)```", section, re.DOTALL)


class Shop:
    """The running engine; `client` is its admin, and `folder` is where commands are run."""

    def __init__(self, url: str, folder: Path, client: httpx.Client) -> None:
        self.url, self.folder, self.client = url, folder, client

    def run(self, command: str, **names: str) -> str:
        """What a command of a page prints; it must end well. The names are variables of the shell, beside TOKEN."""
        here = command.replace("http://localhost:8443", self.url)
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", here],
            cwd=self.folder,
            env=environment() | {"PATH": path, "TOKEN": ADMIN, **names},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@contextmanager
def opened(folder: Path) -> Iterator[Shop]:
    """An engine of its own, which is gone afterwards."""
    agent = {"name": "support", "model": "demo", "tools": ["current_time"]}
    schema = {"name": "support", "entry_agent": "support", "chat_enabled": True, "client_tools": True}
    with (
        serving(folder / "engine", {"BYTEBREW_CALLBACK_ORIGINS": "http://127.0.0.1:9000"}) as process,
        httpx.Client(base_url=process.url, headers={"Authorization": f"Bearer {ADMIN}"}, timeout=30) as client,
    ):
        client.patch("/api/v1/models/demo", json={"pricing_input": 0, "pricing_output": 0}).raise_for_status()
        client.post("/api/v1/agents", json=agent).raise_for_status()
        client.post("/api/v1/schemas", json=schema).raise_for_status()
        yield Shop(process.url, folder, client)
