"""What a person approved is the task that runs: a change takes the approval back, a stale digest approves nothing."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from bytebrew import ToolError
from tests.conversation.test_tasks import OK, Desk, failure, opened
from tests.plugins.test_manage_tasks import Caller, Served
from tests.plugins.test_manage_tasks import served as served
from tests.tables import check_refusal
from tests.web.routes.test_tasks import act, one

__all__ = ["served"]
NEWS, WIRE = "Send newsletter", "Wire EUR 90000"
HIDDEN = "Pay \u202e00009\u202c EUR\u200b"
SHOWN = "Pay [U+202E]00009[U+202C] EUR[U+200B]"


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with opened(OK, BYTEBREW_TASK_WORKERS="0") as desk:
        yield desk


async def draft(client: httpx.AsyncClient, title: str = NEWS, **fields: Any) -> dict[str, Any]:
    answer = await client.post(
        "/api/v1/tasks", json={"agent": "test", "title": title, "require_approval": True, **fields}
    )
    assert answer.status_code == 201, answer.text
    task: dict[str, Any] = answer.json()
    return task


async def approved(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    task = await draft(client, **fields)
    answer = await act(client, task["id"], "approve", digest=task["digest"])
    assert answer.status_code == 200, answer.text
    return await one(client, task["id"])


def refused_as(answer: httpx.Response, code: str) -> dict[str, Any]:
    """The task as it is now, which a refused approval shows."""
    assert (answer.status_code, answer.json()["error"]) == (409, code)
    current: dict[str, Any] = answer.json()["current"]
    return current


# A change after the approval


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize(
    "change",
    [
        {"title": WIRE},
        {"description": "to DE89"},
        {"acceptance_criteria": ["nobody notices"]},
        {"agent": "spare"},
        {"blocked_by": []},
    ],
)
async def test_a_change_takes_an_approved_task_back_to_draft(method: str, change: dict[str, Any], desk: Desk) -> None:
    client = desk.client
    review = await draft(client, "Review it")
    task = await approved(client, blocked_by=[review["id"]])
    answer = await client.request(method, f"/api/v1/tasks/{task['id']}", json=change)
    assert answer.status_code == 200
    now = answer.json()
    assert (now["status"], now["approved_at"]) == ("draft", None)
    assert now["digest"] != task["digest"]
    [entry] = [one for one in (await client.get("/api/v1/audit")).json()["data"] if one["action"] == "task.update"]
    changed = {one["field"]: (one["old_value"], one["new_value"]) for one in entry["details"]["changes"]}
    assert changed["status"] == ("approved", "draft")
    assert set(change) <= set(changed)


async def test_a_change_of_nothing_that_is_approved_leaves_the_approval(desk: Desk) -> None:
    task = await approved(desk.client)
    url = f"/api/v1/tasks/{task['id']}"
    same = await desk.client.put(url, json={name: task[name] for name in ("title", "description", "agent")})
    assert (same.json()["status"], same.json()["digest"]) == ("approved", task["digest"])
    urgent = await act(desk.client, task["id"], "priority", priority=2)
    assert (urgent.json()["status"], urgent.json()["priority"]) == ("approved", 2)


async def test_a_task_that_nobody_had_to_approve_changes_as_before(desk: Desk) -> None:
    made = (await desk.client.post("/api/v1/tasks", json={"agent": "test", "title": NEWS})).json()
    changed = await desk.client.patch(f"/api/v1/tasks/{made['id']}", json={"title": WIRE})
    assert (changed.json()["status"], changed.json()["title"]) == ("pending", WIRE)


async def test_what_runs_is_what_was_approved() -> None:
    async with opened(OK) as desk:
        task = await draft(desk.client, blocked_by=[(await draft(desk.client, "first"))["id"]])
        await act(desk.client, task["id"], "approve")
        await desk.client.patch(f"/api/v1/tasks/{task['id']}", json={"title": WIRE, "blocked_by": []})
        await asyncio.sleep(0.3)
        assert not desk.model.requests
        shown = await one(desk.client, task["id"])
        await act(desk.client, task["id"], "approve", digest=shown["digest"])
        await desk.until(task["id"], "completed")
    assert [message.content for message in desk.model.requests[0].messages] == [WIRE]


# The digest


async def test_an_approval_of_what_was_shown_before_a_change_is_refused_with_what_there_is_now(desk: Desk) -> None:
    task = await draft(desk.client)
    await desk.client.patch(f"/api/v1/tasks/{task['id']}", json={"title": WIRE})
    answer = await act(desk.client, task["id"], "approve", digest=task["digest"])
    now = refused_as(answer, "stale_digest")
    assert now == await one(desk.client, task["id"])
    assert (now["title"], now["status"]) == (WIRE, "draft")
    assert (await act(desk.client, task["id"], "approve", digest=now["digest"])).json()["status"] == "approved"


async def test_an_approval_without_a_digest_is_of_a_task_as_it_was_made_alone(desk: Desk) -> None:
    task = await draft(desk.client)
    url = f"/api/v1/tasks/{task['id']}/approve"
    await desk.client.patch(f"/api/v1/tasks/{task['id']}", json={"title": WIRE})
    assert refused_as(await desk.client.post(url), "digest_required")["title"] == WIRE
    assert (await desk.client.post(f"/api/v1/tasks/{(await draft(desk.client))['id']}/approve")).status_code == 200
    check_refusal(await desk.client.post(url, json={"digest": 7}))


async def test_a_worker_runs_no_task_that_is_not_what_was_approved() -> None:
    async with opened(OK) as desk:
        blocker = await draft(desk.client, "first")
        task = await approved(desk.client, blocked_by=[blocker["id"]])
        await desk.execute("update tasks set title = ?, blocked_by = '[]' where id = ?", WIRE, task["id"])
        desk.engine.tasks.wake()
        now = await desk.until(task["id"], "draft")
        assert (now.attempts, now.started_at, now.approved_at) == (0, None, None)
        [entry] = (await desk.client.get("/api/v1/audit?action=task.withdraw")).json()["data"]
        assert (entry["actor"], entry["resource_id"]) == ("engine", task["id"])
        assert refused_as(await act(desk.client, task["id"], "approve"), "digest_required")["title"] == WIRE
    assert not desk.model.requests


async def test_what_was_changed_while_it_ran_is_not_tried_again() -> None:
    async with opened(failure("model_overloaded"), OK, OK) as desk:
        task = await approved(desk.client)
        await desk.until(task["id"], "pending", attempts=1)
        await desk.execute("update tasks set status = 'in_progress' where id = ?", task["id"])  # as while it still runs
        await desk.client.patch(f"/api/v1/tasks/{task['id']}", json={"title": WIRE})
        await desk.execute("update tasks set status = 'pending' where id = ?", task["id"])
        await desk.hurry(task["id"])
        assert (await desk.until(task["id"], "draft")).title == WIRE
        assert len(desk.model.requests) == 1
        shown = await one(desk.client, task["id"])
        await act(desk.client, task["id"], "approve", digest=shown["digest"])
        await desk.until(task["id"], "completed")
    assert desk.model.requests[1].messages[-1].content == WIRE


async def test_another_attempt_of_what_was_approved_needs_no_approval() -> None:
    async with opened(failure("model_overloaded"), OK) as desk:
        task = await approved(desk.client)
        await desk.until(task["id"], "pending", attempts=1)
        await desk.hurry(task["id"])
        assert (await desk.until(task["id"], "completed")).attempts == 2


async def test_a_change_between_two_attempts_takes_the_task_back_to_draft() -> None:
    async with opened(failure("model_overloaded"), OK) as desk:
        task = await approved(desk.client)
        await desk.until(task["id"], "pending", attempts=1)
        answer = await desk.client.patch(f"/api/v1/tasks/{task['id']}", json={"title": WIRE})
        assert answer.json()["status"] == "draft"


# What an agent changes


async def test_an_agent_that_changes_an_approved_task_takes_it_back_to_draft_and_that_is_recorded(
    served: Served,
) -> None:
    ada = served.ada
    first = await ada("create", title="first", agent_id="clerk", require_approval=True)
    made = await ada("create", title=NEWS, agent_id="clerk", require_approval=True, blocked_by=[first["id"]])
    assert (await act(served.client, made["id"], "approve")).json()["status"] == "approved"
    changed = await ada("update", task_id=made["id"], title=WIRE)
    assert changed["status"] == "draft"
    [entry] = (await served.client.get("/api/v1/audit?action=task.withdraw")).json()["data"]
    assert (entry["actor"], entry["resource_id"]) == ("test", made["id"])
    changes = {one["field"]: (one["old_value"], one["new_value"]) for one in entry["details"]["changes"]}
    assert (changes["title"], changes["status"]) == ((NEWS, WIRE), ("approved", "draft"))
    with pytest.raises(ToolError, match="a person approves it"):
        await ada("approve", task_id=made["id"])


async def test_an_agent_that_approves_its_own_list_hands_on_drafts_alone(served: Served) -> None:
    ada: Caller = served.ada
    made = await ada("create", title=NEWS, require_approval=True)
    assert (await ada("approve", task_id=made["id"]))["status"] == "approved"
    handed = await ada("assign", task_id=made["id"], agent_id="clerk")
    assert (handed["status"], handed["agent"], handed["mode"]) == ("draft", "clerk", "background")
    [entry] = (await served.client.get("/api/v1/audit?action=task.withdraw")).json()["data"]
    assert entry["resource_id"] == made["id"]


# What is shown


async def test_a_draft_shows_what_is_invisible_and_runs_as_it_was_made() -> None:
    async with opened(OK) as desk:
        task = await draft(desk.client, HIDDEN, acceptance_criteria=["a\u200bb"])
        assert (task["title"], task["acceptance_criteria"]) == (SHOWN, ["a[U+200B]b"])
        listed = (await desk.client.get("/api/v1/tasks")).json()["tasks"]
        assert [row["title"] for row in (*listed, await one(desk.client, task["id"]))] == [SHOWN, SHOWN]
        back = await desk.client.put(f"/api/v1/tasks/{task['id']}", json={"title": SHOWN, "description": ""})
        assert back.json()["digest"] == task["digest"]
        answer = await act(desk.client, task["id"], "approve", digest=task["digest"])
        assert (answer.status_code, answer.json()["title"]) == (200, SHOWN)
        assert (await desk.until(task["id"], "completed")).title == HIDDEN
    assert desk.model.requests[0].messages[0].content.startswith(HIDDEN)


async def test_a_task_that_needs_no_approval_is_shown_as_it_is(desk: Desk) -> None:
    made = (await desk.client.post("/api/v1/tasks", json={"agent": "test", "title": HIDDEN})).json()
    assert made["title"] == HIDDEN
