"""The commands of the page about operations work as they stand, and its table has each of the command line."""

import json
import re
from collections.abc import Iterator

import pytest

from tests.docs import ROOT
from tests.docs.shop import Shop, commands, opened

PAGE = "how-to/operations.md"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with opened(tmp_path_factory.mktemp("operations")) as shop:
        yield shop


def test_budgets(shop: Shop) -> None:
    create, read = commands(PAGE, "Budgets")
    shop.run(create)
    shop.run(read)
    budgets = shop.client.get("/api/v1/budgets").json()
    assert [(one["name"], one["window"]) for one in budgets] == [
        ("everything", "month"),
        ("per-subject", "day"),
        ("support", "hour"),
    ]


def test_callbacks(shop: Shop) -> None:
    [register] = commands(PAGE, "Callbacks")
    assert shop.run(f'{register}echo "$SECRET"').startswith("whsec_")


def test_forget_a_person(shop: Shop) -> None:
    export, forget = commands(PAGE, "Forget a person")
    body = {"message": "I am Anna", "user_sub": "anna", "stream": False}
    shop.client.post("/api/v1/schemas/support/chat", json=body).raise_for_status()
    shop.run(export)
    assert "I am Anna" in (shop.folder / "anna.json").read_text()
    assert json.loads(shop.run(forget))["counts"]["sessions"] == 1


def test_versions(shop: Shop) -> None:
    show, roll_back = commands(PAGE, "Versions")
    shop.client.patch("/api/v1/agents/support", json={"system": "Refunds come first."}).raise_for_status()
    assert '"error"' not in shop.run(show)
    assert json.loads(shop.run(roll_back))["restores"] == 1


def test_every_command_of_the_command_line_is_in_the_table(shop: Shop) -> None:
    table = (ROOT / "docs" / PAGE).read_text().partition("\n## Commands\n")[2].partition("\n## ")[0]
    listed = shop.run("bytebrew --help").partition("\nCommands:\n")[2]
    assert re.findall(r"^  (\w+) ", listed, re.MULTILINE) == sorted(
        re.findall(r"^\| `bytebrew (\w+)", table, re.MULTILINE)
    )
