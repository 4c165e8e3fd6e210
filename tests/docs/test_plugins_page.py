"""The page about plugins, executed as it stands, with wheels in place of an index."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.plugins.wheel_files import wheel
from tests.commands import environment
from tests.docs import ROOT

PAGE = (ROOT / "docs" / "how-to" / "plugins.md").read_text()


@pytest.mark.timeout(120)
def test_the_commands_of_the_page_install_lock_and_make_plugins(tmp_path: Path) -> None:
    wheel(tmp_path, "acme", "0.1.0", requires=["python-slugify>=8"])
    index = wheel(tmp_path / "index", "python_slugify", "8.0.4", plugin=False).parent
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=tmp_path,
        env=environment({"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)})
        | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "installed python-slugify 8.0.4, which is required\n" in done.stdout
    assert "installed bytebrew-acme 0.1.0 in place of 0.1.0\n" in done.stdout
    assert re.search(r"^acme +0\.1\.0 +bytebrew-acme +loaded", done.stdout, re.MULTILINE)
    assert "3 passed" in done.stdout
