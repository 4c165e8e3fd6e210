"""File descriptor limits, divided so that the engine's own files always have some."""

import resource
from contextlib import suppress
from typing import NamedTuple

MOST = 65_536
"""Highest limit set; some programs, such as MCP servers, close all descriptors up to the limit one by one."""
KEPT = 64
"""Reserve for the database, logs, uploads and processes."""


class Share(NamedTuple):
    """Limits for connections of clients, connections to vendors, and idle ones, out of `total`.

    The rest is for MCP servers and temporary files.
    """

    clients: int
    upstreams: int
    idle: int
    all: int


def raise_limit() -> None:
    """Raises the soft limit to the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # macOS has another limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def share() -> Share:
    """The division for this process's limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    total = MOST if soft == resource.RLIM_INFINITY else min(soft, MOST)
    spare = total - min(KEPT, total // 2)
    return Share(spare // 2, spare // 4, spare // 16, total)
