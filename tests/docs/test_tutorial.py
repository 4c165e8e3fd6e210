"""The tutorial for plugin authors, executed from its first block to its last."""

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

BLOCK = re.compile(r"(?:^`([\w./]+)`:\n\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGE = (ROOT / "docs" / "tutorials" / "plugin.md").read_text()


def script(page: str) -> str:
    """The page's blocks in their order: files are written, commands are run."""
    parts = ["set -euo pipefail"]
    for name, language, block in BLOCK.findall(page):
        assert (language == "sh") is not bool(name), f"a block of {language} that is neither a file nor a command"
        parts.append(f"cat > {name} <<'END OF THE FILE'\n{block}END OF THE FILE" if name else block)
    return "\n".join(parts)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_tutorial_leads_from_nothing_to_a_plugin_that_is_tested_and_installed(tmp_path: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = str(free.getsockname()[1])
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", script(PAGE).replace("localhost:8443", f"localhost:{port}")],
        cwd=tmp_path,
        env=environment({"BYTEBREW_PORT": port}) | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"message":"Acme got: Beep beep"' in done.stdout
    assert re.search(r"\d\d passed", done.stdout)
    assert "bytebrew_acme-0.1.0-py3-none-any.whl" in done.stdout
    first, last = (line.split() for line in done.stdout.splitlines() if line.startswith("acme "))
    assert first[1:] == ["0.1.0", "bytebrew-acme", "loaded", "contract>=2", "register_providers"]
    assert last[1:] == ["0.1.0", "bytebrew-acme", "loaded", "contract>=2", "register_providers,", "register_settings"]
