"""The README's commands work as they stand, and its tables say what is so."""

import contextlib
import re
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
from pathlib import Path
from subprocess import PIPE
from typing import ClassVar

import httpx
import pytest

from bytebrew.engine import Engine
from bytebrew.settings import rows
from bytebrew.testing import ADMIN
from tests.processes import serving

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_every_command_of_the_tour_works_as_it_stands(tmp_path: Path) -> None:
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 6
    with serving(tmp_path / "data") as engine:
        script = "set -euo pipefail\n" + "\necho; echo ----\n".join(blocks)
        done = subprocess.run(
            ["bash", "-c", script.replace("http://localhost:8443", engine.url)],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    session, stream, answer, events, made, token = (part.strip() for part in done.stdout.split("----"))
    assert session == ""
    assert "event: tool_call" in stream
    assert "event: done" in stream
    assert '"message":"You said: Hello' in answer
    assert events.startswith('{"events":[{"id":4,')
    assert made.count('"created_at"') == 3
    assert '"error"' not in made
    assert re.search(r'"token":"bb_[0-9a-f]{64}"', token)


def test_the_settings_table_is_the_codes(tmp_path: Path) -> None:
    settings = rows(Engine({"BYTEBREW_DATA_DIR": str(tmp_path)}).plugins.tables())
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    lines += [f"| `{row.variable}` | {f'`{row.default}`' if row.default else ''} | {row.help} |" for row in settings]
    assert "<!-- settings -->\n" + "\n".join(lines) + "\n<!-- /settings -->" in README


class Cutting(socketserver.StreamRequestHandler):
    """Hands on what an engine says, and cuts the first answers short: one before its head, one in its middle."""

    rbufsize = 0
    upstream = ("", 0)
    lengths: ClassVar[list[int]] = []

    def handle(self) -> None:
        with socket.create_connection(self.upstream) as engine, contextlib.suppress(OSError):
            threading.Thread(target=self.ask, args=[engine], daemon=True).start()
            length = self.lengths.pop(0) if self.lengths else 1 << 20
            while length and (data := engine.recv(min(length, 4096))):
                self.wfile.write(data)
                length -= len(data)
            self.connection.shutdown(socket.SHUT_RDWR)

    def ask(self, engine: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := self.connection.recv(4096):
                engine.sendall(data)
        with contextlib.suppress(OSError):  # a client may leave with a reset
            engine.shutdown(socket.SHUT_RDWR)


def test_the_python_client_resumes_what_was_cut_and_sends_no_message_twice(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as engine, socketserver.ThreadingTCPServer(("127.0.0.1", 0), Cutting) as proxy:
        host, port = engine.url.removeprefix("http://").split(":")
        Cutting.upstream, Cutting.lengths = (host, int(port)), [1 << 20, 10, 900]
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{proxy.server_address[1]}"
        command = [sys.executable, "-I", str(ROOT / "examples/clients/chat.py"), url, ADMIN, "demo"]
        with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) as client:
            said, told = client.communicate("alpha\n\nbeta\n", timeout=30)
        proxy.shutdown()
        headers = {"Authorization": f"Bearer {ADMIN}"}
        sessions = httpx.get(f"{engine.url}/api/v1/sessions", headers=headers).json()["sessions"]
    assert [session["message_count"] for session in sessions] == [4], told
    first, second = said.splitlines()
    assert second == first.replace("alpha", "beta")
    assert first.startswith("You said: alpha ")


@pytest.mark.parametrize("client", ["chat.py", "chat.mjs"])
def test_the_clients_of_the_examples_print_the_answer(client: str, tmp_path: Path) -> None:
    if client.endswith(".mjs") and shutil.which("node") is None:
        pytest.skip("node is not on this machine")
    program = ["node"] if client.endswith(".mjs") else [sys.executable]
    with serving(tmp_path / "data") as engine:
        said = [] if client.endswith(".py") else ["Hello there"]
        command = [*program, str(ROOT / "examples/clients" / client), engine.url, ADMIN, "demo", *said]
        done = subprocess.run(command, input="Hello there\n", capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("You said: Hello there ")
