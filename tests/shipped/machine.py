"""A folder with the files of a release and programs to install them with, as a person has them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from bytebrew.testing import ADMIN
from tests.docs.shop import commands
from tests.processes import Process, serving
from tests.shipped.conftest import CACHE, ROOT


class Machine:
    """Runs commands of the pages, in `folder`; what they install comes first on the path."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin, self.data = folder / "release", folder / "bin", folder / "data"
        shutil.copytree(CACHE / "dist", self.folder)
        tools = folder / "tools"
        tools.mkdir()
        python = f'#!/bin/sh\nexec "{getattr(sys, "_base_executable", sys.executable)}" "$@"\n'
        (tools / "python3").write_text(python)
        (tools / "python3").chmod(0o755)
        (tools / "uv").symlink_to(ROOT / ".cache" / "uv" / "bin" / "uv")
        (tools / "pipx").symlink_to(CACHE / "pipx" / "bin" / "pipx")
        others = {name: value for name, value in os.environ.items() if not name.startswith(("BYTEBREW_", "PYTHON"))}
        self.environment = others | {
            "PATH": f"{self.bin}:{tools}:/usr/bin:/bin",
            "UV_TOOL_DIR": str(folder / "uv"),
            "UV_TOOL_BIN_DIR": str(self.bin),
            "PIPX_HOME": str(folder / "pipx"),
            "PIPX_BIN_DIR": str(self.bin),
            "PIP_NO_COMPILE": "1",  # modules are compiled where they are used
            "BYTEBREW_DATA_DIR": str(self.data),
        }

    def run(self, command: str) -> str:
        """What a command prints; it must end well."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, f"{command}{done.stdout}{done.stderr}"
        return done.stdout

    def follow(self, page: str, heading: str) -> str:
        """Runs every block of commands in a section of a page of docs/; what they printed."""
        return "".join(self.run(block) for block in commands(page, heading))

    @contextmanager
    def serving(self, program: Path | None = None) -> Iterator[tuple[Process, httpx.Client]]:
        """The installed engine on the data folder, with a client of its admin."""
        command = [str(program or self.bin / "bytebrew")]
        with (
            serving(self.data, {"PYTHONPATH": ""}, command) as process,
            httpx.Client(base_url=process.url, headers={"Authorization": f"Bearer {ADMIN}"}, timeout=30) as client,
        ):
            yield process, client


def chat(client: httpx.Client, message: str) -> str:
    """A turn of the demo agent; its session."""
    response = client.post("/api/v1/schemas/demo/chat", json={"message": message, "stream": False})
    assert response.status_code == 200, response.text
    assert f"You said: {message}" in response.json()["message"]
    session: str = response.json()["session_id"]
    return session
