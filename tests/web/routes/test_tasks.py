"""Tasks over HTTP: every field, filter, status and step, and whose they are."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple, get_args

import anyio
import httpx
import pytest

from bytebrew.contract.entities import TaskStatus
from bytebrew.engine import Engine
from bytebrew.testing import ADMIN
from tests.conversation.test_confirmations import Talk, configure, engine_on
from tests.ledger import Ledger
from tests.tables import check_refusal, token_with

TASKS = "/api/v1/tasks"
SLOW = [["thinking ", 30.0, "done"]]


class Served(NamedTuple):
    """An engine whose agent `test` does what a task's title says, and the admin's client."""

    engine: Engine
    client: httpx.AsyncClient
    ledger: Ledger


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with engine_on(tmp_path) as (engine, client, ledger):
        await configure(client)
        yield Served(engine, client, ledger)


@pytest.fixture
async def idle(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The client of an engine without workers."""
    async with engine_on(tmp_path, BYTEBREW_TASK_WORKERS="0") as (_, client, _):
        await configure(client)
        yield client


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    """As `idle`, for tests that look at their own task alone."""
    async with engine_on(tmp_path_factory.mktemp("shared"), BYTEBREW_TASK_WORKERS="0") as (_, client, _):
        await configure(client)
        yield client


async def made(client: httpx.AsyncClient, steps: Any = (("done",),), **fields: Any) -> dict[str, Any]:
    """A new task that tells its agent the steps."""
    answer = await client.post(TASKS, json={"agent": "test", "title": json.dumps(steps), **fields})
    assert answer.status_code == 201, answer.text
    task: dict[str, Any] = answer.json()
    return task


async def one(client: httpx.AsyncClient, task_id: str) -> dict[str, Any]:
    task: dict[str, Any] = (await client.get(f"{TASKS}/{task_id}")).json()
    return task


async def until(client: httpx.AsyncClient, task_id: str, *statuses: str) -> dict[str, Any]:
    """The task, once it has one of these statuses."""
    with anyio.fail_after(15):
        while (task := await one(client, task_id))["status"] not in statuses:
            await asyncio.sleep(0.01)
    return task


async def act(client: httpx.AsyncClient, task_id: str, verb: str, **body: Any) -> httpx.Response:
    return await client.post(f"{TASKS}/{task_id}/{verb}", json=body)


async def in_status(client: httpx.AsyncClient, status: str) -> str:
    """A task that nobody works on by itself, taken to a status."""
    task = await made(client, mode="interactive", require_approval=status in ("draft", "approved"))
    steps = {
        "draft": [],
        "approved": ["approve"],
        "pending": [],
        "in_progress": ["start"],
        "completed": ["start", "complete"],
        "failed": ["start", "fail"],
    }
    for verb in steps.get(status, []):
        answer = await act(client, task["id"], verb, **({"reason": "no"} if verb == "fail" else {}))
        assert answer.status_code == 200, answer.text
    if status == "cancelled":
        assert (await client.delete(f"{TASKS}/{task['id']}")).status_code == 204
    assert (await one(client, task["id"]))["status"] == status
    return str(task["id"])


def refused_as(answer: httpx.Response, status: int, code: str, path: str = "") -> None:
    body = check_refusal(answer)
    assert (answer.status_code, body["error"]) == (status, code)
    assert not path or body["details"][0]["path"] == path


# Creating and reading


async def test_a_new_task_has_every_field(idle: httpx.AsyncClient) -> None:
    other = await made(idle)
    given = {
        "agent": "test",
        "title": "Market analysis",
        "description": "Of SaaS",
        "schema": "test",
        "mode": "interactive",
        "priority": 1,
        "acceptance_criteria": ["3 sources"],
        "blocked_by": [other["id"]],
        "parent_task_id": other["id"],
    }
    answer = await idle.post(TASKS, json=given)
    task = answer.json()
    assert answer.status_code == 201
    assert {name: task[name] for name in given} == given
    assert task["task_id"] == task["id"]
    assert task["id"].startswith("task_")
    assert (task["agent_name"], task["status"], task["source"], task["attempts"]) == ("test", "pending", "api", 0)
    assert all(task[name] is None for name in ("result", "error", "approved_at", "started_at", "completed_at"))
    assert {**await one(idle, task["id"]), "task_id": task["id"]} == task


async def test_agent_name_is_another_name_of_agent(idle: httpx.AsyncClient) -> None:
    created = await idle.post(TASKS, json={"agent_name": "test", "title": "t"})
    assert created.json()["agent"] == "test"
    patched = await idle.patch(f"{TASKS}/{created.json()['id']}", json={"agent_name": "test"})
    assert patched.status_code == 200


@pytest.mark.parametrize(
    ("fields", "status", "path"),
    [
        ({"title": ""}, 400, "$.title"),
        ({"title": "x" * 257}, 400, "$.title"),
        ({"description": "x" * 8193}, 400, "$.description"),
        ({"priority": 3}, 400, "$.priority"),
        ({"priority": -1}, 400, "$.priority"),
        ({"mode": "foreground"}, 400, "$.mode"),
        ({"acceptance_criteria": ["x"] * 65}, 400, "$.acceptance_criteria"),
        ({"acceptance_criteria": ["x" * 513]}, 400, "$.acceptance_criteria[0]"),
        ({"blocked_by": ["x"] * 33}, 400, "$.blocked_by"),
        ({"colour": "red"}, 400, "$.colour"),
        ({"agent": "Nobody!"}, 400, "$.agent"),
        ({"agent": "nobody"}, 422, "$.agent"),
        ({"schema": "nowhere"}, 422, "$.schema"),
        ({"agent": "spare", "schema": "test"}, 422, "$.agent"),
        ({"blocked_by": ["task_0"]}, 422, "$.blocked_by[0]"),
        ({"parent_task_id": "task_0"}, 422, "$.parent_task_id"),
    ],
)
async def test_what_does_not_fit_is_refused_with_its_place(
    shared: httpx.AsyncClient, fields: dict[str, Any], status: int, path: str
) -> None:
    await shared.post("/api/v1/agents", json={"name": "spare"})
    before = (await shared.get(TASKS)).json()["total"]
    answer = await shared.post(TASKS, json={"agent": "test", "title": "t", **fields})
    assert answer.status_code == status
    assert check_refusal(answer)["details"][0]["path"] == path
    assert (await shared.get(TASKS)).json()["total"] == before


async def test_a_list_is_filtered_and_has_pages_newest_first(idle: httpx.AsyncClient) -> None:
    await idle.post("/api/v1/agents", json={"name": "spare"})
    ids = [(await made(idle, agent="spare" if n % 2 else "test"))["id"] for n in range(5)]
    await idle.delete(f"{TASKS}/{ids[0]}")
    page = (await idle.get(TASKS, params={"per_page": 2, "page": 2})).json()
    assert [task["id"] for task in page["tasks"]] == [ids[2], ids[1]]
    assert page["data"] == page["tasks"]
    assert {name: page[name] for name in ("total", "page", "per_page", "total_pages")} == {
        "total": 5,
        "page": 2,
        "per_page": 2,
        "total_pages": 3,
    }

    async def found(**query: str) -> list[str]:
        return [task["id"] for task in (await idle.get(TASKS, params=query)).json()["tasks"]]

    assert await found(agent="spare") == await found(agent_name="spare") == [ids[3], ids[1]]
    assert await found(status="pending", agent="test") == [ids[4], ids[2]]
    assert await found(status="cancelled") == [ids[0]]
    assert await found(source="api") == ids[::-1]
    assert await found(source="webhook") == []
    session_id = (await one(idle, ids[1]))["session_id"]
    assert await found(session_id=session_id) == [ids[1]]
    refused_as(await idle.get(TASKS, params={"status": "escalated"}), 400, "invalid_request", "$.status")


async def test_tasks_are_counted_by_status(served: Served) -> None:
    client = served.client

    async def counts(by: Any = client, **query: str) -> dict[str, int]:
        found = (await by.get(f"{TASKS}/counts", params=query)).json()
        assert [*found] == [*get_args(TaskStatus)]
        return {status: count for status, count in found.items() if count}

    await client.post("/api/v1/agents", json={"name": "spare"})
    asking = await made(client, [[["sign", {"name": "ada"}]], [None]])
    await until(client, asking["id"], "needs_input")
    await until(client, (await made(client))["id"], "completed")
    for _ in range(2):
        await made(client, agent="spare", require_approval=True)
    assert await counts() == {"draft": 2, "needs_input": 1, "completed": 1}
    assert await counts(agent="spare") == {"draft": 2}
    assert await counts(source="webhook") == {}
    own = await token_with(served.engine, "tasks")
    headers = {"Authorization": f"Bearer {own.token}"}
    async with httpx.AsyncClient(base_url=client.base_url, headers=headers, timeout=30) as other:
        await made(other, mode="interactive")
        assert await counts(other) == {"pending": 1}
    assert await counts() == {"draft": 2, "pending": 1, "needs_input": 1, "completed": 1}


async def test_a_task_costs_what_its_turns_cost(served: Served) -> None:
    task = await made(served.client)
    assert (task["cost_usd"], task["confirmation_id"]) == (None, None)
    done = await until(served.client, task["id"], "completed")
    assert done["cost_usd"] is None  # the model has no price
    sql = "update turns set cost_usd = 0.25 where session_id = ?"
    await served.engine.db.write(lambda conn: conn.execute(sql, (task["session_id"],)))
    assert (await one(served.client, task["id"]))["cost_usd"] == 0.25


async def test_an_unknown_task_is_not_there(idle: httpx.AsyncClient) -> None:
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"title": "t"}),
        ("DELETE", "", None),
        ("GET", "/subtasks", None),
        ("GET", "/events", None),
        ("POST", "/approve", None),
        ("POST", "/start", None),
        ("POST", "/complete", {}),
        ("POST", "/fail", {"reason": "no"}),
        ("POST", "/priority", {"priority": 1}),
        ("POST", "/input", {"answers": ["yes"]}),
    ):
        refused_as(await idle.request(method, f"{TASKS}/task_0{path}", json=body), 404, "not_found")


# Steps from status to status


VERBS = {"approve": "approved", "start": "in_progress", "complete": "completed", "fail": "failed"}
ALLOWED = {
    ("draft", "approve"),
    ("draft", "cancel"),
    ("approved", "start"),
    ("approved", "cancel"),
    ("pending", "start"),
    ("pending", "cancel"),
    ("in_progress", "complete"),
    ("in_progress", "fail"),
    ("in_progress", "cancel"),
    ("cancelled", "cancel"),
}


@pytest.mark.parametrize("verb", [*VERBS, "cancel"])
@pytest.mark.parametrize("status", ["draft", "approved", "pending", "in_progress", "completed", "failed", "cancelled"])
async def test_only_the_steps_of_the_table_are_taken(shared: httpx.AsyncClient, status: str, verb: str) -> None:
    task_id = await in_status(shared, status)
    before = await one(shared, task_id)
    if verb == "cancel":
        answer = await shared.delete(f"{TASKS}/{task_id}")
    else:
        answer = await act(shared, task_id, verb, **({"reason": "no"} if verb == "fail" else {}))
    after = await one(shared, task_id)
    if (status, verb) in ALLOWED:
        assert answer.status_code == (204 if verb == "cancel" else 200)
        assert after["status"] == VERBS.get(verb, "cancelled")
        assert answer.status_code == 204 or answer.json() == after
    else:
        refused_as(answer, 409, "bad_transition")
        assert after == before


async def test_each_step_is_told_with_its_time_and_its_words(idle: httpx.AsyncClient) -> None:
    task = await made(idle, mode="interactive", require_approval=True)
    assert (task["status"], task["approved_at"]) == ("draft", None)
    approved = (await act(idle, task["id"], "approve")).json()
    started = (await act(idle, task["id"], "start")).json()
    completed = (await act(idle, task["id"], "complete", result="all well")).json()
    assert task["created_at"] < approved["approved_at"] < started["started_at"] < completed["completed_at"]
    assert (completed["result"], completed["error"]) == ("all well", None)
    failed = (await act(idle, await in_status(idle, "in_progress"), "fail", reason="no paper")).json()
    assert (failed["status"], failed["result"], failed["error"]) == ("failed", None, "no paper")
    refused_as(await act(idle, await in_status(idle, "in_progress"), "fail"), 400, "invalid_request", "$.reason")
    other = await made(idle)
    gone = await idle.request("DELETE", f"{TASKS}/{other['id']}", json={"reason": "too late"})
    assert gone.status_code == 204
    assert (await one(idle, other["id"]))["error"] == "too late"


async def test_a_task_that_has_ended_does_not_change(idle: httpx.AsyncClient) -> None:
    for status in ("completed", "failed", "cancelled"):
        task_id = await in_status(idle, status)
        refused_as(await idle.patch(f"{TASKS}/{task_id}", json={"title": "new"}), 409, "bad_transition")
        refused_as(await act(idle, task_id, "priority", priority=2), 409, "bad_transition")


async def test_a_task_is_changed_field_by_field(idle: httpx.AsyncClient) -> None:
    await idle.post("/api/v1/agents", json={"name": "spare"})
    task, other = await made(idle, description="old"), await made(idle)
    changes: dict[str, Any] = {
        "title": "new",
        "acceptance_criteria": ["a", "b"],
        "priority": 2,
        "agent": "spare",
        "blocked_by": [other["id"]],
    }
    patched = (await idle.put(f"{TASKS}/{task['id']}", json=changes)).json()
    assert {name: patched[name] for name in changes} == changes
    assert patched["description"] == "old"
    assert (await act(idle, task["id"], "priority", priority=1)).json()["priority"] == 1
    for fields, status in (
        ({"agent": "nobody"}, 422),
        ({"agent": "Nobody!"}, 400),
        ({"title": ""}, 400),
        ({"description": "x" * 8193}, 400),
        ({"blocked_by": ["task_0"]}, 422),
        ({"status": "completed"}, 400),
    ):
        check_refusal(refused := await idle.patch(f"{TASKS}/{task['id']}", json=fields))
        assert refused.status_code == status, refused.text


async def test_the_agent_of_a_task_that_has_begun_stays(idle: httpx.AsyncClient) -> None:
    await idle.post("/api/v1/agents", json={"name": "spare"})
    task_id = await in_status(idle, "in_progress")
    refused_as(await idle.patch(f"{TASKS}/{task_id}", json={"agent": "spare"}), 409, "bad_transition")
    assert (await idle.patch(f"{TASKS}/{task_id}", json={"agent": "test", "title": "t"})).status_code == 200


async def test_tasks_cannot_wait_in_a_circle(idle: httpx.AsyncClient) -> None:
    first = await made(idle)
    second = await made(idle, blocked_by=[first["id"]])
    third = await made(idle, blocked_by=[second["id"]])
    for blocker in (first, second, third):
        answer = await idle.patch(f"{TASKS}/{first['id']}", json={"blocked_by": [blocker["id"]]})
        refused_as(answer, 400, "invalid_request", "$.blocked_by[0]")
    assert (await idle.patch(f"{TASKS}/{third['id']}", json={"blocked_by": [first["id"]]})).status_code == 200
    assert (await idle.patch(f"{TASKS}/{second['id']}", json={"blocked_by": [third["id"]]})).status_code == 200


# Tasks below tasks


async def test_tasks_nest_ten_deep_and_no_deeper(idle: httpx.AsyncClient) -> None:
    above = (await made(idle))["id"]
    for _ in range(10):
        below = (await made(idle, parent_task_id=above))["id"]
        assert [task["id"] for task in (await idle.get(f"{TASKS}/{above}/subtasks")).json()] == [below]
        above = below
    refused = await idle.post(TASKS, json={"agent": "test", "title": "t", "parent_task_id": above})
    refused_as(refused, 400, "invalid_request", "$.parent_task_id")


async def test_a_task_that_has_ended_takes_no_subtasks(idle: httpx.AsyncClient) -> None:
    ended = await in_status(idle, "cancelled")
    refused = await idle.post(TASKS, json={"agent": "test", "title": "t", "parent_task_id": ended})
    refused_as(refused, 409, "bad_transition")


async def test_cancel_takes_all_below_along_but_what_has_ended(served: Served) -> None:
    client = served.client
    top = await made(client, mode="interactive")
    running = await made(client, SLOW, parent_task_id=top["id"])
    done = await made(client, parent_task_id=top["id"])
    leaf = await made(client, parent_task_id=running["id"], require_approval=True)
    beside = await made(client, SLOW)
    await until(client, done["id"], "completed")
    await until(client, running["id"], "in_progress")
    assert (await client.delete(f"{TASKS}/{top['id']}")).status_code == 204
    found = [(await one(client, task["id"]))["status"] for task in (top, running, leaf, done)]
    assert found == ["cancelled", "cancelled", "cancelled", "completed"]
    await until(client, beside["id"], "in_progress")
    assert (await client.delete(f"{TASKS}/{top['id']}")).status_code == 204
    refused_as(await client.delete(f"{TASKS}/{done['id']}"), 409, "bad_transition")


# While it runs


async def test_a_task_runs_to_its_result(served: Served) -> None:
    client = served.client
    task = await made(client, [[["pay", {"amount": 3}]], ["It is paid"]])
    done = await until(client, task["id"], "completed", "failed")
    assert (done["status"], done["result"], done["error"], done["attempts"]) == ("completed", "It is paid", None, 1)
    assert done["created_at"] <= done["started_at"] <= done["completed_at"]
    assert served.ledger.counts()["pay 3"] == 1
    session = (await client.get(f"/api/v1/sessions/{done['session_id']}")).json()
    assert (session["agent"], session["status"]) == ("test", "completed")


@pytest.mark.parametrize("how", ["DELETE", "complete", "fail", "session"])
async def test_a_running_turn_stops_within_a_second(served: Served, how: str) -> None:
    client = served.client
    task = await made(client, SLOW)
    events = Talk(client, "GET", f"{TASKS}/{task['id']}/events")
    await events.until("message_delta")
    begun = time.monotonic()
    if how == "DELETE":
        answer = await client.delete(f"{TASKS}/{task['id']}")
    elif how == "session":
        answer = await client.post(f"/api/v1/sessions/{task['session_id']}/cancel")
    else:
        answer = await act(client, task["id"], how, **({"reason": "no"} if how == "fail" else {"result": "by hand"}))
    assert answer.status_code in (200, 204), answer.text
    await events.end()
    assert time.monotonic() - begun < 1
    assert events.datas("done")[-1]["status"] == "cancelled"
    ended = await until(client, task["id"], "completed", "failed", "cancelled")
    expected = {"complete": ("completed", "by hand", None), "fail": ("failed", None, "no")}
    told = ("cancelled", None, "Its turn was cancelled" if how == "session" else None)
    assert (ended["status"], ended["result"], ended["error"]) == expected.get(how, told)
    await asyncio.sleep(0.05)
    assert await one(client, task["id"]) == ended


async def test_cancel_spares_a_chat_in_the_tasks_session(served: Served) -> None:
    client = served.client
    other = await made(client, SLOW, schema="test")
    await until(client, other["id"], "in_progress")
    body = {"message": json.dumps([["chatting"]]), "session_id": other["session_id"]}
    chat = Talk(client, "POST", "/api/v1/schemas/test/chat", json=body)
    await asyncio.sleep(0.1)
    assert (await client.delete(f"{TASKS}/{other['id']}")).status_code == 204
    await chat.end()
    assert chat.datas("message")[-1]["content"] == "chatting"


async def test_an_agent_is_told_its_task_though_its_owner_has_talked_to_it_before(served: Served) -> None:
    client = served.client
    blocker = await made(client, mode="interactive")
    task = await made(client, [["done it"]], schema="test", blocked_by=[blocker["id"]])
    body = {"message": json.dumps([["hello"]]), "session_id": task["session_id"]}
    assert await Talk(client, "POST", "/api/v1/schemas/test/chat", json=body).end()
    await client.patch(f"{TASKS}/{task['id']}", json={"blocked_by": []})
    ended = await until(client, task["id"], "completed", "failed")
    assert (ended["status"], ended["result"]) == ("completed", "done it")


async def test_a_task_started_by_hand_is_left_to_that_hand(served: Served) -> None:
    client = served.client
    task = await made(client, require_approval=True)
    await act(client, task["id"], "approve")
    done = await until(client, task["id"], "completed")
    assert done["approved_at"] <= done["started_at"]
    mine = await made(client, mode="interactive")
    assert (await act(client, mine["id"], "start")).json()["status"] == "in_progress"
    await asyncio.sleep(0.1)
    assert (await one(client, mine["id"]))["status"] == "in_progress"
    assert (await act(client, mine["id"], "complete")).json()["attempts"] == 0


async def test_an_interactive_task_and_a_draft_wait_for_people(served: Served) -> None:
    waiting = [await made(served.client, mode="interactive"), await made(served.client, require_approval=True)]
    other = await made(served.client)
    await until(served.client, other["id"], "completed")
    assert [(await one(served.client, task["id"]))["status"] for task in waiting] == ["pending", "draft"]


async def test_a_deleted_session_cancels_its_task(served: Served) -> None:
    client = served.client
    task = await made(client, SLOW)
    await until(client, task["id"], "in_progress")
    with anyio.fail_after(5):
        while (await client.delete(f"/api/v1/sessions/{task['session_id']}")).status_code == 404:
            await asyncio.sleep(0.01)
    assert (await until(client, task["id"], "cancelled", "failed"))["status"] == "cancelled"


# Events and questions


async def test_the_events_can_be_followed_before_the_task_begins(idle: httpx.AsyncClient) -> None:
    task = await made(idle)
    page = await idle.get(f"{TASKS}/{task['id']}/events", params={"follow": "false"})
    assert page.json() == {
        "events": [],
        "data": [],
        "total": 0,
        "limit": 500,
        "last": 0,
        "epoch": 1,
        "next": "0",
    }


async def test_the_events_are_those_of_the_tasks_session(served: Served) -> None:
    client = served.client
    blocker = await made(client, mode="interactive")
    task = await made(client, [["a ", ["look", {"n": 1}]], ["b"]], blocked_by=[blocker["id"]])
    talk = Talk(client, "GET", f"{TASKS}/{task['id']}/events")
    await asyncio.sleep(0.1)
    await act(client, blocker["id"], "start")
    await act(client, blocker["id"], "complete")
    await talk.end()
    page = (await client.get(f"{TASKS}/{task['id']}/events", params={"follow": "false"})).json()
    same = (await client.get(f"/api/v1/sessions/{task['session_id']}/events", params={"follow": "false"})).json()
    assert page == same
    assert [json.loads(event.data) for event in talk.seen] == [event["data"] for event in page["events"]]
    assert talk.seen[-1].event == "done"
    rest = (await client.get(f"{TASKS}/{task['id']}/events", params={"follow": "false", "after": 2})).json()
    assert rest["events"] == page["events"][2:]


async def test_a_task_needs_input_while_a_question_waits(served: Served) -> None:
    client = served.client
    task = await made(client, [[["sign", {"name": "ada"}]], [None]])
    waiting = await until(client, task["id"], "needs_input")
    assert [row["id"] for row in (await client.get(TASKS, params={"status": "needs_input"})).json()["tasks"]] == [
        task["id"]
    ]
    assert (await client.get(TASKS, params={"status": "in_progress"})).json()["total"] == 0
    for verb in ("start", "approve", "complete"):
        refused_as(await act(client, task["id"], verb), 409, "bad_transition")
    assert await one(client, task["id"]) == waiting
    assert waiting["confirmation_id"].startswith("conf_")
    answered = await act(client, task["id"], "input", answers=["approve", "go on"])
    assert answered.status_code == 200
    body = answered.json()
    assert (body["status"], body["approved"], body["confirmation"]["reason"]) == ("ok", True, "go on")
    assert body["confirmation_id"] == waiting["confirmation_id"]
    done = await until(client, task["id"], "completed")
    assert (done["result"], done["confirmation_id"]) == ("signed by ada", None)
    again = await act(client, task["id"], "input", answers=["approve"])
    refused_as(again, 409, "no_single_question")
    same = await act(client, task["id"], "input", answers=["approve"], confirmation_id=body["confirmation_id"])
    assert same.status_code == 200


@pytest.mark.parametrize(
    ("body", "result"),
    [
        ({"answers": ["no"], "reason": "not her"}, "A person refused this call: not her"),
        ({"answers": ["yes"], "input": {"name": "bob"}}, 'arguments to {"name":"bob"}]\nsigned by bob'),
    ],
)
async def test_an_answer_may_refuse_or_change_the_call(served: Served, body: dict[str, Any], result: str) -> None:
    task = await made(served.client, [[["sign", {"name": "ada"}]], [None]])
    await until(served.client, task["id"], "needs_input")
    assert (await act(served.client, task["id"], "input", **body)).status_code == 200
    assert (await until(served.client, task["id"], "completed"))["result"].endswith(result)


async def test_two_questions_want_one_to_be_named(served: Served) -> None:
    client = served.client
    await client.patch("/api/v1/agents/test", json={"tool_execution": "parallel"})
    task = await made(client, [[["sign", {"name": "ada"}], ["sign", {"name": "bob"}]], ["ok"]])
    with anyio.fail_after(10):
        while len(waiting := (await client.get("/api/v1/approvals")).json()["data"]) < 2:
            await asyncio.sleep(0.01)
    refused_as(await act(client, task["id"], "input", answers=["yes"]), 409, "no_single_question")
    for question in waiting:
        answered = await act(client, task["id"], "input", answers=["yes"], call_id=question["id"])
        assert answered.status_code == 200
    await until(client, task["id"], "completed")
    assert served.ledger.counts()["sign ada"] == served.ledger.counts()["sign bob"] == 1


async def test_a_question_of_another_task_is_not_there(served: Served) -> None:
    tasks = [await made(served.client, [[["sign", {"name": "ada"}]], [None]]) for _ in range(2)]
    for task in tasks:
        await until(served.client, task["id"], "needs_input")
    [first, _] = (await served.client.get("/api/v1/approvals")).json()["data"]
    other = next(task for task in tasks if task["session_id"] != first["session_id"])
    refused_as(await act(served.client, other["id"], "input", answers=["yes"], call_id=first["id"]), 404, "not_found")


@pytest.mark.parametrize("how", ["fail", "cancel"])
async def test_a_task_that_needs_input_may_be_ended(served: Served, how: str) -> None:
    client = served.client
    task = await made(client, [[["sign", {"name": "ada"}]], [None]])
    await until(client, task["id"], "needs_input")
    if how == "fail":
        assert (await act(client, task["id"], "fail", reason="nobody signs")).status_code == 200
    else:
        assert (await client.delete(f"{TASKS}/{task['id']}")).status_code == 204
    with anyio.fail_after(5):
        while (await client.get("/api/v1/approvals")).json()["data"]:
            await asyncio.sleep(0.01)
    assert (await one(client, task["id"]))["status"] == {"fail": "failed", "cancel": "cancelled"}[how]
    assert served.ledger.counts()["sign ada"] == 0


# Whose it is


async def test_a_task_is_its_owners_and_an_admins(served: Served) -> None:
    ada, bob = [
        httpx.AsyncClient(
            base_url=served.client.base_url,
            headers={"authorization": f"Bearer {(await token_with(served.engine, 'tasks', name=name)).token}"},
        )
        for name in ("ada", "bob")
    ]
    async with ada, bob:
        mine = await made(ada, [[["sign", {"name": "ada"}]], [None]])
        await until(ada, mine["id"], "needs_input")
        requests: list[tuple[str, str, Any]] = [
            ("GET", "", None),
            ("PATCH", "", {"title": "stolen"}),
            ("PUT", "", {"title": "stolen"}),
            ("GET", "/subtasks", None),
            ("GET", "/events", None),
            ("POST", "/approve", None),
            ("POST", "/start", None),
            ("POST", "/complete", {}),
            ("POST", "/fail", {"reason": "no"}),
            ("POST", "/priority", {"priority": 1}),
            ("POST", "/input", {"answers": ["yes"]}),
            ("DELETE", "", None),
        ]
        for method, path, body in requests:
            there = await bob.request(method, f"{TASKS}/{mine['id']}{path}", json=body)
            nowhere = await bob.request(method, f"{TASKS}/task_0{path}", json=body)
            assert there.status_code == nowhere.status_code == 404
            assert there.text.replace(mine["id"], "task_0") == nowhere.text
        assert (await bob.get(TASKS)).json()["total"] == 0
        assert (await ada.get(TASKS)).json()["total"] == (await served.client.get(TASKS)).json()["total"] == 1
        for fields in ({"blocked_by": [mine["id"]]}, {"parent_task_id": mine["id"]}):
            refused = await bob.post(TASKS, json={"agent": "test", "title": "t", **fields})
            refused_as(refused, 422, "unprocessable")
        assert (await act(ada, mine["id"], "input", answers=["yes"])).status_code == 200
        assert (await until(ada, mine["id"], "completed"))["result"] == "signed by ada"
        assert (await one(served.client, mine["id"]))["status"] == "completed"


async def test_tasks_need_their_scope(served: Served) -> None:
    weak = await token_with(served.engine, "chat", "agents:write", "approvals", name="weak")
    refused = await served.client.get(TASKS, headers={"authorization": f"Bearer {weak.token}"})
    refused_as(refused, 403, "forbidden")
    assert (await served.client.get(TASKS, headers={"authorization": f"Bearer {ADMIN}"})).status_code == 200


async def test_a_token_for_some_schemas_makes_tasks_in_those_alone(served: Served) -> None:
    bound = await token_with(served.engine, "tasks", name="bound", schemas=("test",))
    headers = {"authorization": f"Bearer {bound.token}"}
    body = {"agent": "test", "title": '[["done"]]'}
    refused_as(await served.client.post(TASKS, json=body, headers=headers), 403, "forbidden")
    made = await served.client.post(TASKS, json={**body, "schema": "test"}, headers=headers)
    assert made.status_code == 201


# What cannot run


async def test_without_its_agent_or_a_model_a_task_fails_in_words(served: Served) -> None:
    client = served.client
    for name in ("gone", "dumb"):
        await client.post("/api/v1/agents", json={"name": name, "model": "nothing"})
    blocker = await made(client, mode="interactive")
    gone = await made(client, agent="gone", blocked_by=[blocker["id"]])
    dumb = await made(client, agent="dumb", blocked_by=[blocker["id"]])
    assert (await client.delete("/api/v1/agents/gone")).status_code == 204
    await act(client, blocker["id"], "start")
    await act(client, blocker["id"], "complete")
    assert (await until(client, gone["id"], "failed"))["error"] == "There is no agent 'gone'"
    failed = await until(client, dumb["id"], "failed")
    assert failed["error"].startswith("Agent 'dumb' needs a model 'nothing', which does not exist")
    assert (failed["attempts"], failed["result"]) == (1, None)


async def test_a_task_with_an_idempotency_key_is_made_and_run_once(served: Served) -> None:
    body = {"agent": "test", "title": json.dumps([[["pay", {"amount": 9}]], ["ok"]])}
    answers = [await served.client.post(TASKS, json=body, headers={"idempotency-key": "k"}) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    await until(served.client, answers[0].json()["id"], "completed")
    assert served.ledger.counts()["pay 9"] == 1


async def test_of_two_bad_parameters_the_status_is_named(shared: httpx.AsyncClient) -> None:
    refused_as(await shared.get(f"{TASKS}?status=nope&offset=x"), 400, "invalid_request", "$.status")
