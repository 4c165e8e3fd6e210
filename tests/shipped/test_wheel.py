"""The wheel holds the engine, every bundled plugin and what they read, and nothing of the tests."""

from pathlib import Path
from zipfile import ZipFile

import pytest

pytestmark = pytest.mark.shipped

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (ROOT / "bytebrew", ROOT / "plugins")


def test_the_wheel_holds_every_file_of_the_engine_and_its_plugins(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = {f"bytebrew/{path.relative_to(SOURCES[0])}" for path in SOURCES[0].rglob("*") if path.is_file()} | {
        str(path.relative_to(SOURCES[1]))
        for plugin in SOURCES[1].glob("bytebrew_*")
        for path in [plugin, *plugin.rglob("*")]
        if path.is_file()
    }
    assert shipped == {name for name in wanted if "__pycache__" not in name}
