"""The commands of the page about conversations work as they stand."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from bytebrew.testing import ADMIN
from tests.docs import ROOT
from tests.docs.shop import Shop, commands, opened

PAGE = "explanation/conversations.md"
CHAT = "/api/v1/schemas/support/chat"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with opened(tmp_path_factory.mktemp("conversations")) as shop:
        yield shop


@pytest.fixture
def turn(shop: Shop) -> dict[str, str]:
    """The names of a conversation that has been held, for commands."""
    answer = said(shop, message="What is the current_time?")
    return {"SESSION": answer["session_id"], "TURN": answer["turn_id"]}


def said(shop: Shop, **body: Any) -> Any:
    return shop.client.post(CHAT, json={"stream": False, **body}).raise_for_status().json()


def test_steer(shop: Shop, turn: dict[str, str]) -> None:
    [steer] = commands(PAGE, "Steer a turn that runs")
    assert "event: done" in shop.run(steer, **turn)


def test_fork_and_edit(shop: Shop, turn: dict[str, str]) -> None:
    fork, edit = commands(PAGE, "Fork and edit")
    forked_from = json.loads(shop.run(fork, **turn))["forked_from"]
    assert forked_from["session_id"] == turn["SESSION"]
    assert json.loads(shop.run(edit, **turn))["message"].startswith("You said: In dollars, please")


def test_long_conversations(shop: Shop) -> None:
    [change] = commands(PAGE, "Long conversations")
    assert json.loads(shop.run(change))["summary_model"] == "small"


def test_tools_that_run_in_the_client(shop: Shop) -> None:
    declare, give = commands(PAGE, "Tools that run in the client")
    assert "event: done" in shop.run(declare)
    tool = {"name": "where_am_i", "input_schema": {"type": "object"}}
    [call] = said(shop, message='where_am_i {"exact": true}', client_tools=[tool])["client_calls"]
    session = shop.client.get("/api/v1/sessions").json()["data"][0]["id"]
    assert json.loads(shop.run(give, SESSION=session, CALL=call["call_id"]))["is_error"] is False


def test_the_view_of_the_public(shop: Shop) -> None:
    [token] = commands(PAGE, "The view of the public")
    assert json.loads(shop.run(token))["view"] == "public"


def test_structured_answers(shop: Shop) -> None:
    [ask] = commands(PAGE, "Structured answers")
    answer = json.loads(shop.run(ask))
    assert answer["data"] == json.loads(answer["message"]) == {"laptops": ["x"]}


def test_replays_over_the_api_and_in_ci(shop: Shop, turn: dict[str, str]) -> None:
    [begin] = commands(PAGE, "Replay as a regression test")
    assert json.loads(shop.run(begin, **turn))["turns"] == 1
    [step] = re.findall(r"^- run: (.*?)\n  env:", (ROOT / "docs" / PAGE).read_text(), re.DOTALL | re.MULTILINE)
    (shop.folder / "prompts").mkdir()
    (shop.folder / "prompts" / "support.txt").write_text("Refunds come first.")
    (shop.folder / "sessions.txt").write_text(turn["SESSION"])
    table = shop.run(" ".join(step.split()), ENGINE=shop.url, BYTEBREW_TOKEN=ADMIN)
    assert "0 turns of 1 diverge" in table
