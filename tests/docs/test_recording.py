"""The first minute that is recorded works, and the recording shows what works."""

import json
import os
import re
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from tests.commands import environment
from tests.docs import ROOT

SCRIPT = ROOT / "scripts" / "recording" / "first_minute.sh"
CAST = ROOT / "docs" / "images" / "first-minute.cast"


def typed(output: str) -> list[tuple[str, str]]:
    """The lines that a person types: notes, and commands with the lines that go on with them."""
    return re.findall(r"^\x1b\[90m(#.*)\x1b\[0m|^\x1b\[32m\$\x1b\[0m (.*(?:\\\n.*)*)", output, re.MULTILINE)


def test_the_first_minute_works_and_is_the_recorded_one(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = str(free.getsockname()[1])
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [SCRIPT],
        cwd=tmp_path,
        env=environment({"BYTEBREW_PORT": port}) | {"PATH": path, "PACE": "0"},
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    first, _, resumed = done.stdout.partition("kill -9")
    behind = first[first.index("id: 9\n") :].partition("\x1b")[0].strip()
    assert "event: done" in behind
    assert behind in resumed
    _, *events = map(json.loads, CAST.read_text().splitlines())
    recorded = "".join(text for _, kind, text in events if kind == "o").replace("\r\n", "\n")
    assert typed(recorded) == typed(done.stdout.replace(f":{port}", ":8443"))
