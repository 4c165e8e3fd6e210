"""The memory limit of this process."""

import os
from pathlib import Path

_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory(processes: int = 1) -> int:
    """Memory of the machine in bytes, or of the container if that is less; the share of each of so many processes."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in map(Path, _CGROUPS):
        if path.exists() and (text := path.read_text().strip()).isdecimal():
            limits.append(int(text))
    return min(limits) // processes
