"""What is in a backup."""

import tarfile
from pathlib import Path


def unpacked(archive: Path, folder: Path) -> Path:
    """The folder, with everything that is in the archive."""
    with tarfile.open(archive) as content:
        for member in content:
            assert (member.isfile(), member.mode) == (True, 0o600)
        content.extractall(folder, filter="data")
    return folder


def database(archive: Path) -> Path:
    """The database in the archive, in a folder beside it."""
    return unpacked(archive, archive.with_name(f"{archive.name}.unpacked")) / "bytebrew.db"
