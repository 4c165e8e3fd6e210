"""The tutorials, executed from their first block to their last."""

import os
import re
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.commands import environment
from tests.docs import ROOT

BLOCK = re.compile(r"(?:^`([\w./-]+)`:\n\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
IN_ANOTHER_TERMINAL = re.compile(r"bytebrew serve[^&\n]*\n")
BEGIN = """set -euo pipefail
ENGINE=
trap 'kill $ENGINE 2>/dev/null || true' EXIT
"""
UNTIL_READY = """ENGINE=$!
until curl -sf -o /dev/null http://localhost:8443/api/v1/health; do kill -0 $ENGINE; sleep 0.2; done
"""


def script(page: str) -> str:
    """The page's blocks in their order: files are written, commands are run; an engine runs beside what follows."""
    parts = [BEGIN]
    for name, language, block in BLOCK.findall(page):
        assert (language == "sh") is not bool(name), f"a block of {language} that is neither a file nor a command"
        if IN_ANOTHER_TERMINAL.fullmatch(block):
            parts.append(f"{block.rstrip()} > engine.log 2>&1 &\n{UNTIL_READY}")
        else:
            parts.append(f"cat > {name} <<'END OF THE FILE'\n{block}END OF THE FILE" if name else block)
    return "\n".join(parts)


def followed(page: str, folder: Path) -> str:
    """What a reader sees who does all that a tutorial says."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = str(free.getsockname()[1])
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    text = (ROOT / "docs" / "tutorials" / page).read_text()
    done = subprocess.run(
        ["bash", "-c", script(text).replace("localhost:8443", f"localhost:{port}")],
        cwd=folder,
        env=environment({"BYTEBREW_PORT": port}) | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_first_agent_has_a_tool_of_its_own_and_asks_before_it_acts(tmp_path: Path) -> None:
    printed = followed("first-agent.md", tmp_path)
    assert re.search(r"\d passed", printed)
    assert re.search(r"^stock .* loaded ", printed, re.MULTILINE)
    asked, _, ended = printed.partition('"approved":true')
    assert '"status":"needs_input"' in asked
    assert '"message":"order_stock says: 5 of mouse ordered"' in ended


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_tutorial_leads_from_nothing_to_a_plugin_that_is_tested_and_installed(tmp_path: Path) -> None:
    printed = followed("plugin.md", tmp_path)
    assert '"message":"Acme got: Beep beep"' in printed
    assert re.search(r"\d\d passed", printed)
    assert "bytebrew_acme-0.1.0-py3-none-any.whl" in printed
    first, last = (line.split() for line in printed.splitlines() if line.startswith("acme "))
    assert first[1:] == ["0.1.0", "bytebrew-acme", "loaded", "contract>=2", "register_providers"]
    assert last[1:] == ["0.1.0", "bytebrew-acme", "loaded", "contract>=2", "register_providers,", "register_settings"]
