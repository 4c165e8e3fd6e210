"""The command line in processes of its own, and plugins laid into a folder as pip would."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests import fork_server
from tests.stored import on_store

BYTEBREW = (sys.executable, "-m", "bytebrew")


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment with these settings and no others; an engine gets the store that tests run on."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("BYTEBREW_")}
    return {**others, **on_store(settings or {})}


def run(*arguments: str, settings: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """One command to its end."""
    command, pipe = [*BYTEBREW, *arguments], subprocess.PIPE
    with start(command, settings, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            output, errors = process.communicate(timeout=60)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def start(command: Sequence[str], settings: Mapping[str, str] | None, **given: Any) -> "subprocess.Popen[Any]":
    """A command with these settings and no others; `given` is for Popen."""
    given["env"] = environment(settings)
    kind = fork_server.Popen if fork_server.fits(command, given["env"]) else subprocess.Popen
    return kind([*command], **given)


def install(folder: Path, name: str, source: str, *, distribution: str = "", version: str = "1.0") -> None:
    """Lays a module `<name>_plugin` into the folder, with the metadata that makes it the plugin `<name>`."""
    distribution = distribution or f"some-{name}"
    metadata = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (folder / f"{name}_plugin.py").write_text(source)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    (metadata / "entry_points.txt").write_text(f"[bytebrew]\n{name} = {name}_plugin\n")
