"""File descriptors: as many as the system lets us have, divided so that the engine's own files never lack one."""

import resource
from contextlib import suppress
from typing import NamedTuple

MOST = 65_536
"""A limit that is enough; programs that MCP servers are made of may close all up to the limit, one by one."""
KEPT = 64
"""What the database, logs, uploads and processes take."""


class Share(NamedTuple):
    """How many descriptors clients' connections may take, connections to vendors, and idle ones, of all that there are.

    The rest is nobody's: servers of tools, and files that come and go.
    """

    clients: int
    upstreams: int
    idle: int
    all: int


def raise_limit() -> None:
    """Lets this process have as many as its hard limit says."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # macOS has a further limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def share() -> Share:
    """The division of what this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    total = MOST if soft == resource.RLIM_INFINITY else min(soft, MOST)
    spare = total - min(KEPT, total // 2)
    return Share(spare // 2, spare // 4, spare // 16, total)
