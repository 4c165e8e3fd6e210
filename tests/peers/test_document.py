"""The API document as others read it: two linters, and TypeScript whose types are made from it."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bytebrew.testing import ADMIN
from tests.processes import Process, serving

pytestmark = [pytest.mark.peers, pytest.mark.timeout(180)]

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache/peers"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Process]:
    """An engine whose document is `openapi.json` in the folder."""
    with serving(tmp_path / "data") as process:
        (tmp_path / "openapi.json").write_bytes(httpx.get(f"{process.url}/api/v1/openapi.json").content)
        yield process


def run(folder: Path, *command: str | Path) -> str:
    done = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-10_000:]
    return done.stdout


def test_redocly_finds_no_error_and_nothing_to_warn_of(engine: Process, tmp_path: Path) -> None:
    command = CACHE / "redocly/node_modules/.bin/redocly"
    said = run(tmp_path, command, "lint", "openapi.json", "--config", HERE / "redocly.yaml", "--format", "json")
    assert json.loads(said)["totals"] == {"errors": 0, "warnings": 0, "ignored": 0}, said


def test_spectral_finds_no_error_and_nothing_to_warn_of(engine: Process, tmp_path: Path) -> None:
    command = CACHE / "spectral/node_modules/.bin/spectral"
    run(tmp_path, command, "lint", "openapi.json", "--ruleset", HERE / "spectral.yaml", "--fail-severity", "hint")


def test_a_client_in_typescript_compiles_against_it_and_talks_to_the_engine(engine: Process, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(CACHE / "typescript/node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "client.ts").write_bytes((HERE / "client.ts").read_bytes())
    tools = tmp_path / "node_modules/.bin"
    run(tmp_path, tools / "openapi-typescript", "openapi.json", "--output", "api.ts")
    options = ("--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck")
    run(tmp_path, tools / "tsc", *options, "client.ts")
    said = json.loads(run(tmp_path, "node", "client.js", engine.url, ADMIN))
    assert said == [50, "Made of types", "files", 2, True, '{"content":"Hi"}']
