"""AG-UI by its official client, `HttpAgent` of @ag-ui/client: unchanged, also over a kill of the engine."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ag_ui_validate.pytest_plugin import validate_agui_endpoint

from tests.peers.served import SCHEMA, Served, node, served, slow, steps

pytestmark = [pytest.mark.peers, pytest.mark.timeout(90)]

CLIENT = Path(__file__).parent / "ag_ui_client.mjs"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("ag_ui")) as engine:
        yield engine


def talk(
    engine: Served,
    scenario: str,
    message: str,
    *,
    schema: str = SCHEMA,
    kill_after: int = 0,
    version: str = "@ag-ui/client",
) -> list[Any]:
    """What the client prints; the engine is killed and started again after so many deltas."""
    process = node(CLIENT, f"{engine.url}/ag-ui/{schema}", engine.token, scenario, message, version, seconds=40)
    printed, deltas = [], 0
    assert process.stdout
    with process:
        for line in process.stdout:
            printed.append(json.loads(line))
            deltas += printed[-1]["name"] == "delta"
            if kill_after and deltas == kill_after:
                kill_after = 0
                engine.kill()
                engine.start()
    assert process.returncode == 0, printed
    return printed


def of(printed: list[Any], name: str) -> list[Any]:
    return [one["value"] for one in printed if one["name"] == name]


def said(printed: list[Any]) -> list[tuple[str, str]]:
    [messages] = of(printed, "messages")
    return [(one["role"], one["content"]) for one in messages]


each_version = pytest.mark.parametrize("version", ["@ag-ui/client", "@ag-ui/client-0"])
"""1.0, and 0.0.59, which CopilotKit's runtime has; it refuses fields that it does not know."""
STEPS = steps([*slow("one ", "two ", "three ", "four ", seconds=0.1), ["weather", {"city": "Oslo"}]], ["So: ", None])


def test_a_run_is_streamed_with_its_tools(engine: Served) -> None:
    printed = talk(engine, "run", STEPS)
    assert said(printed)[1:] == [
        ("assistant", "one two three four "),
        ("tool", "Sunny in Oslo"),
        ("assistant", "So: Sunny in Oslo"),
    ]
    assert of(printed, "messages")[0][1]["calls"] == [["weather", '{"city":"Oslo"}']]
    assert not of(printed, "failed")


@each_version
def test_a_run_that_a_kill_has_broken_goes_on_by_another_call_of_run_agent(engine: Served, version: str) -> None:
    calm, killed = [talk(engine, "again", STEPS, kill_after=n, version=version) for n in (0, 3)]
    assert of(killed, "broken")
    assert of(killed, "messages") == of(calm, "messages")


def test_a_stream_that_reads_on_at_its_cursor_has_the_bytes_of_one_that_was_not_broken(engine: Served) -> None:
    calm, killed = talk(engine, "unbroken", STEPS), talk(engine, "unbroken", STEPS, kill_after=3)
    assert of(killed, "broken")
    assert not of(calm, "broken")
    assert of(killed, "messages") == of(calm, "messages")
    [raw] = of(killed, "raw")
    whole = httpx.get(engine.url + raw["resume"], headers={"Authorization": f"Bearer {engine.token}"})
    assert raw["text"] == whole.text.removeprefix(": ok\n\n")


@each_version
def test_a_person_approves_changes_and_refuses_calls(engine: Served, version: str) -> None:
    printed = talk(
        engine, "decide", steps(*[[["pay", {"amount": n}]] for n in (1, 2, 3)], ["all asked"]), version=version
    )
    assert of(printed, "asked") == [[["tool_call", "May 'pay' run?"]]] * 3
    approved, changed, refused = [content for role, content in said(printed) if role == "tool"]
    assert (approved, changed.splitlines()[-1]) == ("paid 1", "paid 7")
    assert "paid" not in refused
    assert said(printed)[-1] == ("assistant", "all asked")


@each_version
def test_tools_of_the_client_run_there_and_the_thread_goes_on(engine: Served, version: str) -> None:
    printed = talk(engine, "tools", steps(["Where? ", ["where_am_i", {}]], ["In ", None]), version=version)
    assert said(printed)[1:] == [
        ("assistant", "Where? "),
        ("tool", "Oslo"),
        ("assistant", "In Oslo"),
        ("user", '[["And more"]]'),
        ("assistant", "And more"),
    ]


def test_a_structured_answer_is_the_runs_result_and_the_agents_state(engine: Served) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    shape = {"type": "json_schema", "schema": schema}
    engine.create("agents", name="shaped", model=SCHEMA, response_format=shape)
    engine.create("schemas", name="shaped", entry_agent="shaped", chat_enabled=True)
    printed = talk(engine, "run", steps(['{"city": "Oslo"}']), schema="shaped")
    assert of(printed, "result") == [{"city": "Oslo"}]
    assert of(printed, "state") == [{"units": "metric", "city": "Oslo"}]


def test_errors_are_shown_before_a_stream_and_in_it(engine: Served) -> None:
    [failed] = of(talk(engine, "run", "hello", schema="none"), "failed")
    assert failed.startswith("HTTP 404: ")
    assert "There is no schema" in failed
    [error] = of(talk(engine, "run", "[[1.0, 7]]"), "error")
    assert error


async def test_the_validator_of_the_protocol_finds_nothing_at_the_endpoint(engine: Served) -> None:
    report = await validate_agui_endpoint(
        f"{engine.url}/ag-ui/{SCHEMA}", headers={"Authorization": f"Bearer {engine.token}"}
    )
    assert (report.summary.errors, report.summary.warnings) == (0, 0), report.diagnostics
    assert report.event_count > 10
