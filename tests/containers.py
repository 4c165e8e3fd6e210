"""A container as the strict ones are: the root is read-only, no /tmp, a user without a name or a home.

It is made of Linux's namespaces, which takes root. The volume is root's, the user's group may write to it, and it is at
/mnt.
"""

import os
import shutil
import sys
from pathlib import Path

import pytest

UID, GID = "54321", "54322"
MOUNTED = Path("/mnt")
_ENTER = """
set -e
mount --make-rprivate /
mount --bind "$0" /mnt
mount -o remount,bind,ro /
for folder in /tmp /var/tmp /dev/shm; do
  mount --bind "$folder" "$folder" && mount -o remount,bind,ro "$folder"
done
cd /
exec env -u HOME -u TMPDIR "$@"
"""
_READS = "-all,+dac_read_search"  # the interpreter may lie in root's home

only_as_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("setpriv")),
    reason="namespaces are root's to make, on Linux",
)


def volume(folder: Path) -> Path:
    """A folder of root's that the user's group may write to, as a volume with fsGroup is mounted."""
    folder.mkdir()
    os.chown(folder, 0, int(GID))
    folder.chmod(0o2775)
    return folder


def contained(volume: Path, *command: str) -> list[str]:
    """The command in such a container, in which the volume is all that can be written to."""
    user = ["setpriv", "--reuid", UID, "--regid", GID, "--clear-groups"]
    user += [f"--inh-caps={_READS}", f"--ambient-caps={_READS}", f"--bounding-set={_READS}"]
    return ["unshare", "--mount", "bash", "-c", _ENTER, str(volume), *user, *command]
