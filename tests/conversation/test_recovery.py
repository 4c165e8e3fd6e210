"""Turns that a stopped engine left: taken up where they were, and nothing that was done is done again."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bytebrew.contract.events import MessageDelta, MessageRestarted, Thinking
from bytebrew.contract.messages import Message
from bytebrew.conversation.recovery import MOST_RESUMES
from bytebrew.conversation.resumed_answer import Piece, ResumedStep
from bytebrew.engine import Engine
from bytebrew.store.backups.copies import copy_database
from bytebrew.store.open_turns import ResumePoint
from bytebrew.testing import names, token
from tests.conversation.test_confirmations import PAY, Setup, Talk, answer, configure, engine_on, follow, processes, say
from tests.faults.invariants import text_shown
from tests.ledger import Ledger
from tests.stored import ON_POSTGRESQL, changed, rows

__all__ = ["processes"]

ONCE = {"tries": [30.0, 0.0]}
"""A wait that outlasts the engine, but not the second time."""
WHOLE: list[list[Any]] = [
    ["one ", 0.003, "two ", ["look", {"n": 1}], ["pay", {"amount": 1}]],
    ["three ", ["sign", {"name": "anna"}]],
    ["four", 0.003, "."],
]
CHILD = [["I ", 0.003, ["pay", {"amount": 2}], ["sign", {"name": "otto"}]], ["did"]]
SPAWNING: list[list[Any]] = [["one ", ["spawn_helper", {"message": json.dumps(CHILD)}]], ["two ", None]]


async def stopped(running: Engine, talk: Talk) -> None:
    """The engine stops at a record, as SIGTERM makes it do; the client has read all that there was."""
    await running.drain(0)
    await talk.end()
    assert talk.datas("error")[-1]["code"] == "draining"
    talk.seen.pop()


async def resumed(data: Path, talk: Talk) -> tuple[Talk, Ledger]:
    """The whole session as a new engine has it, once the turn has ended."""
    async with engine_on(data) as (_, client, written):
        whole = follow(client, talk.session_id)
        await whole.end()
    assert whole.seen[: len(talk.seen)] == talk.seen
    assert [int(event.id) for event in whole.seen] == list(range(1, len(whole.seen) + 1))
    said = text_shown((event.event, json.loads(event.data)) for event in whole.seen)
    assert [message["content"] for message in whole.datas("message")] in ([], [said])
    return whole, written


async def pending(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    """The inbox; nothing from an engine that is not there."""
    try:
        found: list[dict[str, Any]] = (await client.get("/api/v1/approvals")).json()["data"]
    except httpx.TransportError:
        return []
    return found


@asynccontextmanager
async def person(client: httpx.AsyncClient, written: Ledger) -> AsyncIterator[list[str]]:
    """Somebody who approves all, and looks into the ledger where an outcome is not known; the kinds of questions."""
    kinds: list[str] = []

    async def run() -> None:
        while True:
            for asked in await pending(client):
                happened = written.counts()[" ".join(map(str, (asked["tool"], *asked["input"].values())))]
                known = "mark_done" if happened else "retry"
                word = "approve" if asked["kind"] == "confirm" else known
                with suppress(httpx.TransportError):
                    if (await answer(client, asked["session_id"], asked["id"], word)).status_code == 200:
                        kinds.append(asked["kind"])
            await asyncio.sleep(0.01)

    task = asyncio.create_task(run())
    try:
        yield kinds
    finally:
        task.cancel()
        await asyncio.wait([task])


# While the model speaks


async def test_a_client_that_resumes_after_kill_9_has_the_text_once(processes: Setup) -> None:
    async with processes.serving() as (process, client):
        await configure(client)
        talk = say(client, [["alpha ", "beta ", ONCE, "gamma"]])
        await talk.until("message_delta", 2)
        process.kill()
        await talk.leave()
    async with processes.serving() as (_, client):
        rest = follow(client, talk.session_id, int(talk.seen[-1].id))
        whole = follow(client, talk.session_id)
        await rest.end()
        await whole.end()
        session = (await client.get(f"/api/v1/sessions/{talk.session_id}")).json()
    assert [*talk.seen, *rest.seen] == whole.seen
    assert [delta["content"] for delta in whole.datas("message_delta")] == ["alpha ", "beta ", "gamma"]
    assert whole.datas("message")[0]["content"] == "alpha beta gamma"
    assert [message["content"] for message in session["messages"][1:]] == ["alpha beta gamma"]
    assert processes.ledger.counts() == {"model 0": 2}


@pytest.mark.parametrize(
    ("heard", "then"),
    [
        ("The sky is", "Grass is green"),
        ("The sky is", "The grass"),
        ("The sky is blue", "The sky"),
        ("The sky is", ""),
    ],
)
async def test_clients_drop_an_answer_in_place_of_which_the_model_gives_another(
    heard: str, then: str, tmp_path: Path
) -> None:
    steps: list[list[Any]] = [
        ["First. ", ["look", {"n": 1}]],
        [{"tries": [heard, then]}, ONCE, ["look", {"n": 2}]],
        [" End."],
    ]
    async with engine_on(tmp_path) as (running, client, _):
        await configure(client)
        talk = say(client, steps)
        await talk.until("message_delta", 2)
        await stopped(running, talk)
    whole, _ = await resumed(tmp_path, talk)
    assert [event["content"] for event in whole.datas("message_restart")] == ["First. "]
    assert whole.datas("message")[0]["content"] == f"First. {then} End."
    async with engine_on(tmp_path) as (_, client, _):
        messages = (await client.get(f"/api/v1/sessions/{talk.session_id}/messages")).json()
        whole_again = (await client.get(f"/api/v1/sessions/{talk.session_id}/events?follow=false")).json()["events"]
    assert "".join(one["content"] for one in messages if one["role"] == "assistant") == f"First. {then} End."
    assert [event["event"] for event in whole_again].count("message_restart") == 1


@pytest.mark.parametrize(("heard", "then"), [("The sky is", "The sky is blue"), ("The sky is", "The sky is")])
async def test_an_answer_that_begins_as_before_goes_on(heard: str, then: str, tmp_path: Path) -> None:
    steps = [[{"tries": [heard, then]}, ONCE, ["look", {"n": 1}]], ["."]]
    async with engine_on(tmp_path) as (running, client, _):
        await configure(client)
        talk = say(client, steps)
        await talk.until("message_delta")
        await stopped(running, talk)
    whole, written = await resumed(tmp_path, talk)
    assert whole.datas("message")[0]["content"] == f"{then}."
    assert names(whole.seen) == [*("message_delta", "tool_call", "tool_result", "message_delta", "message", "done")]
    assert written.counts() == {"model 0": 2, "look 1": 1, "model 1": 1}


async def test_an_answer_that_is_another_each_time_is_dropped_each_time(tmp_path: Path) -> None:
    async with engine_on(tmp_path) as (running, client, _):
        await configure(client)
        talk = say(client, [[{"tries": ["one", "two", "three"]}, {"tries": [30.0, 30.0, 0.0]}]])
        await talk.until("message_delta")
        await stopped(running, talk)
    async with engine_on(tmp_path) as (running, client, _):
        second = follow(client, talk.session_id, int(talk.seen[-1].id))
        await second.until("message_delta")
        await running.drain(0)
    whole, _ = await resumed(tmp_path, talk)
    assert names(whole.seen) == [*(["message_delta", "message_restart"] * 2), "message_delta", "message", "done"]
    assert whole.datas("message")[0]["content"] == "three"


def split(text: str, cuts: list[int]) -> list[str]:
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[a:b] for a, b in pairwise(places) if a < b]


TEXT = st.text("ab \n", max_size=8)
CUTS = st.lists(st.integers(0, 12), max_size=5)


@given(TEXT, TEXT, TEXT, TEXT, TEXT, CUTS)
def test_what_clients_have_after_a_resume_is_the_answer_however_it_is_cut(
    kept: str, thought: str, text: str, thinks: str, says: str, cuts: list[int]
) -> None:
    point = ResumePoint(Message("user", "?"), [], [one for one in (kept, text) if one], text, thought, {})
    said = [kept, text]
    step = ResumedStep(point, said)
    partial: list[str] = []
    thinking: list[str] = []
    client = {"thinking": thought, "text": kept + text}

    def take(pieces: list[Piece]) -> None:
        for piece in pieces:
            if isinstance(piece, MessageRestarted):
                client.update(thinking="", text=piece.content)
            else:
                client["thinking" if isinstance(piece, Thinking) else "text"] += piece.content

    told_of: list[Any] = [Thinking(content=piece) for piece in split(thinks, cuts)]
    for piece in [*told_of, *(MessageDelta(content=piece) for piece in split(says, cuts))]:
        (thinking if isinstance(piece, Thinking) else partial).append(piece.content)
        take([piece] if step.done else step.new_pieces(piece, partial, thinking))
    if not step.done:
        take(step.restart(partial, thinking))
    assert client == {"thinking": thinks, "text": kept + says}


async def test_what_was_heard_stays_in_the_history_of_a_turn_that_is_cancelled_before_it_is_said_again(
    tmp_path: Path,
) -> None:
    async with engine_on(tmp_path) as (running, client, _):
        await configure(client)
        talk = say(client, [[{"tries": ["half ", 30.0]}, 30.0]])
        await talk.until("message_delta")
        await stopped(running, talk)
    async with engine_on(tmp_path) as (_, client, written):
        with anyio.fail_after(5):
            while written.counts()["model 0"] < 2:
                await asyncio.sleep(0.01)
        await client.post(f"/api/v1/sessions/{talk.session_id}/cancel")
        await follow(client, talk.session_id).end()
        messages = (await client.get(f"/api/v1/sessions/{talk.session_id}/messages")).json()
    assert [message["content"] for message in messages[1:]] == ["half "]


async def test_what_was_shown_of_a_turn_that_cannot_go_on_stays_in_its_history(tmp_path: Path) -> None:
    async with engine_on(tmp_path) as (running, client, _):
        await configure(client)
        talk = say(client, [["half ", 30.0]])
        await talk.until("message_delta")
        await stopped(running, talk)
        sql = f"update turns set resumes = {MOST_RESUMES}"
    with changed(tmp_path) as conn:
        conn.execute(sql)
    async with engine_on(tmp_path) as (_, client, _):
        whole = follow(client, talk.session_id)
        await whole.end()
        messages = (await client.get(f"/api/v1/sessions/{talk.session_id}/messages")).json()
    assert whole.datas("error")[0]["code"] == "interrupted"
    assert [(one["content"], one.get("broken_off")) for one in messages[1:]] == [("half ", "failed")]


# During a tool


async def test_an_idempotent_call_runs_again(tmp_path: Path) -> None:
    async with engine_on(tmp_path) as (running, client, written):
        await configure(client)
        talk = say(client, [[["pay", {"amount": 1}], ["look", {"n": 1, "slow": 30}]], [None]])
        await talk.until("tool_call", 2)
        while not written.counts()["look 1"]:
            await asyncio.sleep(0.01)
        await stopped(running, talk)
    whole, written = await resumed(tmp_path, talk)
    assert [result["output"] for result in whole.datas("tool_result")] == ["paid 1", "saw 1"]
    assert written.counts() == {"model 0": 1, "pay 1": 1, "look 1": 2, "model 1": 1}
    assert whole.datas("done")[0]["usage"]["input_tokens"] == 20


UNKNOWN = "The engine was stopped during this call; a person says that it"


@pytest.mark.parametrize(
    ("words", "told", "has_error", "runs"),
    [
        (("retry",), "paid 1", False, 2),
        (("mark_done",), f"{UNKNOWN} took effect", False, 1),
        (("mark_done", "I looked"), f"{UNKNOWN} took effect: I looked", False, 1),
        (("fail",), f"{UNKNOWN} failed", True, 1),
        (("approve",), f"{UNKNOWN} failed", True, 1),
    ],
)
async def test_a_person_says_what_became_of_a_call_that_may_not_run_twice(
    words: tuple[str, ...], told: str, has_error: bool, runs: int, tmp_path: Path
) -> None:
    async with engine_on(tmp_path) as (running, client, written):
        await configure(client)
        talk = say(client, [[["pay", {"amount": 1, "slow": 30}], ["look", {"n": 1}]], ["ok"]])
        while not written.counts()["pay 1"]:
            await asyncio.sleep(0.01)
        await stopped(running, talk)
    async with engine_on(tmp_path) as (_, client, written):
        rest = follow(client, talk.session_id)
        [asked] = await rest.until("confirmation")
        assert (asked["kind"], asked["tool"], asked["input"]) == ("unknown_outcome", "pay", {"amount": 1, "slow": 30})
        edited = await answer(client, talk.session_id, asked["call_id"], *words, input={"amount": 2})
        assert edited.status_code == 400
        assert (await answer(client, talk.session_id, asked["call_id"], *words)).status_code == 200
        await rest.end()
    [result, _] = rest.datas("tool_result")
    assert (result["output"], result["has_error"]) == (told, has_error)
    assert written.counts() == {"model 0": 1, "pay 1": runs, "look 1": 1, "model 1": 1}


async def test_nobody_says_in_time_what_became_of_a_call(tmp_path: Path) -> None:
    async with engine_on(tmp_path) as (running, client, written):
        await configure(client)
        talk = say(client, [[["pay", {"amount": 1, "slow": 30}]], [None]])
        while not written.counts()["pay 1"]:
            await asyncio.sleep(0.01)
        await stopped(running, talk)
    async with engine_on(tmp_path, BYTEBREW_CONFIRMATION_TTL="50ms") as (_, client, written):
        rest = follow(client, talk.session_id)
        await rest.end()
    words = "The engine was stopped during this call; nobody said in time whether it took effect"
    assert (rest.datas("tool_result")[0]["output"], written.counts()["pay 1"]) == (words, 1)


@pytest.mark.sqlite  # a killed engine leaves a copy of the file; the kills on PostgreSQL are real ones
async def test_a_retry_that_is_cut_too_is_told_to_the_model(tmp_path: Path) -> None:
    async with engine_on(tmp_path) as (running, client, written):
        await configure(client)
        talk = say(client, [[["pay", {"amount": 1, "slow": 30}]], [None]])
        while not written.counts()["pay 1"]:
            await asyncio.sleep(0.01)
        await stopped(running, talk)
    async with engine_on(tmp_path) as (running, client, written):
        rest = follow(client, talk.session_id)
        [asked] = await rest.until("confirmation")
        freeze = Freeze(running, lambda: verdicts(tmp_path) == ["retry"])
        answering = asyncio.create_task(answer(client, talk.session_id, asked["call_id"], "retry"))
        await freeze.reached.wait()
        assert written.counts()["pay 1"] == 1
        left = left_behind(tmp_path)
        freeze.release.set()
        await answering
        await rest.end()
    async with engine_on(left) as (_, client, again):
        rest = follow(client, talk.session_id)
        await rest.end()
        assert (await answer(client, talk.session_id, asked["call_id"], "retry")).status_code == 200
    assert rest.datas("tool_result")[0]["output"] == "paid 1"
    assert again.counts()["pay 1"] == 2


@pytest.mark.parametrize(("tool", "asks"), [("look", 0), ("pay", 1)])
async def test_a_call_with_edited_arguments_runs_again_with_those(tool: str, asks: int, tmp_path: Path) -> None:
    [field] = {"look": ["n"], "pay": ["amount"]}[tool]
    async with engine_on(tmp_path) as (running, client, written):
        await configure(client, confirm_before=[tool])
        talk = say(client, [[[tool, {field: 1}]], [None]])
        [asked] = await talk.until("confirmation")
        await answer(client, talk.session_id, asked["call_id"], "approve", input={field: 7, "slow": 30})
        while not written.counts()[f"{tool} 7"]:
            await asyncio.sleep(0.01)
        await stopped(running, talk)
    async with engine_on(tmp_path) as (_, client, written):
        rest = follow(client, talk.session_id)
        if asks:
            [_, unknown] = await rest.until("confirmation", 2)
            assert unknown["input"] == {"amount": 7, "slow": 30}
            await answer(client, talk.session_id, unknown["call_id"], "retry")
        await rest.end()
    assert written.counts() == {"model 0": 1, "model 1": 1, f"{tool} 7": 2}
    assert rest.datas("tool_result")[0]["output"].startswith("[A person changed the arguments to")
    assert len(rest.datas("confirmation")) == 1 + asks


async def test_calls_that_ran_side_by_side_are_shown_to_the_model_in_its_order(tmp_path: Path) -> None:
    steps = [[["look", {"n": 1, "slow": 30}], ["look", {"n": 2}]], [None]]
    async with engine_on(tmp_path) as (running, client, _):
        await configure(client, tool_execution="parallel")
        talk = say(client, steps)
        await talk.until("tool_result")
        await stopped(running, talk)
    whole, _ = await resumed(tmp_path, talk)
    assert [result["output"] for result in whole.datas("tool_result")] == ["saw 2", "saw 1"]
    assert whole.datas("message")[0]["content"] == "saw 2"


# Turns that do not go on, and those that do whatever happens


@pytest.mark.slow
async def test_a_turn_that_stops_the_engine_over_and_over_ends(tmp_path: Path) -> None:
    async with engine_on(tmp_path) as (running, client, _):
        await configure(client)
        talk = say(client, [["x", 30.0]])
        await talk.until("message_delta")
        await stopped(running, talk)
    for _ in range(MOST_RESUMES):
        async with engine_on(tmp_path) as (running, client, written):
            assert [turn.session_id for turn in running.runner.turns.values()] == [talk.session_id]
    whole, written = await resumed(tmp_path, talk)
    assert names(whole.seen) == ["message_delta", "error"]
    assert whole.datas("error")[0]["code"] == "interrupted"
    assert written.counts()["model 0"] <= 1 + MOST_RESUMES
    async with engine_on(tmp_path) as (_, client, written):
        assert (await client.get(f"/api/v1/sessions/{talk.session_id}")).json()["status"] == "failed"


async def test_a_turn_that_has_taken_more_steps_than_its_agent_has_now_ends(tmp_path: Path) -> None:
    async with engine_on(tmp_path) as (running, client, _):
        await configure(client)
        talk = say(client, [[["look", {"n": n}]] for n in range(3)] + [["x", 30.0]])
        await talk.until("message_delta")
        assert (await client.put("/api/v1/agents/test", json={"max_steps": 2})).status_code == 200
        await stopped(running, talk)
    whole, written = await resumed(tmp_path, talk)
    assert whole.datas("error")[0]["code"] == "max_steps_reached"
    assert written.counts()["model 3"] == 1


@pytest.mark.slow
async def test_a_turn_that_waits_for_a_person_outlives_any_number_of_engines(tmp_path: Path) -> None:
    async with engine_on(tmp_path) as (running, client, _):
        await configure(client, confirm_before=["pay"])
        talk = say(client, PAY)
        [asked] = await talk.until("confirmation")
        await stopped(running, talk)
    for _ in range(MOST_RESUMES + 1):
        async with engine_on(tmp_path):
            pass
    async with engine_on(tmp_path) as (_, client, written):
        rest = follow(client, talk.session_id)
        await answer(client, talk.session_id, asked["call_id"], "approve")
        assert (await rest.end())[-1] == "done"
    assert written.counts() == {"model 0": 1, "pay 5": 1, "model 1": 1}


async def test_a_turn_whose_key_is_gone_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = {"x-model-provider": "steps", "x-model-api-key": "sk-own", "x-model-name": "mine"}
    async with engine_on(tmp_path) as (running, client, _):
        await configure(client)
        await client.put("/api/v1/settings/byok.steps", json={"value": True})
        message = {"message": json.dumps([[["look", {"n": 1}]], ["x", 30.0]])}
        talk = Talk(client, "POST", "/api/v1/schemas/test/chat", json=message, headers=own)
        await talk.until("message_delta")
        await stopped(running, talk)
    whole, _ = await resumed(tmp_path, talk)
    assert names(whole.seen) == ["tool_call", "tool_result", "message_delta", "error"]
    assert whole.datas("error")[0]["code"] == "credential_lost"
    assert f"of session {talk.session_id} cannot go on: credential_lost" in caplog.text
    async with engine_on(tmp_path) as (_, client, _):
        usage = (await client.get(f"/api/v1/sessions/{talk.session_id}")).json()["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (10, 1)
    if not ON_POSTGRESQL:
        assert b"sk-own" not in (tmp_path / "bytebrew.db").read_bytes()


async def test_a_waiting_turn_that_cannot_go_on_ends_after_the_one_that_can(tmp_path: Path) -> None:
    own = {"x-model-provider": "steps", "x-model-api-key": "sk-own", "x-model-name": "mine"}
    async with engine_on(tmp_path) as (running, client, _):
        await configure(client)
        await client.put("/api/v1/settings/byok.steps", json={"value": True})
        first = say(client, [["first", {"tries": [30.0, 0.05]}, "!"]])
        await first.until("message_delta")
        message = {"message": json.dumps([["x"]]), "session_id": first.session_id}
        waits = Talk(client, "POST", "/api/v1/schemas/test/chat", json=message, headers=own)
        while len(running.runner.turns) < 2:
            await asyncio.sleep(0.005)
        last = say(client, [["last"]], session_id=first.session_id)
        while len(running.runner.turns) < 3:
            await asyncio.sleep(0.005)
        await stopped(running, first)
        for talk in (waits, last):
            await talk.end()
    async with engine_on(tmp_path) as (_, client, _):
        url = f"/api/v1/sessions/{first.session_id}/events?follow=false"
        events: list[dict[str, Any]] = []
        with anyio.fail_after(10):
            while [event["event"] for event in events].count("done") < 2:
                events = (await client.get(url)).json()["events"]
    told = ["message_delta", "message_delta", "message", "done"]
    assert [event["event"] for event in events] == [*told, "error", *told[1:]]
    assert [event["data"]["code"] for event in events if event["event"] == "error"] == ["credential_lost"]


async def test_the_turn_that_ran_goes_before_one_that_waits_though_that_is_older(tmp_path: Path) -> None:
    async with engine_on(tmp_path) as (running, client, _):
        await configure(client)
        first = say(client, [["first", 30.0]])
        await first.until("message_delta")
        waits = say(client, [["waits"]], session_id=first.session_id)
        while not running.runner.lanes[first.session_id].waiting:
            await asyncio.sleep(0.005)
        urgent = say(
            client, [["urgent", {"tries": [0.0, 30.0, 0.0]}, "!"]], session_id=first.session_id, on_busy="interrupt"
        )
        await urgent.until("message_delta")
        await running.drain(0)
        await waits.end()
    async with engine_on(tmp_path) as (_, client, _):
        after = int(first.seen[-1].id)
        urgent = follow(client, first.session_id, after)
        await urgent.end()
        waits = follow(client, first.session_id, after + 4)  # no sooner, for what is not there yet is refused
        await waits.end()
        messages = (await client.get(f"/api/v1/sessions/{first.session_id}/messages")).json()
    assert [urgent.datas("message")[0]["content"], waits.datas("message")[0]["content"]] == ["urgent!", "waits"]
    said = [message["content"] for message in messages if message["role"] == "assistant"]
    assert said == ["first", "urgent!", "waits"]


async def with_helper(client: httpx.AsyncClient, mode: str = "sequential") -> None:
    """An agent `test` that may spawn `helper`."""
    await configure(client, can_spawn=["helper"], tool_execution=mode)
    helper = {"name": "helper", "model": "steps", "tools": ["pay", "look", "sign"], "tool_execution": mode}
    assert (await client.post("/api/v1/agents", json=helper)).status_code == 201


async def test_the_agent_of_a_turn_that_has_ended_does_not_go_on_alone(tmp_path: Path) -> None:
    child = json.dumps([["busy", 30.0]])
    async with engine_on(tmp_path) as (running, client, written):
        await with_helper(client)
        talk = say(client, [[["spawn_helper", {"message": child}]], ["ok"]])
        while written.counts()["model 0"] < 2:
            await asyncio.sleep(0.01)
        await stopped(running, talk)
        ended = "update turns set status = 'failed' where parent_turn_id is null"
        await running.db.write(lambda conn: conn.execute(ended) and None)
    async with engine_on(tmp_path) as (running, client, _):
        assert not running.runner.turns
        states = "select status from turns"
        found = await running.db.read(lambda conn: [row["status"] for row in conn.execute(states)])
    assert found == ["failed", "failed"]


async def test_an_agent_that_is_spawned_after_a_restart_serves_the_same_end_user(tmp_path: Path) -> None:
    spawning: list[list[Any]] = [
        [["look", {"n": 1}], ONCE, ["spawn_helper", {"message": json.dumps([["did"]])}]],
        ["ok"],
    ]
    async with engine_on(tmp_path) as (running, client, written):
        await with_helper(client)
        body = {"message": json.dumps(spawning), "user_sub": "ada"}
        asking = asyncio.create_task(client.post("/api/v1/schemas/test/chat", json=body))
        while not written.counts()["model 0"]:
            await asyncio.sleep(0.01)
        await running.drain(0)
        await asking
    async with engine_on(tmp_path) as (running, _, written):
        with anyio.fail_after(10):
            while running.runner.turns:
                await asyncio.sleep(0.01)
        users = "select agent, user_sub from sessions"
        found = await running.db.read(lambda conn: sorted(tuple(row) for row in conn.execute(users)))
    assert found == [("helper", "ada"), ("test", "ada")]


async def test_a_chat_without_a_stream_that_waits_in_a_queue_is_told_that_the_engine_stops(tmp_path: Path) -> None:
    async with engine_on(tmp_path) as (running, client, _):
        await configure(client)
        first = say(client, [["first", 30.0]])
        await first.until("message_delta")
        body = {"message": json.dumps([["waits"]]), "session_id": first.session_id, "stream": False}
        waits = asyncio.create_task(client.post("/api/v1/schemas/test/chat", json=body))
        while not running.runner.lanes[first.session_id].waiting:
            await asyncio.sleep(0.005)
        await running.drain(0)
        with anyio.fail_after(2):
            refused = await waits
    assert (refused.status_code, refused.json()["error"]) == (503, "draining")
    async with engine_on(tmp_path) as (running, client, _):
        while len((await client.get(f"/api/v1/sessions/{first.session_id}/messages")).json()) < 1:
            await asyncio.sleep(0.01)


# At every boundary


class Freeze:
    """Holds back all transactions once one is `due`: the file is then what a killed engine leaves."""

    def __init__(self, running: Engine, due: Callable[[], bool]) -> None:
        self.reached, self.release = asyncio.Event(), asyncio.Event()
        self._due = due
        self._run: Callable[..., Awaitable[Any]] = running.db._writer.run
        running.db._writer.run = self._frozen

    async def _frozen(self, work: Any) -> Any:
        if self.reached.is_set() or self._due():
            self.reached.set()
            await self.release.wait()
        return await self._run(work)


def verdicts(data: Path) -> list[str]:
    """What people have answered, as the file has it."""
    return [verdict for (verdict,) in rows(data, "select verdict from confirmations where verdict is not null")]


def left_behind(data: Path) -> Path:
    """What an engine that is killed now leaves, in a folder of its own."""
    left = data.parent / f"{data.name}-left"
    left.mkdir(mode=0o700)
    shutil.copytree(data / "keys", left / "keys")
    shutil.copy(data / "ledger", left / "ledger")
    source = data / "bytebrew.db"
    copy_database(source, f"{source.as_uri()}?mode=ro", left / "bytebrew.db")
    return left


async def killed_after(transactions: int, data: Path, steps: Sequence[Any], mode: str) -> tuple[Talk, Path] | None:
    """A chat whose engine is dead after so many transactions of it; None where it came to its end before."""
    async with engine_on(data) as (running, client, written):
        await with_helper(client, mode)
        written.add("begun")
        passing = iter(range(transactions))
        freeze = Freeze(running, lambda: next(passing, None) is None)
        talk = say(client, steps)
        async with person(client, written):
            frozen = asyncio.create_task(freeze.reached.wait())
            await asyncio.wait([frozen, talk._task], return_when=asyncio.FIRST_COMPLETED)
            frozen.cancel()
            await asyncio.sleep(0.02)
            await talk.leave()
        left = left_behind(data) if freeze.reached.is_set() else None
        freeze.release.set()
    return (talk, left) if left else None


@pytest.mark.sqlite  # a killed engine leaves a copy of the file; the kills on PostgreSQL are real ones
@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("mode", "steps", "said", "happened"),
    [
        ("sequential", WHOLE, "one two three four.", {"pay 1": 1, "sign anna": 1}),
        ("parallel", WHOLE, "one two three four.", {"pay 1": 1, "sign anna": 1}),
        ("sequential", SPAWNING, "one two did", {"pay 2": 1, "sign otto": 1}),
    ],
    ids=["sequential", "parallel", "spawning"],
)
async def test_an_engine_that_dies_after_any_transaction_goes_on_where_it_was(
    mode: str, steps: Sequence[Any], said: str, happened: dict[str, int], tmp_path: Path
) -> None:
    asked = 0
    for transactions in range(1, 200):
        killed = await killed_after(transactions, tmp_path / str(transactions), steps, mode)
        if killed is None:
            break
        talk, left = killed
        async with engine_on(left) as (_, client, written), person(client, written) as kinds:
            whole = follow(client, talk.session_id)
            assert (await whole.end())[-1] == "done", transactions
        asked += kinds.count("unknown_outcome")
        assert whole.seen[: len(talk.seen)] == talk.seen
        assert [int(event.id) for event in whole.seen] == list(range(1, len(whole.seen) + 1))
        deltas = "".join(delta["content"] for delta in whole.datas("message_delta"))
        assert [message["content"] for message in whole.datas("message")] == [deltas] == [said]
        counts = written.counts()
        assert {line: counts[line] for line in happened} == happened
        assert counts["look 1"] <= 2
        models = 4 if steps is SPAWNING else 3
        assert models <= sum(n for line, n in counts.items() if line.startswith("model")) <= models + 1
        assert whole.datas("done")[0]["usage"]["input_tokens"] == 10 * models
        assert kinds.count("unknown_outcome") <= 1
    assert transactions > 8
    assert asked >= 1


@pytest.mark.kills
@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_kill_9_after_any_event_repeats_nothing(processes: Setup) -> None:
    steps = [
        ["one ", 0.01, "two ", ["look", {"n": 1}], ["pay", {"amount": 1}]],
        ["three ", ["spawn_helper", {"message": json.dumps(CHILD)}]],
        ["four"],
    ]
    async with processes.serving() as (_, client):
        await with_helper(client)
    killed: Talk | None = None
    for point in range(1, 40):
        async with processes.serving() as (process, client), person(client, processes.ledger) as kinds:
            if killed is not None:
                whole = follow(client, killed.session_id)
                assert (await whole.end())[-1] == "done"
                assert whole.seen[: len(killed.seen)] == killed.seen
                assert [int(event.id) for event in whole.seen] == list(range(1, len(whole.seen) + 1))
                assert [message["content"] for message in whole.datas("message")] == ["one two three four"]
                assert len(whole.datas("tool_result")) == 3
                counts = processes.ledger.counts()
                assert {counts[line] for line in ("pay 1", "pay 2", "sign otto")} == {1}
                assert counts["look 1"] <= 2
                assert sum(n for line, n in counts.items() if line.startswith("model")) <= 6
                assert kinds.count("unknown_outcome") <= 1
                if len(killed.seen) == len(whole.seen):
                    break
            processes.ledger.clear()
            killed = say(client, steps)
            with anyio.fail_after(15):
                while len(killed.seen) < point and not killed._task.done():
                    await asyncio.sleep(0)
            process.kill()
            await killed.leave()
    assert point > 8


async def test_an_admins_turn_goes_on_with_the_agents_of_the_owners_session(tmp_path: Path) -> None:
    spawn = ["spawn_helper", {"message": json.dumps([["did"]])}]
    async with engine_on(tmp_path) as (running, client, written):
        await with_helper(client)
        assert (await client.patch("/api/v1/agents/helper", json={"lifecycle": "persistent"})).status_code == 200
        headers = {"Authorization": f"Bearer {await token(running, 'chat')}"}
        chat = "/api/v1/schemas/test/chat"
        body = {"message": json.dumps([[spawn], ["ok"]]), "stream": False}
        begun = (await client.post(chat, json=body, headers=headers)).json()
        body |= {
            "message": json.dumps([[["look", {"n": 1, "slow": 30}]], [spawn], ["ok"]]),
            "session_id": begun["session_id"],
        }
        asking = asyncio.create_task(client.post(chat, json=body))
        while not written.counts()["look 1"]:
            await asyncio.sleep(0.01)
        await running.drain(0)
        await asking
    async with engine_on(tmp_path) as (running, client, _):
        with anyio.fail_after(10):
            while running.runner.turns:
                await asyncio.sleep(0.01)
        messages = (await client.get(f"/api/v1/sessions/{begun['session_id']}/messages")).json()
    assert [one["content"] for one in messages if one["role"] == "tool"] == ["did", "saw 1", "did"]
