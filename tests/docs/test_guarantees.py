"""Each guarantee names tests that exist and says how it is kept."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.docs import ROOT

SECTIONS = (ROOT / "docs" / "explanation" / "guarantees.md").read_text().split("\n## ")[1:-1]


@cache
def names_in(path: Path) -> set[str]:
    """The functions of a file."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.partition("\n")[0])
def test_a_guarantee_says_how_it_is_kept_and_names_tests_that_exist(section: str) -> None:
    kept, _, proved = section.partition("**Proved by**")
    assert "**Kept by**" in kept
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", proved)
    assert len(named) >= 3
    assert not [f"{file}::{test}" for file, test in named if test not in names_in(ROOT / file)]
