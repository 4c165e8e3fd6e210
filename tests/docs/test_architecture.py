"""docs/explanation/architecture.md knows every folder, and its answers name what is there."""

import re
from pathlib import Path

import pytest

from tests.docs import ROOT
from tests.test_floors import FLOORS

PAGE = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
FOLDERS = sorted(path.parent.name for path in ROOT.glob("bytebrew/*/__init__.py"))
SUBFOLDERS = sorted(path.parent for path in ROOT.glob("bytebrew/*/*/__init__.py"))
PLUGINS = sorted({path.stem.removeprefix("bytebrew_") for path in ROOT.glob("plugins/bytebrew_*")})
QUESTIONS = (
    "a tool call recorded",
    "on kill -9",
    "a token checked",
    "add a setting: a `BYTEBREW_...` variable",
    "add a route",
    "add a migration",
    "a secret masked",
    "a client resume",
    "a turn cancelled",
    "a model call retried",
    "wait for an approval",
    "add a provider",
    "a credential encrypted",
    "an MCP server connected",
    "cost computed",
    "backup copy",
    "steer the running turn",
    "a session forked",
    "for the client, which runs the tool",
    "what the public view shows",
    "a structured answer checked",
    "history trimmed to the context window",
    "a recorded session replayed",
    "a budget checked",
    "told that a turn failed",
    "traces made",
    "versions of agents",
    "the hash chain of the audit",
    "a person forgotten",
)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_of_the_core_is_in_the_table_and_in_the_picture(folder: str) -> None:
    assert f"| `bytebrew/{folder}/` |" in PAGE
    assert re.search(rf"^ .*\b{folder}/", PAGE, re.MULTILINE)


@pytest.mark.parametrize("path", SUBFOLDERS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_folder_within_one_is_in_its_row(path: Path) -> None:
    [row] = re.findall(rf"^\| `bytebrew/{path.parent.name}/` \|.*$", PAGE, re.MULTILINE)
    assert f"`{path.name}/`" in row


def test_every_bundled_plugin_is_in_the_table() -> None:
    table = PAGE.partition("The bundled plugins")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"`(\w+)`", table)) == PLUGINS


def test_the_floors_of_the_picture_are_those_that_the_imports_are_held_to() -> None:
    picture = PAGE.partition("## The folders")[2].partition("```text")[2].partition("```")[0]
    levels = [set(re.findall(r"\b([a-z]+)(?:/|\.py)", level)) for level in picture.split("───\n")]
    for drawn, floor in zip(reversed(levels), FLOORS, strict=True):
        assert drawn <= set(floor.split())


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_newcomers_question_has_its_answer(question: str) -> None:
    row = rf"^\| (?:Where|What|How) [^|]*{re.escape(question)}[^|]*\? \| ([^|]+) \|$"
    answers = re.findall(row, PAGE, re.MULTILINE)
    assert answers
    assert all("](" in answer for answer in answers)


def test_every_function_that_an_answer_names_is_in_the_file_beside_it() -> None:
    answers = PAGE.partition("\n## Where is")[2].partition("\n## ")[0].splitlines()
    named = 0
    for part in (part for answer in answers for part in answer.split("; ")):
        files = [
            (ROOT / "docs" / "explanation" / link).resolve()
            for link in re.findall(r"\]\((\.\./\.\./[\w/.]+\.py)\)", part)
        ]
        texts = [file.read_text() for file in files]
        names = re.findall(r"`(?!register_|BYTEBREW_)((?:[A-Za-z]+\.)?[A-Za-z_]+)`", part) if texts else []
        for name in names:
            named += 1
            assert any(all(defines(text, part) for part in name.split(".")) for text in texts), f"{name} in {part}"
    assert named > 40


def defines(text: str, name: str) -> bool:
    return re.search(rf"(?:def|class) {name}\b|^{name}\b", text, re.MULTILINE) is not None
