"""A stream says by itself whose it is: a client answers from its events alone, and `call_id` has one meaning."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from bytebrew import ToolCall, tool
from bytebrew.engine import Engine
from bytebrew.testing import events_of
from tests.conversation.test_confirmations import PAY, answer, configure, engine_on
from tests.conversation.test_confirmations import say as tell
from tests.ledger import Ledger
from tests.plugins.test_spawn import Scripts, begun, datas, question, say, spawn, tools, troupe


class Served(NamedTuple):
    """An engine whose agent asks before it pays."""

    engine: Engine
    client: httpx.AsyncClient
    ledger: Ledger


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with engine_on(tmp_path) as (engine, client, ledger):
        await configure(client, confirm_before=["pay"])
        yield Served(engine, client, ledger)


async def test_a_client_answers_from_the_confirmation_alone(served: Served) -> None:
    talk = tell(served.client, PAY)
    [asked] = await talk.until("confirmation")
    url, body = f"/api/v1/sessions/{asked['session_id']}/respond", {"answers": ["approve"]}
    answered = await served.client.post(url, json={"confirmation_id": asked["confirmation_id"], **body})
    assert answered.status_code == 200
    assert (await talk.end())[-1] == "done"
    [done] = talk.datas("done")
    assert (asked["session_id"], asked["turn_id"]) == (done["session_id"], done["turn_id"])


async def test_call_id_is_the_tool_calls_id_wherever_it_is(served: Served) -> None:
    talk = tell(served.client, PAY)
    [asked] = await talk.until("confirmation")
    [waiting] = (await served.client.get("/api/v1/approvals")).json()["data"]
    answered = (await answer(served.client, talk.session_id, asked["call_id"], "approve")).json()
    await talk.end()
    [audited] = (await served.client.get("/api/v1/audit/tool-calls")).json()["data"]
    [call], [result] = talk.datas("tool_call"), talk.datas("tool_result")
    shown = (asked, waiting, answered, answered["confirmation"], result)
    assert {one["call_id"] for one in shown} == {call["call_id"]}
    assert waiting["id"] == asked["confirmation_id"] == answered["confirmation_id"]
    assert audited["call_id"] == call["call_id"]


async def test_an_answer_may_name_the_question_and_its_call_if_they_belong_together(served: Served) -> None:
    talk = tell(served.client, PAY)
    [asked] = await talk.until("confirmation")
    both = {name: asked[name] for name in ("confirmation_id", "call_id")}
    url, approve = f"/api/v1/sessions/{talk.session_id}/respond", {"answers": ["approve"]}
    other = await served.client.post(url, json=approve | both | {"call_id": "another"})
    assert (other.status_code, other.json()["error"]) == (409, "conflict")
    assert (await served.client.post(url, json=approve | both)).status_code == 200
    assert (await talk.end())[-1] == "done"


async def test_a_late_answer_to_one_call_approves_no_later_one_of_its_id(served: Served) -> None:
    first = tell(served.client, PAY)
    [old] = await first.until("confirmation")
    await answer(served.client, first.session_id, old["call_id"], "reject")
    await first.end()
    second = tell(served.client, [[["pay", {"amount": 90_000}]], ["ok"]], session_id=first.session_id)
    [new] = await second.until("confirmation")
    rename = "update confirmations set call_id = ?"  # as by a model that counts its calls from one in each turn
    await served.engine.db.write(lambda conn: conn.execute(rename, (old["call_id"],)).rowcount)
    late = await answer(served.client, first.session_id, old["call_id"], "approve")
    assert (late.status_code, late.json()["error"]) == (409, "conflict")
    assert new["confirmation_id"] in late.json()["message"]
    assert not served.ledger.counts()["pay 90000"]
    await answer(served.client, first.session_id, new["confirmation_id"], "no")
    await second.end()


async def test_an_error_says_of_which_session_and_turn_it_is(served: Served) -> None:
    await served.client.patch("/api/v1/agents/test", json={"max_steps": 1})
    body = {"message": json.dumps([[["look", {"n": 1}]]])}
    async with served.client.stream("POST", "/api/v1/schemas/test/chat", json=body) as stream:
        *_, last = [event async for event in events_of(stream)]
        ids = {f"{kind}_id": stream.headers[f"x-{kind}-id"] for kind in ("session", "turn")}
    error = json.loads(last.data)
    assert (last.event, error["code"]) == ("error", "max_steps_reached")
    assert error | ids == error


async def test_the_question_of_a_spawned_agent_names_the_turn_of_the_person() -> None:
    @tool
    async def launch() -> str:
        """Launches."""
        return "launched"

    scripts: Scripts = {
        "root": [[spawn("leaf", "go")], [say("end")]],
        "leaf": [[ToolCall("launch", {}, "c-launch")], [say("l")]],
    }
    agents: dict[str, Any] = {
        "root": {"can_spawn": ["leaf"]},
        "leaf": {"tools": ["launch"], "confirm_before": ["launch"]},
    }
    async with troupe(scripts, tools(launch), agents=agents) as it:
        session_id, task = await begun(it, "leaf")
        asked = await question(it, session_id)
        url = f"/api/v1/sessions/{asked['session_id']}/respond"
        await it.client.post(url, json={"call_id": asked["call_id"], "answers": ["approve"]})
        events = await task
    [done] = datas(events, "done")
    assert (asked["session_id"], asked["turn_id"]) == (session_id, done["turn_id"])
    assert (asked["agent"], asked["call_id"]) == ("leaf", "c-launch")
