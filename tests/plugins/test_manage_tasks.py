"""manage_tasks: an agent's own list, work for other agents, and nothing of another conversation."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import httpx
import pytest

from bytebrew.base.errors import ToolError
from bytebrew.contract.connection import Connection
from bytebrew.contract.tool import Call, Tool
from bytebrew.engine import Engine
from bytebrew.store.configuration import agents
from tests.conversation.test_confirmations import PAY, Setup, configure, engine_on, processes, say
from tests.conversation.test_recovery import pending
from tests.ledger import Ledger
from tests.tables import token_with

__all__ = ["processes"]


class Caller:
    """An agent that calls the tool in a conversation of its own."""

    def __init__(self, engine: Engine, session_id: str, agent: str = "test", subject: str = "ada") -> None:
        self.engine = engine
        self.call = Call(
            call_id="call_0", session_id=session_id, turn_id="turn_0", schema="test", agent=agent, subject=subject
        )
        self._count = 0

    async def tools(self) -> list[Tool]:
        """What the agent has of toolsets."""
        agent = await self.engine.db.read(agents.get, self.call.agent)
        return [tool for toolset in self.engine.toolsets for tool in await toolset.tools(agent)]

    async def tool(self) -> Tool:
        [found] = [tool for tool in await self.tools() if tool.name == "manage_tasks"]
        return found

    async def __call__(self, action: str, **input: Any) -> Any:
        """The tool's answer to the next call."""
        self._count += 1
        return await self.again(self._count, action, **input)

    async def again(self, number: int, action: str, **input: Any) -> Any:
        """The answer to a call of this number, which may have been made before."""
        call = Call(
            call_id=f"call_{number}",
            session_id=self.call.session_id,
            turn_id=self.call.turn_id,
            schema=self.call.schema,
            agent=self.call.agent,
            subject=self.call.subject,
        )
        return await (await self.tool()).run(call, {"action": action, **input})


class Served(NamedTuple):
    """An engine with agents that have the tool, and two of them in different conversations."""

    engine: Engine
    client: httpx.AsyncClient
    ledger: Ledger
    ada: Caller
    bob: Caller


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with engine_on(tmp_path) as (engine, client, ledger):
        await configure(client, tools=["manage_tasks", "pay", "sign"], can_spawn=["clerk"])
        for name in ("clerk", "stranger"):
            await client.post("/api/v1/agents", json={"name": name, "model": "steps", "tools": ["pay", "manage_tasks"]})
        yield Served(engine, client, ledger, Caller(engine, "s1"), Caller(engine, "s2"))


def titles(tasks: list[dict[str, Any]]) -> list[str]:
    return [task["title"] for task in tasks]


async def refused(caller: Caller, action: str, **input: Any) -> str:
    with pytest.raises(ToolError) as failed:
        await caller(action, **input)
    return str(failed.value)


# Its own list


async def test_an_agent_keeps_a_list_of_its_own(served: Served) -> None:
    ada = served.ada
    tea = await ada("create", title="Tea", description="Green", acceptance_criteria=["hot"], priority=1)
    assert tea == {
        "id": tea["id"],
        "title": "Tea",
        "status": "pending",
        "priority": 1,
        "mode": "interactive",
        "agent": "test",
        "description": "Green",
        "acceptance_criteria": ("hot",),
    }
    stored = (await served.client.get(f"/api/v1/tasks/{tea['id']}")).json()
    assert (stored["source"], stored["session_id"], stored["schema"]) == ("agent", "s1", "test")
    listed = await ada("list")
    assert (titles(listed), "description" in listed[0]) == (["Tea"], False)
    assert (await ada("update", task_id=tea["id"], title="More tea"))["title"] == "More tea"
    assert (await ada("set_priority", task_id=tea["id"], priority=2))["priority"] == 2
    assert (await ada("start", task_id=tea["id"]))["status"] == "in_progress"
    done = await ada("complete", task_id=tea["id"], result="three cups")
    assert (done["status"], done["result"]) == ("completed", "three cups")
    assert await ada("get", task_id=tea["id"]) == done


async def test_several_tasks_are_created_at_once_or_none(served: Served) -> None:
    ada = served.ada
    made = await ada("create", tasks=[{"title": "a"}, {"title": "b", "priority": 2}, {"title": "c"}])
    assert titles(made) == titles(await ada("list")) == ["a", "b", "c"]
    assert "$.title" in await refused(ada, "create", tasks=[{"title": "d"}, {"title": ""}])
    assert "$.priority" in await refused(ada, "create", tasks=[{"title": "d"}, {"title": "e", "priority": 7}])
    assert len(await ada("list")) == 3


async def test_subtasks_lie_below_their_task(served: Served) -> None:
    ada = served.ada
    above = await ada("create", title="above")
    below = await ada("create_subtask", parent_task_id=above["id"], title="below")
    await ada("create", parent_task_id=above["id"], title="too")
    assert below["parent_task_id"] == above["id"]
    assert titles(await ada("list_subtasks", parent_task_id=above["id"])) == ["below", "too"]
    assert "parent_task_id" in await refused(ada, "create_subtask", title="nowhere")
    await ada("cancel", task_id=above["id"], reason="no time")
    assert {task["status"] for task in await ada("list")} == {"cancelled"}


async def test_a_failed_blocker_does_not_free_what_it_blocks(served: Served) -> None:
    ada = served.ada
    parent = (await ada("create", title="parent"))["id"]
    first = (await ada("create", title="first", parent_task_id=parent))["id"]
    second = (await ada("create", title="second", parent_task_id=parent, priority=2, blocked_by=[first]))["id"]
    await ada("create", title="third", parent_task_id=parent, priority=1)
    assert titles(await ada("get_ready", parent_task_id=parent)) == ["third", "first"]
    assert titles(await ada("get_ready")) == ["third", "parent", "first"]
    await ada("start", task_id=first)
    await ada("fail", task_id=first, reason="no paper")
    assert titles(await ada("get_ready", parent_task_id=parent)) == ["third"]
    await ada("update", task_id=second, blocked_by=[])
    assert titles(await ada("get_ready", parent_task_id=parent)) == ["second", "third"]


async def test_the_next_task_is_the_one_begun_and_then_the_most_urgent(served: Served) -> None:
    ada = served.ada
    assert await ada("get_next") == "There is nothing to do now"
    await ada("create", tasks=[{"title": "a"}, {"title": "b", "priority": 2}, {"title": "c", "priority": 1}])
    await ada("create", title="elsewhere", agent_id="clerk", priority=2, require_approval=True)
    assert (await ada("get_next"))["title"] == "b"
    await ada("start", task_id=(await ada("list"))[0]["id"])
    assert (await ada("get_next"))["title"] == "a"


async def test_a_draft_of_its_own_list_is_approved_and_started(served: Served) -> None:
    ada = served.ada
    draft = await ada("create", title="plan", require_approval=True)
    assert draft["status"] == "draft"
    assert "cannot become" in await refused(ada, "start", task_id=draft["id"])
    for status in ("approved", "in_progress", "completed"):
        assert (await ada("set_status", task_id=draft["id"], status=status))["status"] == status


@pytest.mark.parametrize(
    ("input", "words"),
    [
        ({"action": "dance"}, "Invalid enum value 'dance'"),
        ({"action": "get"}, "Say which task in task_id"),
        ({"action": "create"}, "$.title"),
        ({"action": "create", "title": "t", "colour": "red"}, "unknown field"),
        ({"action": "create", "title": "x" * 257}, "$.title"),
        ({"action": "create", "title": "t", "agent_id": "stranger"}, "You may give work to clerk, test"),
        ({"action": "create", "title": "t", "agent_id": "nobody"}, "You may give work to clerk, test"),
        ({"action": "update"}, "Say which task in task_id"),
        ({"action": "set_status", "status": "pending"}, "Invalid enum value 'pending'"),
        ({"action": "create", "tasks": [{"title": "t"}] * 65}, "64"),
    ],
)
async def test_what_does_not_fit_is_told_to_the_model(served: Served, input: dict[str, Any], words: str) -> None:
    assert words in await refused(served.ada, **input)
    assert await served.ada("list") == []


async def test_steps_that_say_too_little_are_told_to_the_model(served: Served) -> None:
    ada = served.ada
    task_id = (await ada("create", title="t"))["id"]
    assert "Say what to change" in await refused(ada, "update", task_id=task_id)
    assert "Say which status" in await refused(ada, "set_status", task_id=task_id)
    assert "Say which priority" in await refused(ada, "set_priority", task_id=task_id)
    assert "$.priority" in await refused(ada, "set_priority", task_id=task_id, priority=9)
    await ada("start", task_id=task_id)
    assert "why it failed" in await refused(ada, "fail", task_id=task_id)


async def test_nulls_are_left_out_fields(served: Served) -> None:
    nulls = dict.fromkeys(("tasks", "description", "priority", "blocked_by", "parent_task_id", "agent_id", "status"))
    assert (await served.ada("create", title="t", **nulls))["status"] == "pending"


async def test_a_task_that_is_named_by_an_empty_text_is_left_out(served: Served) -> None:
    made = await served.ada("create", title="t", parent_task_id="", agent_id="")
    assert "parent_task_id" not in made
    assert titles(await served.ada("get_ready", parent_task_id="")) == ["t"]
    assert "Say which task in parent_task_id" in await refused(
        served.ada, "create_subtask", title="t", parent_task_id=""
    )


async def test_a_call_that_runs_again_does_nothing_twice(served: Served) -> None:
    ada = served.ada
    made = await ada.again(1, "create", tasks=[{"title": "a"}, {"title": "b"}])
    assert await ada.again(1, "create", tasks=[{"title": "a"}, {"title": "b"}]) == made
    assert titles(await ada("list")) == ["a", "b"]
    for action, more in (("start", {}), ("complete", {"result": "ok"})):
        once = await ada.again(7, action, task_id=made[0]["id"], **more)
        assert await ada.again(7, action, task_id=made[0]["id"], **more) == once
    await ada.again(8, "cancel", task_id=made[1]["id"])
    assert (await ada.again(8, "cancel", task_id=made[1]["id"]))["status"] == "cancelled"
    assert (await ada.tool()).idempotent


# Other conversations


async def test_tasks_of_another_conversation_are_refused(served: Served) -> None:
    ada, bob = served.ada, served.bob
    task_id = (await ada("create", title="mine"))["id"]
    assert await bob("list") == await bob("get_ready") == []
    words = f"There is no task '{task_id}' in this conversation"
    for action in ("get", "update", "start", "complete", "fail", "cancel", "approve", "set_priority", "assign"):
        assert await refused(bob, action, task_id=task_id, title="t", reason="r", priority=1, agent_id="test") == words
    assert await refused(bob, "set_status", task_id=task_id, status="cancelled") == words
    assert await refused(bob, "list_subtasks", parent_task_id=task_id) == words
    assert await refused(bob, "get_ready", parent_task_id=task_id) == words
    assert await refused(bob, "create_subtask", parent_task_id=task_id, title="t") == words
    assert await refused(bob, "create", title="t", blocked_by=[task_id]) == words
    own = (await bob("create", title="own"))["id"]
    assert await refused(bob, "update", task_id=own, blocked_by=[task_id]) == words
    assert titles(await ada("list")) == ["mine"]


async def test_only_agents_that_name_the_tool_have_it(served: Served) -> None:
    made = await served.client.post("/api/v1/agents", json={"name": "plain", "model": "steps", "tools": ["no_such"]})
    assert made.status_code == 201
    assert await Caller(served.engine, "s1", agent="plain").tools() == []
    metadata = (await served.client.get("/api/v1/tools/metadata")).json()
    assert "manage_tasks" in json.dumps(metadata)


# Work in the background


async def until(client: httpx.AsyncClient, task_id: str, *statuses: str) -> dict[str, Any]:
    with anyio.fail_after(10):
        while True:
            task: dict[str, Any] = (await client.get(f"/api/v1/tasks/{task_id}")).json()
            if task["status"] in statuses:
                return task
            await asyncio.sleep(0.01)


async def test_an_agent_gives_work_to_another_and_sees_what_came_of_it(served: Served) -> None:
    ada = served.ada
    made = await ada("create", title=json.dumps([[["pay", {"amount": 4}]], ["paid it"]]), agent_id="clerk")
    assert (made["mode"], made["agent"]) == ("background", "clerk")
    task = await until(served.client, made["id"], "completed", "failed")
    assert (task["status"], task["result"], task["source"], task["schema"]) == ("completed", "paid it", "agent", "test")
    assert task["session_id"] != "s1"
    assert served.ledger.counts()["pay 4"] == 1
    assert (await ada("get", task_id=made["id"]))["result"] == "paid it"


async def test_what_others_work_on_is_not_its_own_to_end(served: Served) -> None:
    ada = served.ada
    draft = await ada("create", title='[["x", 30.0]]', agent_id="clerk", require_approval=True)
    assert "a person approves it" in await refused(ada, "approve", task_id=draft["id"])
    await served.client.post(f"/api/v1/tasks/{draft['id']}/approve")
    await until(served.client, draft["id"], "in_progress")
    for action in ("complete", "fail"):
        assert "the agent 'clerk' works on it" in await refused(ada, action, task_id=draft["id"], reason="r")
    assert (await ada("cancel", task_id=draft["id"], reason="enough"))["status"] == "cancelled"
    with anyio.fail_after(1):
        while served.engine.runner.turns:
            await asyncio.sleep(0.005)


async def test_a_task_of_its_list_is_handed_over(served: Served) -> None:
    ada = served.ada
    mine = await ada("create", title='[["did it"]]')
    assert "You may give work to" in await refused(ada, "assign", task_id=mine["id"], agent_id="stranger")
    given = await ada("assign", task_id=mine["id"], agent_id="clerk")
    assert (given["mode"], given["agent"]) == ("background", "clerk")
    task = await until(served.client, mine["id"], "completed")
    assert (task["result"], task["session_id"] == "s1") == ("did it", False)
    again = await ada("assign", task_id=mine["id"], agent_id="clerk")  # as after a crash in the midst of it
    assert again["agent"] == "clerk"
    begun = await ada("create", title="t")
    await ada("start", task_id=begun["id"])
    assert "has begun" in await refused(ada, "assign", task_id=begun["id"], agent_id="clerk")


async def task_of(served: Served, steps: Any) -> dict[str, Any]:
    body = {"agent": "test", "title": json.dumps(steps), "schema": "test"}
    made = await served.client.post("/api/v1/tasks", json=body)
    assert made.status_code == 201, made.text
    task: dict[str, Any] = made.json()
    return task


@pytest.mark.parametrize(("given", "status"), [({"agent_id": "clerk"}, "in_progress"), ({}, "pending")])
async def test_work_within_work_lies_below_it_and_ends_with_it(
    served: Served, given: dict[str, str], status: str
) -> None:
    more = {"action": "create", "title": '[["x", 30.0]]', **given}
    task = await task_of(served, [[["manage_tasks", more]], [30.0]])
    with anyio.fail_after(10):
        while not (below := (await served.client.get(f"/api/v1/tasks/{task['id']}/subtasks")).json()):
            await asyncio.sleep(0.01)
    await until(served.client, below[0]["id"], status)
    await served.client.delete(f"/api/v1/tasks/{task['id']}")
    assert (await until(served.client, below[0]["id"], "cancelled"))["agent"] == given.get("agent_id", "test")


async def test_work_of_a_spawned_agent_lies_below_the_task_too(served: Served) -> None:
    await served.client.patch("/api/v1/agents/clerk", json={"tools": ["manage_tasks"]})
    more = [["manage_tasks", {"action": "create", "title": '[["x", 30.0]]', "agent_id": "clerk"}], ["ok"]]
    task = await task_of(served, [[["spawn_clerk", {"message": json.dumps([[more[0]], more[1]])}]], [30.0]])
    with anyio.fail_after(10):
        while not (below := (await served.client.get(f"/api/v1/tasks/{task['id']}/subtasks")).json()):
            await asyncio.sleep(0.01)
    await served.client.delete(f"/api/v1/tasks/{task['id']}")
    assert (await until(served.client, below[0]["id"], "cancelled"))["agent"] == "clerk"


async def test_a_conversation_that_follows_on_a_task_may_hand_work_over(served: Served) -> None:
    task = await task_of(served, [["done"]])
    await until(served.client, task["id"], "completed")
    more = {"action": "create", "title": '[["did it"]]', "agent_id": "clerk"}
    talk = say(served.client, [[["manage_tasks", more]], [None]], session_id=task["session_id"])
    await talk.end()
    [result] = talk.datas("tool_result")
    assert not result["has_error"], result
    made = json.loads(result["output"])
    assert "parent_task_id" not in made
    await until(served.client, made["id"], "completed")


async def test_the_list_is_the_conversations_whoever_speaks_in_it(served: Served) -> None:
    token = await token_with(served.engine, "chat", "tasks", name="ada")
    headers = {"authorization": f"Bearer {token.token}"}
    async with httpx.AsyncClient(base_url=served.client.base_url, headers=headers, timeout=30) as ada:
        talk = say(ada, [[["manage_tasks", {"action": "create", "title": "hers"}]], ["ok"]])
        await talk.end()
        hers = json.loads(talk.datas("tool_result")[0]["output"])["id"]
        steps = [
            [["manage_tasks", {"action": "start", "task_id": hers}]],
            [["manage_tasks", {"action": "create_subtask", "parent_task_id": hers, "title": "an admin's"}]],
            ["ok"],
        ]
        talk = say(served.client, steps, session_id=talk.session_id)
        await talk.end()
        assert [result["has_error"] for result in talk.datas("tool_result")] == [False, False]
        assert titles((await ada.get("/api/v1/tasks")).json()["tasks"]) == ["an admin's", "hers"]


def begun(conn: Connection, task_id: str) -> list[str]:
    """The turn that works on a task, once there is one."""
    sql = "select o.id from tasks t join turns o on o.id = t.turn_id where t.id = ?"
    return [row[0] for row in conn.execute(sql, (task_id,))]


@pytest.mark.parametrize(
    ("action", "status", "words"), [("complete", "completed", "done"), ("fail", "failed", "cannot")]
)
async def test_an_agent_ends_the_task_at_hand_and_still_has_the_last_word(
    served: Served, action: str, status: str, words: str
) -> None:
    task = await task_of(served, [["wait ", 0.2, ["pay", {"amount": 1}]], [0.2, "last word"]])
    await until(served.client, task["id"], "in_progress")
    with anyio.fail_after(5):
        while not (turns := await served.engine.db.read(begun, task["id"])):  # a claim comes before its turn
            await asyncio.sleep(0.01)
    [turn_id] = turns
    caller = Caller(served.engine, task["session_id"], subject="whoever")
    caller.call = Call(
        call_id="c",
        session_id=task["session_id"],
        turn_id=turn_id,
        schema="test",
        agent="test",
        subject=await served.engine.db.read(
            lambda conn: conn.execute("select owner from tasks where id = ?", (task["id"],)).fetchone()[0]
        ),
    )
    ended = await caller(action, task_id=task["id"], result="done", reason="cannot")
    assert (ended["status"], ended.get("result") or ended.get("error")) == (status, words)
    with anyio.fail_after(5):
        while served.engine.runner.turns:
            await asyncio.sleep(0.01)
    session = (await served.client.get(f"/api/v1/sessions/{task['session_id']}")).json()
    assert (session["status"], session["messages"][-1]["content"]) == ("completed", "last word")
    assert (await until(served.client, task["id"], status))["status"] == status


async def test_an_agent_cancels_its_own_list_and_goes_on_talking(served: Served) -> None:
    steps = [
        [["manage_tasks", {"action": "create", "title": "t"}]],
        [["manage_tasks", {"action": "list"}]],
        ["went on"],
    ]
    talk = say(served.client, steps)
    await talk.end()
    [made, listed] = talk.datas("tool_result")
    assert json.loads(listed["output"])[0]["id"] == json.loads(made["output"])["id"]
    caller = Caller(served.engine, talk.session_id, subject=await owner(served, talk.session_id))
    task_id = json.loads(made["output"])["id"]
    await caller("start", task_id=task_id)
    steps = [["now ", 0.3, ["manage_tasks", {"action": "cancel", "task_id": task_id}]], ["went on"]]
    talk = say(served.client, steps, session_id=talk.session_id)
    await talk.end()
    assert json.loads(talk.datas("tool_result")[0]["output"])["status"] == "cancelled"
    assert talk.datas("done")[0].get("status") in (None, "completed")


async def owner(served: Served, session_id: str) -> str:
    sql = "select owner from sessions where id = ?"
    subject: str = await served.engine.db.read(lambda conn: conn.execute(sql, (session_id,)).fetchone()[0])
    return subject


async def test_a_question_of_the_conversation_is_none_of_its_list(served: Served) -> None:
    talk = say(served.client, [[["manage_tasks", {"action": "create", "title": "t"}]], ["ok"]])
    await talk.end()
    task_id = json.loads(talk.datas("tool_result")[0]["output"])["id"]
    caller = Caller(served.engine, talk.session_id, subject=await owner(served, talk.session_id))
    await caller("start", task_id=task_id)
    asking = say(served.client, [[["sign", {"name": "ada"}]], ["ok"]], session_id=talk.session_id)
    await asking.until("confirmation")
    assert (await caller("complete", task_id=task_id))["status"] == "completed"
    await asking.leave()


async def test_a_call_cut_by_kill_9_is_made_once(processes: Setup) -> None:
    steps = [[["manage_tasks", {"action": "create", "tasks": [{"title": "a"}, {"title": "b"}]}]], *PAY]
    async with processes.serving() as (process, client):
        await configure(client, tools=["manage_tasks", "pay"])
        talk = say(client, steps)
        await talk.until("tool_call")
        process.kill()
        await talk.leave()
    async with processes.serving() as (_, client):
        with anyio.fail_after(15):
            while (session := (await client.get(f"/api/v1/sessions/{talk.session_id}")).json())["status"] == "active":
                assert not await pending(client) or (await pending(client))[0]["tool"] != "manage_tasks"
                await asyncio.sleep(0.02)
                for asked in await pending(client):
                    await client.post(f"/api/v1/approvals/{asked['id']}/respond", json={"answers": ["retry"]})
        assert session["status"] == "completed"
        page = (await client.get("/api/v1/tasks")).json()
    assert sorted(titles(page["tasks"])) == ["a", "b"]
