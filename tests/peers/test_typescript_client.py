"""The TypeScript client as npm packs it, in Node.js against real engines: kills, proxies, and all that it offers."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bytebrew.testing import ADMIN
from tests.peers.conftest import ROOT, run
from tests.peers.served import Served, node, served, slow, steps
from tests.test_clients import Cutting, through_a_proxy_that_cuts

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]

HERE = Path(__file__).parent / "typescript"
LONG = steps(
    [*slow(*(f"Wort {n} \u00fc\u2028\U0001f41d " for n in range(30))), ["weather", {"city": "Z\u00fcrich"}]],
    ["It is ", 0.03, None, 0.03, "."],
)
"""A message whose answer takes a second before a call and goes on behind it."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("engine")) as running:
        tools = ["weather", "pay", "show_structured_output"]
        running.admin.patch("agents/talk", json={"tools": tools}).raise_for_status()
        yield running


def lines(process: "subprocess.Popen[str]") -> list[Any]:
    """What a script prints until it ends well, a value of JSON a line."""
    with process:
        assert process.stdout is not None
        found = [json.loads(line) for line in process.stdout]
    assert process.returncode == 0, found
    return found


def transcript(events: list[Any]) -> list[Any]:
    """The events of a session without what differs from one to another."""
    text = json.dumps(events)
    same: list[Any] = json.loads(re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|turn_[0-9a-f]+", "...", text))
    return same


def test_what_needs_no_engine_passes_the_clients_own_tests(typescript_package: Path) -> None:
    tests = sorted((typescript_package / "test").glob("*.test.js"))
    assert "# fail 0" in run(typescript_package, "node", "--test", "--test-reporter", "tap", *tests)


def test_its_package_has_the_modules_with_their_types_and_nothing_else(installed: Path) -> None:
    folder = installed / "node_modules/bytebrew-client"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    modules = {path.stem for path in (ROOT / "clients/typescript/src").glob("*.ts")}
    built = {f"dist/{name}{end}" for name in modules for end in (".js", ".d.ts")}
    assert names == {"package.json", "README.md", *built}


def test_packing_it_again_gives_the_same_bytes(typescript_package: Path) -> None:
    [packed] = typescript_package.glob("*.tgz")
    before = packed.read_bytes()
    (typescript_package / "dist/old.js").write_text("// of a file that was renamed")
    (typescript_package / "src/index.ts").touch()
    run(typescript_package, "npm", "pack", "--silent")
    assert packed.read_bytes() == before


@pytest.fixture(scope="module")
def undisturbed(engine: Served, installed: Path) -> list[Any]:
    """The transcript of the long message."""
    script = node(HERE / "transcript.mjs", engine.url, engine.token, LONG, folder=installed)
    return transcript(lines(script))


def test_an_undisturbed_turn_has_gap_free_numbers(undisturbed: list[Any]) -> None:
    *events, end = undisturbed
    assert [one["id"] for one in events] == [str(n) for n in range(1, len(events) + 1)]
    assert [one["event"] for one in events][-2:] == ["message", "done"]
    assert (
        end["text"] == "".join(f"Wort {n} \u00fc\u2028\U0001f41d " for n in range(30)) + "It is Sunny in Z\u00fcrich."
    )


@pytest.mark.parametrize("at", [1, 12, 29])
def test_an_engine_that_is_killed_in_the_middle_of_an_answer_changes_nothing_for_the_client(
    tmp_path: Path, installed: Path, undisturbed: list[Any], at: int
) -> None:
    with served(tmp_path) as running:
        process = node(HERE / "transcript.mjs", running.url, running.token, LONG, folder=installed)
        assert process.stdout is not None
        begin = [json.loads(process.stdout.readline()) for _ in range(at)]
        running.kill()
        running.start()
        events = begin + lines(process)
        assert transcript(events) == undisturbed
        stored = [{name: one[name] for name in one if name != "at"} for one in running.events(events[-1]["session"])]
        assert transcript(stored) == [{**one, "id": int(one["id"])} for one in undisturbed[:-1]]


@pytest.mark.parametrize("lengths", [[1], [150], [300, 700, 1500], [10, 500] * 2, [900] * 4])
def test_a_proxy_that_cuts_connections_changes_nothing_for_the_client(
    engine: Served, installed: Path, undisturbed: list[Any], lengths: list[int]
) -> None:
    with through_a_proxy_that_cuts(engine.url, lengths) as proxy:
        url = f"http://127.0.0.1:{proxy.server_address[1]}"
        events = lines(node(HERE / "transcript.mjs", url, engine.token, LONG, folder=installed))
        proxy.shutdown()
    assert transcript(events) == undisturbed
    assert len(Cutting.lengths) < len(lengths)
    assert [role for role, *_ in engine.messages(events[-1]["session"])].count("user") == 1


def feature(installed: Path, engine: Served, name: str, url: str = "", **argument: Any) -> Any:
    """What a function of features.mjs results in."""
    script = HERE / "features.mjs"
    [result] = lines(node(script, url or engine.url, engine.token, name, json.dumps(argument), folder=installed))
    return result


PAYS = steps(["I pay. ", ["pay", {"amount": 3}]], [None])


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        ("approve", "I pay. paid 3"),
        ({"answer": "approve", "input": {"amount": 2}}, "\npaid 2"),
        ({"answer": "reject", "reason": "Too much"}, "Too much"),
    ],
)
def test_a_question_is_answered_by_a_function(installed: Path, engine: Served, verdict: Any, text: str) -> None:
    found = feature(installed, engine, "approvals", message=PAYS, verdict=verdict)
    assert (found["status"], found["tool"], found["input"]) == ("completed", "pay", {"amount": 3})
    assert text in found["text"]


def test_a_question_is_answered_in_the_inbox_and_by_nobody_else_then(installed: Path, engine: Served) -> None:
    found = feature(installed, engine, "inbox", message=PAYS, admin=ADMIN)
    [approved, late] = found["answered"]
    assert approved is True
    assert (late["name"], late["status"]) == ("Conflict", 409)
    assert found["text"] == "I pay. paid 3"


def test_a_form_is_answered_by_the_next_message(installed: Path, engine: Served) -> None:
    questions = [{"id": "size", "label": "Size", "type": "select", "options": [{"label": "S"}, {"label": "L"}]}]
    form = {"output_type": "form", "title": "Your coffee", "questions": questions}
    message = steps([["show_structured_output", form]])
    found = feature(installed, engine, "form", message=message, form={"size": "L"})
    assert (found["status"], found["title"]) == ("needs_input", "Your coffee")
    assert (found["wrong"]["name"], found["wrong"]["details"][0]["path"]) == ("InvalidRequest", "$.message.form.size")
    assert found["text"].startswith("word 1 ")  # it is no list of steps


def test_tools_run_in_the_client_and_may_fail(installed: Path, engine: Served) -> None:
    message = steps([["place", {"exact": True}], ["photo", {}]], ["You are ", None])
    found = feature(installed, engine, "tools", message=message)
    assert found["seen"] == [[{"exact": True}, "call_0_0"]]
    assert [(tool, failed) for tool, _, failed in found["results"]] == [("photo", True), ("place", False)]
    assert json.loads(found["results"][1][1]) == {"city": "Zürich"}
    assert "no camera" in found["results"][0][1]


def test_files_reach_the_conversation(installed: Path, engine: Served) -> None:
    session = feature(installed, engine, "attachments")
    [message, _] = engine.admin.get(f"sessions/{session}/messages").json()
    assert [(one["media_type"], one["name"], one["url"]) for one in message["attachments"]] == [
        ("image/png", "dot.png", ""),
        ("text/plain", "", ""),
        ("image/png", "", "https://example.com/a.png"),
    ]


def test_a_structured_answer_is_data(installed: Path, engine: Served) -> None:
    assert feature(installed, engine, "structured", message=steps(['{"n": ', "17}"])) == {"n": 17}


STEERED = steps([*slow("a ", "b ", "c ", "d ", seconds=0.3), ["weather", {"city": "Bern"}]], ["e"])


def test_a_message_steers_the_turn_that_runs_and_both_have_its_answer(installed: Path, engine: Served) -> None:
    found = feature(installed, engine, "steer", message=STEERED, other=steps([""], ["in euros"]))
    assert found["first"] == found["second"]
    assert found["events"] == [*("steer", "tool_call", "tool_result", "steered", True, "message", "done")]


def test_a_turn_is_cancelled(installed: Path, engine: Served) -> None:
    assert feature(installed, engine, "cancel", message=LONG) == ["cancelled", "cancelled"]


def test_sessions_are_listed_forked_edited_renamed_followed_and_deleted(installed: Path, engine: Served) -> None:
    one, two, three = (steps([text]) for text in ("One.", "Two.", "Three."))
    assert feature(installed, engine, "sessions") == {
        "texts": [
            [one.replace(" ", ""), "One.", two.replace(" ", ""), "Two."],
            [one, "One.", three, "Three."],
            [one, "One.", two, "Two."],
        ],
        "forks": 2,
        "title": "Another",
        "listed": True,
        "turn": "Two.",
        "events": ["message_delta", "message", "done"] * 2,
        "gone": 404,
    }


def test_tasks_are_made_changed_approved_followed_and_cancelled(installed: Path, engine: Served) -> None:
    found = feature(installed, engine, "tasks", admin=ADMIN)
    assert found == ["draft", "All of them", 2, True, 0, "approved", "completed", "cancelled"]


def test_errors_have_their_class_code_status_details_and_the_id_of_the_request(installed: Path, engine: Served) -> None:
    found = feature(installed, engine, "errors")
    expected = {
        "invalid": ("InvalidRequest", 400, "invalid_request"),
        "stranger": ("Unauthorized", 401, "unauthorized"),
        "unknown": ("NotFound", 404, "not_found"),
        "allowed": ("Forbidden", 403, "forbidden"),
    }
    for key, one in expected.items():
        assert (found[key]["name"], found[key]["status"], found[key]["code"]) == one
        assert found[key]["requestId"].startswith("req_")
    assert found["invalid"]["details"][0]["path"] == "$.message"
    assert (found["failed"]["name"], found["failed"]["code"]) == ("TurnFailed", "answer_invalid")


def test_a_time_limit_and_a_signal_end_the_reading_and_not_the_turn(installed: Path, engine: Served) -> None:
    assert feature(installed, engine, "limits", message=LONG) == {
        "late": "TimedOut",
        "aborted": "AbortError",
        "end": "done",
    }


def test_an_engine_that_has_too_much_to_do_is_waited_for(installed: Path, tmp_path: Path) -> None:
    with served(tmp_path, BYTEBREW_MAX_TURNS="1") as busy:
        found = feature(installed, busy, "crowd", message=steps([0.3, "Here now."]))
    assert found == ["Here now."] * 3


def test_a_visitor_of_a_public_page_sees_the_answer_alone(installed: Path, engine: Served) -> None:
    page = engine.create("auth/tokens", name="page", scopes=["public"], schemas=["talk"])["token"]
    message = steps([{"think": "Hm."}, ["weather", {"city": "Bern"}]], [None])
    found = feature(installed, engine, "visitor", message=message, page=page)
    assert found == {"events": ["message_delta", "message", "done"], "text": "Sunny in Bern", "same": True, "usage": 0}


def test_a_visitor_goes_on_where_a_proxy_cuts(installed: Path, engine: Served) -> None:
    page = engine.create("auth/tokens", name="cut page", scopes=["public"], schemas=["talk"])["token"]
    with through_a_proxy_that_cuts(engine.url, [1 << 20, 700, 300, 700]) as proxy:
        url = f"http://127.0.0.1:{proxy.server_address[1]}"
        found = feature(installed, engine, "visitor", url, message=LONG, page=page)
        proxy.shutdown()
    assert not Cutting.lengths
    assert [one for one in found["events"] if one != "message_delta"] == ["message", "done"]
    assert found["text"].endswith("Wort 29 \u00fc\u2028\U0001f41d It is Sunny in Z\u00fcrich.")


@pytest.mark.parametrize("count", [1, 10, 32])
def test_another_process_goes_on_behind_the_last_event(
    installed: Path, engine: Served, undisturbed: list[Any], count: int
) -> None:
    begin = feature(installed, engine, "part", message=LONG, count=count)
    rest = feature(installed, engine, "rest", state=begin["state"])
    assert transcript(begin["events"] + rest["events"]) == undisturbed[:-1]
    anew = feature(installed, engine, "rest", state={**begin["state"], "last_event_id": ""})
    assert transcript(anew["events"]) == undisturbed[:-1]


def test_another_process_runs_the_tool_that_the_one_before_had_not_ended(installed: Path, engine: Served) -> None:
    message = steps([["place", {}]], ["You are in ", None])
    begin = feature(installed, engine, "part", message=message, count=2, tools=["place"])
    assert [one["event"] for one in begin["events"]] == ["tool_call", "client_tool_call"]
    rest = feature(installed, engine, "rest", state=begin["state"], tools=["place"])
    assert rest["text"] == "You are in Zürich"


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("approvals", {"message": PAYS, "verdict": "approve"}),
        ("tools", {"message": steps([["place", {}], ["photo", {}]], [*slow("Here ", "you ", "are.")])}),
        ("steer", {"message": STEERED, "other": steps([""], ["in euros"])}),
        ("sessions", {}),
    ],
)
def test_a_proxy_that_cuts_answers_short_changes_nothing_for_what_else_the_client_does(
    engine: Served, installed: Path, name: str, argument: Any
) -> None:
    direct = feature(installed, engine, name, **argument)
    with through_a_proxy_that_cuts(engine.url, [10, 700, 300, 700]) as proxy:
        url = f"http://127.0.0.1:{proxy.server_address[1]}"
        found = feature(installed, engine, name, url, **argument)
        proxy.shutdown()
    assert not Cutting.lengths
    assert transcript(found) == transcript(direct)
