"""The sources of the site: every page has its place, links follow, and the reference has every route and command."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bytebrew.cli.main import cli
from scripts.docs_site import api, stage
from scripts.docs_site import commands as command_pages
from tests.docs import PAGES, ROOT, label
from tests.tables import installed

CONTENTS = {page: (ROOT / page).read_text() for page in ("docs/README.md", "docs/explanation/decisions/README.md")}


@pytest.fixture(scope="module")
def reference() -> dict[str, str]:
    return api.pages()


def test_every_page_is_in_the_contents() -> None:
    linked = {
        (ROOT / page).parent.joinpath(link).resolve()
        for page, text in CONTENTS.items()
        for link in re.findall(r"^(?:- |\| )\[[^\]]*\]\(([^)]+)\)", text, re.MULTILINE)
    }
    left = {label(page) for page in {*PAGES} - linked if label(page) not in ("README.md", "docs/README.md")}
    assert not [name for name in left if not name.startswith(".github/")]


def test_links_follow_their_pages(tmp_path: Path) -> None:
    write(
        tmp_path / "repo/docs/how-to/run.md", "[a](../reference/settings.md#port) [b](../../bytebrew/x.py) `[c](d.md)`"
    )
    write(
        tmp_path / "repo/docs/reference/settings.md",
        "# Settings\n\n```text\n[e](f.md)\n```\n[g](gone.md)\n![h](../images/h.svg)",
    )
    write(
        tmp_path / "repo/docs/README.md",
        "# Index\n\n## How to\n\n- [Run it](how-to/run.md)\n- [Hooks](../plugins/README.md)",
    )
    write(tmp_path / "repo/docs/explanation/decisions/README.md", "# Decisions\n\n| [one.md](one.md) | why |")
    write(
        tmp_path / "repo/plugins/README.md",
        "# Hooks\n\n[i](../docs/reference/settings.md) [j](#k) [l](https://a.example)",
    )
    write(tmp_path / "repo/docs/images/h.svg", "<svg/>")
    write(tmp_path / "repo/bytebrew/x.py", "x = 1\n")
    write(tmp_path / "site/old.md", "gone")
    write(tmp_path / "repo/docs/reference/api.md", "# API\n\n<!-- not in the site -->\nSee the site.\n")
    stage.write(
        tmp_path / "site", {"reference/settings.md": "## More", "reference/api.md": "## Routes"}, tmp_path / "repo"
    )
    site = {
        path.relative_to(tmp_path / "site").as_posix(): path.read_text() for path in (tmp_path / "site").rglob("*.*")
    }
    assert site.pop("how-to/run.md") == "[a](../reference/settings.md#port) [b](../code/bytebrew/x.py.md) `[c](d.md)`"
    assert site.pop("reference/settings.md") == (
        "# Settings\n\n```text\n[e](f.md)\n```\n[g](gone.md)\n![h](../images/h.svg)\n## More"
    )
    assert site.pop("reference/hooks.md") == "# Hooks\n\n[i](settings.md) [j](#k) [l](https://a.example)"
    assert "Run it <how-to/run>\nHooks <reference/hooks>\n" in site.pop("index.md")
    assert "\none <one>\n" in site.pop("explanation/decisions/index.md")
    assert "python\nx = 1\n" in site.pop("code/bytebrew/x.py.md")
    assert site.pop("reference/api.md") == "# API\n\n\n## Routes"
    assert {*site} == {"images/h.svg"}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_every_route_is_in_the_reference_with_its_scope(reference: dict[str, str]) -> None:
    text = "\n".join(reference.values())
    for route in installed():
        if not route.page:
            path = re.sub(r"\{(\w+)(:\w+)?\}", r"{\1}", route.path)
            [who] = re.findall(
                rf"^\| \[`{route.method} {re.escape(path)}`\]\(#[\w-]+\) \| (.*) \|$", text, re.MULTILINE
            )
            assert who == (
                "for anyone" if route.scope is None else f"scope `{route.scope}`" if route.scope else "any token"
            )


def test_every_type_that_a_page_links_is_described_once(reference: dict[str, str]) -> None:
    text = "\n".join(reference.values())
    described = re.findall(r"^\((type-\w+)\)=$", text, re.MULTILINE)
    assert len(described) == len({*described}) > 200
    assert {*re.findall(r"\(#(type-\w+)\)", text)} <= {*described}


def test_every_command_is_in_the_reference() -> None:
    [text] = command_pages.pages().values()
    named = re.findall(r"^## `(bytebrew.*)`$", text, re.MULTILINE)
    assert named == [*paths(cli, "bytebrew")]


def paths(command: click.Command, name: str) -> Iterator[str]:
    yield name
    if isinstance(command, click.Group):
        for below in sorted(command.commands):
            yield from paths(command.commands[below], f"{name} {below}")
