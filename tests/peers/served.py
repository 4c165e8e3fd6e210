"""An engine as clients of other protocols meet it: a real process on a port that stays, to be killed and started again.

Its schema `talk` has an agent with the model of `tests/peers/paced.py`, whose messages say what it answers and how
slowly, with the tools `weather` and `pay`, which a person approves, and with tools of clients.
"""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from bytebrew.testing import ADMIN
from tests.commands import install
from tests.peers import paced
from tests.processes import Process

NODE = Path(__file__).parents[2] / ".cache/peers/faces"
"""Where the npm packages of `tests/peers/faces/package.json` are."""
SCHEMA = "talk"


def slow(*words: str, seconds: float = 0.03) -> list[Any]:
    """A step that says words one by one."""
    return [one for word in words for one in (word, seconds)]


def steps(*each: list[Any]) -> str:
    """The message that makes the model do these steps; see `Paced`."""
    return json.dumps([*each])


class Served:
    """An engine that was configured; `token` may chat with the schema, `admin` do anything."""

    def __init__(self, folder: Path, **settings: str) -> None:
        install(folder / "plugins", "paced", Path(paced.__file__).read_text())
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._data = folder / "data"
        self._settings = {
            "BYTEBREW_PORT": str(port),
            "BYTEBREW_PLUGINS_DIR": str(folder / "plugins"),
            "BYTEBREW_DRAIN_SECONDS": "1",
            **settings,
        }
        self._process = Process(self._data, self._settings)
        self.admin = httpx.Client(base_url=f"{self.url}/api/v1/", headers={"Authorization": f"Bearer {ADMIN}"})
        try:
            self.create("models", type="paced", model_name="paced")
            self.create("agents", model=SCHEMA, tools=["weather", "pay"])
            self.create("schemas", entry_agent=SCHEMA, chat_enabled=True, client_tools=True)
            self.token: str = self.create("auth/tokens", scopes=["chat"])["token"]
        except BaseException:
            self.close()
            raise

    def create(self, path: str, *, name: str = SCHEMA, **body: Any) -> Any:
        """Something new of the configuration, as the admin."""
        answer = self.admin.post(path, json={"name": name, **body})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def kill(self) -> None:
        """SIGKILL: whatever is not in the file is gone."""
        self._process.kill()

    def start(self) -> None:
        """The engine again, on the same port and file."""
        self._process = Process(self._data, self._settings)

    def messages(self, session_id: str) -> Any:
        """What a session has by the engine's own API: role, content and tool calls."""
        rows = self.admin.get(f"sessions/{session_id}/messages").raise_for_status().json()
        return [(row["role"], row["content"], [one["tool"] for one in row.get("tool_calls", ())]) for row in rows]

    def events(self, session_id: str) -> Any:
        """The stored events of a session."""
        answer = self.admin.get(f"sessions/{session_id}/events", params={"follow": "false"})
        return answer.raise_for_status().json()["events"]

    def approve(self, session_id: str) -> None:
        """Approves all calls of a session that wait, as a person at the inbox."""
        for one in self.admin.get("approvals").raise_for_status().json()["data"]:
            if one["session_id"] == session_id:
                body = {"confirmation_id": one["id"], "answers": ["approve"]}
                self.admin.post(f"sessions/{session_id}/respond", json=body).raise_for_status()

    def close(self) -> None:
        """Ends it, if it runs."""
        self.admin.close()
        if self._process.process.poll() is None:
            self._process.kill()


@contextmanager
def served(folder: Path, **settings: str) -> Iterator[Served]:
    """An engine that is gone afterwards, whatever happens."""
    engine = Served(folder, **settings)
    try:
        yield engine
    finally:
        engine.close()


def node(script: Path, *arguments: str, folder: Path = NODE, seconds: float = 60) -> "subprocess.Popen[str]":
    """A script of Node.js that has the packages of a folder; its output is a pipe, its errors are the test's own.

    The caller ends it. `seconds` is how long it may run.
    """
    if not (folder / "node_modules").exists() or not shutil.which("node"):
        pytest.skip("not set up: run tests/peers/setup.sh")
    copy = folder / script.name  # packages are looked up beside the script
    copy.write_bytes(script.read_bytes())
    command = ["timeout", str(seconds), "node", str(copy), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder, env=dict(os.environ))
