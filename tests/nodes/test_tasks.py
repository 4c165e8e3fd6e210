"""Background tasks whose turns run at one node, steered at another."""

import asyncio
from typing import Any

import anyio
import pytest

from bytebrew.contract.messages import ToolCall
from bytebrew.contract.tool import tool
from bytebrew.testing import ScriptedProvider
from tests.nodes.chats import say, two
from tests.nodes.engines import Node

pytestmark = pytest.mark.postgresql


async def _made(node: Node, **fields: Any) -> str:
    made = await node.http.post("/api/v1/tasks", json={"title": "Work", "agent": "test", **fields})
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


async def _is(node: Node, task: str, *statuses: str) -> dict[str, Any]:
    with anyio.fail_after(20):
        while (found := (await node.http.get(f"/api/v1/tasks/{task}")).json())["status"] not in statuses:
            await asyncio.sleep(0.02)
    result: dict[str, Any] = found
    return result


async def _split(a: Node, b: Node, vendor: ScriptedProvider) -> tuple[Node, Node]:
    """The node that works on the task, and the other."""
    with anyio.fail_after(20):
        while not vendor.requests:
            await asyncio.sleep(0.01)
    return (a, b) if a.engine.runner.turns else (b, a)


@pytest.mark.parametrize("which", [0, 1])
async def test_a_draft_is_approved_at_any_node_and_run_once(which: int) -> None:
    async with two([say("worked")]) as (a, b, vendor):
        node, other = (a, b) if which == 0 else (b, a)
        task = await _made(node, require_approval=True)
        assert (await _is(other, task, "draft"))["approved_at"] is None
        approved = await other.http.post(f"/api/v1/tasks/{task}/approve", json={})
        assert approved.status_code == 200, approved.text
        assert (await _is(node, task, "completed"))["result"] == "worked"
        again = await node.http.post(f"/api/v1/tasks/{task}/approve", json={})
        assert (again.status_code, again.json()["error"]) == (409, "bad_transition")
    assert len(vendor.requests) == 1


async def test_a_task_is_approved_at_two_nodes_at_once_and_run_once() -> None:
    async with two([say("worked")]) as (a, b, vendor):
        task = await _made(a, require_approval=True)
        codes = await asyncio.gather(*(node.http.post(f"/api/v1/tasks/{task}/approve", json={}) for node in (a, b)))
        assert sorted(one.status_code for one in codes) == [200, 409]
        await _is(b, task, "completed")
    assert len(vendor.requests) == 1


@pytest.mark.parametrize(("way", "status"), [("complete", "completed"), ("fail", "failed")])
async def test_a_task_that_another_node_works_on_is_ended_by_hand(way: str, status: str) -> None:
    async with two([say("one"), asyncio.Event()]) as (a, b, vendor):
        task = await _made(a)
        works, other = await _split(a, b, vendor)
        body = {"result": "by hand"} if way == "complete" else {"reason": "by hand"}
        ended = await other.http.post(f"/api/v1/tasks/{task}/{way}", json=body)
        assert (ended.status_code, ended.json()["status"]) == (200, status)
        with anyio.fail_after(10):
            while works.engine.runner.turns or works.engine.tasks._running:
                await asyncio.sleep(0.01)
        assert vendor.cancelled == 1
        assert (await _is(works, task, status))["status"] == status
    assert len(vendor.requests) == 1


async def test_what_a_task_asks_is_answered_at_another_node() -> None:
    ran = 0

    @tool
    async def careful() -> str:
        """Asks."""
        nonlocal ran
        ran += 1
        return "done"

    steps = [ToolCall("careful", {}, "c1")], [say("well")]
    async with two(*steps, tools=[careful], confirm_before=["careful"]) as (a, b, vendor):
        task = await _made(a)
        _, other = await _split(a, b, vendor)
        await _is(other, task, "needs_input")
        given = await other.http.post(f"/api/v1/tasks/{task}/input", json={"answers": ["approve"]})
        assert given.status_code == 200, given.text
        assert (await _is(other, task, "completed"))["result"] == "well"
        assert ran == 1


async def test_the_tasks_below_one_are_cancelled_wherever_they_run() -> None:
    settings = {"BYTEBREW_TASK_WORKERS": "1"}
    async with two([say("one"), asyncio.Event()], settings=settings) as (a, b, vendor):
        top = await _made(a)
        works, other = await _split(a, b, vendor)
        below = await _made(a, parent_task_id=top)
        with anyio.fail_after(20):
            while len(vendor.requests) < 2:
                await asyncio.sleep(0.01)
        assert len(works.engine.runner.turns) == len(other.engine.runner.turns) == 1
        cancelled = await other.http.request("DELETE", f"/api/v1/tasks/{top}", json={"reason": "enough"})
        assert cancelled.status_code == 204
        with anyio.fail_after(10):
            while a.engine.runner.turns or b.engine.runner.turns:
                await asyncio.sleep(0.01)
        for task in (top, below):
            assert (await _is(b, task, "cancelled"))["error"] == "enough"
        assert vendor.cancelled == 2
