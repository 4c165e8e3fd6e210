"""A plugin author outside this tree gets types: the page's examples pass mypy in its strict mode, mistakes do not."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bytebrew.contract import hookspecs
from tests.contract.test_docs import PARTS, STATEMENT, TAKEN, TEST, WHOLE

WRONG = """
from bytebrew import Register, Settings, Tool, hookimpl, tool

@tool(confirm="yes")
async def roll(sides: int = 6) -> int:
    "Roll one die."
    return sides

@hookimpl
def register_tools(register: Register[Tool], settings: Settings) -> None:
    register(42)
    settings.core.prot
"""

ROOT = Path(__file__).parents[2]
WRITTEN = [*ROOT.glob("plugins/**/*.py"), *ROOT.glob("examples/**/*.py")]


def mypy(folder: Path, **sources: str) -> tuple[int, str]:
    """What mypy's strict mode says of modules in an empty folder that has no configuration."""
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", *(f"{name}.py" for name in sources)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_hook_of_ours_says_what_it_registers(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name in hookspecs.DECLARING:
            for one in node.args.args:
                if one.arg == "register":
                    assert one.annotation is not None
                    assert ast.unparse(one.annotation) == f"Register[{TAKEN[node.name]}]", f"{path}:{node.lineno}"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_examples_of_the_page_are_fully_typed_and_mistakes_are_found(tmp_path: Path) -> None:
    page = "\n".join((*PARTS, STATEMENT))
    code, words = mypy(tmp_path, bytebrew_whole=WHOLE, bytebrew_dice=page, test_dice=TEST)
    assert code == 0, words
    code, words = mypy(tmp_path, wrong=WRONG)
    assert code == 1
    assert set(re.findall(r"^wrong\.py:(\d+): error", words, re.MULTILINE)) == {"4", "11", "12"}, words
