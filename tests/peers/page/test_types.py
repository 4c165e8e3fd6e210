"""The page's modules by TypeScript's checker, with the types of their libraries, and by a formatter."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts import client_types

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]
ROOT = Path(__file__).parents[3]
PACKAGES = ROOT / ".cache/peers/page/node_modules"
STATIC = ROOT / "plugins/bytebrew_page/static"
OPTIONS = {
    "target": "ES2023",
    "module": "ES2022",
    "moduleResolution": "bundler",
    "lib": ["ES2023", "DOM", "DOM.Iterable", "DOM.AsyncIterable"],
    **dict.fromkeys(("allowJs", "checkJs", "strict", "noEmit", "skipLibCheck"), True),
    "types": [],
}
SHIMS = {
    "dompurify/dist/purify.min.d.ts": "export {};",
    "marked/lib/marked.esm.d.ts": 'export * from "../../../../marked/lib/marked.js";',
    "uplot/dist/uPlot.iife.min.d.ts": 'export { default } from "../../../../uplot/dist/uPlot.js";',
}
"""Types of files whose package has them under another name."""


def run(*command: str | Path, folder: Path = ROOT) -> None:
    if not PACKAGES.exists() or not shutil.which("node"):
        pytest.skip("not set up: run tests/peers/setup.sh")
    done = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-10_000:]


def test_the_types_of_the_modules_are_sound(tmp_path: Path) -> None:
    """In a copy where the types of each library are beside it, and those of the API's document are `api.ts`."""
    shutil.copytree(STATIC, tmp_path / "static", ignore=shutil.ignore_patterns("vendor"))
    (tmp_path / "api.ts").write_text(client_types.text(()))
    vendor = tmp_path / "static/vendor"
    shutil.copytree(PACKAGES / "lit-html", vendor / "lit-html", ignore=shutil.ignore_patterns("node", "*.js", "*.map"))
    for name, text in SHIMS.items():
        (vendor / name).parent.mkdir(parents=True)
        (vendor / name).write_text(text)
    for name, types in (("marked", "lib/marked.d.ts"), ("uplot", "dist/uPlot.d.ts")):
        target = tmp_path / name / types
        target.parent.mkdir(parents=True)
        shutil.copy(PACKAGES / name / types, target)
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": OPTIONS, "include": ["static/**/*.js"]}))
    run(PACKAGES / ".bin/tsc", "--project", tmp_path, folder=tmp_path)


def test_the_modules_have_the_form_of_the_formatter() -> None:
    kinds = (".js", ".css", ".html")
    names = [path for path in STATIC.rglob("*") if path.suffix in kinds and "vendor" not in path.parts]
    run(PACKAGES / ".bin/prettier", "--print-width", "120", "--check", *names)
