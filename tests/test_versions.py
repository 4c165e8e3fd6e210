"""One version for all that is published, and the commit that a package was built from."""

import json
import tomllib
from pathlib import Path

from bytebrew import built_from, version

ROOT = Path(__file__).resolve().parent.parent


def test_the_engine_and_its_clients_have_one_version() -> None:
    projects = [tomllib.loads((ROOT / path / "pyproject.toml").read_text()) for path in (".", "clients/python")]
    packages = [
        json.loads((ROOT / "clients/typescript" / name).read_text()) for name in ("package.json", "package-lock.json")
    ]
    assert {*(one["project"]["version"] for one in projects), *(one["version"] for one in packages)} == {
        version.__version__
    }


def test_a_tree_that_was_not_built_names_no_commit() -> None:
    assert built_from.COMMIT == "$Format:%H$"
    assert version.commit() == ""
