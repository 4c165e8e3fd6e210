"""The backups that a running engine writes, in a folder of its data folder."""

import os
import re
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from bytebrew.store.backups.backup import Written, backup
from bytebrew.store.backups.copies import STAMP, oldest_first, stamp

_NAME = re.compile(rf"bytebrew-{STAMP}(-\d+)?\.tar")
_PART = re.compile(rf"\.{_NAME.pattern}\.part-\w+")


class BackupFolder:
    """The folder `backups` within a data folder, which may be a link to another disk."""

    def __init__(self, data: Path) -> None:
        self.path = data / "backups"
        self._data = data

    def files(self) -> list[Path]:
        """Every backup, the newest first."""
        if not self.path.is_dir():
            return []
        return oldest_first(one for one in self.path.iterdir() if _NAME.fullmatch(one.name) and one.is_file())[::-1]

    def write(self) -> tuple[Path, Written]:
        """A new backup; BootError and OSError if it cannot be written. One may be written at a time."""
        self.path.mkdir(mode=0o700, exist_ok=True)
        for left in self.path.glob(".*"):
            if _PART.fullmatch(left.name):  # of an engine that was killed
                shutil.rmtree(left, ignore_errors=True)
        target = next(path for path in self._names() if not os.path.lexists(path))
        return target, backup(self._data, target)

    def _names(self) -> Iterator[Path]:
        begun = stamp()
        return (self.path / f"bytebrew-{begun}{f'-{n}' if n else ''}.tar" for n in count())
