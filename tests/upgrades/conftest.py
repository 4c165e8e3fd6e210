"""Databases of earlier engines, as scripts/old_databases.py made them with the code of their commits."""

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.old_databases import ARCHIVE, KEY


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all databases, to be left as they are."""
    folder = tmp_path_factory.mktemp("databases")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def old_data(unpacked: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Makes the data folder of an engine that had the database of this name."""

    def make(name: str) -> Path:
        data = tmp_path / name
        shutil.copytree(unpacked / name, data)
        (data / "keys").mkdir()
        (data / "keys" / "secrets.key").write_text(f"{KEY}\n", encoding="utf-8")
        (data / "keys" / "secrets.key").chmod(0o600)
        return data

    return make
