"""The package of the TypeScript client, as npm makes it."""

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".cache/peers/typescript/node_modules"


def run(folder: Path, *command: str | Path) -> str:
    done = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-10_000:]
    return done.stdout


@pytest.fixture(scope="session")
def typescript_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the client's folder with its package, as npm packs it."""
    if not TOOLS.exists() or not shutil.which("npm"):
        pytest.skip("not set up: run tests/peers/setup.sh")
    folder = tmp_path_factory.mktemp("package") / "typescript"
    shutil.copytree(ROOT / "clients/typescript", folder, ignore=shutil.ignore_patterns("node_modules", "dist"))
    (folder / "node_modules").symlink_to(TOOLS)
    run(folder, "npm", "pack", "--silent")
    return folder


@pytest.fixture(scope="session")
def installed(typescript_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the package is installed."""
    folder = tmp_path_factory.mktemp("installed")
    target = folder / "node_modules/bytebrew-client"
    with tarfile.open(next(typescript_package.glob("*.tgz"))) as packed:
        packed.extractall(folder, filter="data")
    target.parent.mkdir()
    (folder / "package").rename(target)
    return folder
