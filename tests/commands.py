"""The command line in processes of its own, and plugins laid into a folder as pip would."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

BYTEBREW = (sys.executable, "-m", "bytebrew")


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment with these settings and no others."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("BYTEBREW_")}
    return {**others, **(settings or {})}


def run(*arguments: str, settings: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """One command to its end."""
    return subprocess.run(
        [*BYTEBREW, *arguments], env=environment(settings), capture_output=True, text=True, timeout=30, check=False
    )


def install(folder: Path, name: str, source: str, *, distribution: str = "", version: str = "1.0") -> None:
    """Lays a module `<name>_plugin` into the folder, with the metadata that makes it the plugin `<name>`."""
    distribution = distribution or f"some-{name}"
    metadata = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (folder / f"{name}_plugin.py").write_text(source)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    (metadata / "entry_points.txt").write_text(f"[bytebrew]\n{name} = {name}_plugin\n")
