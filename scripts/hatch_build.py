"""Build hook of hatchling: writes the commit into the wheel and the sdist, for `bytebrew --version`."""

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODULE = "bytebrew/built_from.py"


def commit(root: Path) -> str:
    """The commit of the tree, with `-dirty` if files differ from it; of an archive or sdist, the one written there."""
    if (root / ".git").exists():
        return _git(root, "rev-parse", "HEAD") + ("-dirty" if _git(root, "status", "--porcelain") else "")
    written = re.search(r'"([0-9a-f]{40,64}(?:-dirty)?)"', (root / MODULE).read_text(encoding="utf-8"))
    return written[1] if written else ""


def _git(root: Path, *arguments: str) -> str:
    """What git says of the tree, whoever owns it, as a container builds from files of another user; "" without git."""
    command = ["git", "-c", f"safe.directory={root.resolve()}", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


class CommitHook(BuildHookInterface[Any]):
    """Puts a module with the commit in the place of the tree's own."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        root = Path(self.root)
        source = (root / MODULE).read_text(encoding="utf-8")
        self._folder = tempfile.TemporaryDirectory()
        module = Path(self._folder.name) / "built_from.py"
        module.write_text(re.sub(r'COMMIT = ".*"', f'COMMIT = "{commit(root)}"', source), encoding="utf-8")
        module.chmod(0o644)
        build_data["force_include"][str(module)] = MODULE

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            self._folder.cleanup()
