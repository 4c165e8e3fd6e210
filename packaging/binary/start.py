"""Starts the engine within the executable: its launcher runs this file with the Python that is in it."""

import atexit
import shutil
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


def has_plugins() -> bool:
    """Whether the engine's metadata is here, through which it finds its plugins."""
    try:
        return bool(distribution("bytebrew").entry_points.select(group="bytebrew"))
    except PackageNotFoundError:
        return False


if sys._xoptions.get("one_file"):
    # after `kill -9` the next start deletes it
    atexit.register(shutil.rmtree, Path(__file__).parents[1], ignore_errors=True)
with suppress(OSError):  # the name in `ps` and `top`, else that of the C library's loader
    Path("/proc/self/comm").write_text("bytebrew")
if not has_plugins():
    sys.exit("bytebrew: this executable was built without the metadata of its plugins; build it again: make binary")

from bytebrew.cli.main import main  # noqa: E402 - it needs the metadata

main()
