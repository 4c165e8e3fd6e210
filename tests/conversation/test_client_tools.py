"""Tools that the client runs: declared by the request, asked for by an event, answered once, kept over restarts."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from bytebrew import Tool, Toolset
from bytebrew.contract.entities import Agent
from bytebrew.engine import Engine
from bytebrew.testing import client as client_of
from bytebrew.testing import plugin, served_engine, token
from tests import ledger
from tests.conversation.test_confirmations import Setup, Talk, answer, configure, follow, processes, say
from tests.ledger import Ledger

__all__ = ["processes"]
WHERE = {"name": "where_am_i", "description": "The place", "input_schema": {"type": "object", "properties": {}}}
DRAW = {"name": "draw", "description": "Draws", "input_schema": {"type": "object"}}
DEEP = json.loads("[" * 25 + "]" * 25)
STEPS = [["look ", ["where_am_i", {"exact": True}]], [None]]


@asynccontextmanager
async def world(
    data: Path, *plugins: tuple[str, object], agent: dict[str, Any] | None = None, **settings: str
) -> AsyncIterator[tuple[Engine, httpx.AsyncClient, Ledger]]:
    """An engine whose schema `test` allows client tools."""
    given = {"BYTEBREW_LEDGER": str(data / "ledger"), **settings}
    async with served_engine(("ledger", ledger), *plugins, data=data, settings=given) as (running, client):
        if (await client.get("/api/v1/schemas/test")).status_code == 404:
            await configure(client, **agent or {})
            await allow(client)
        yield running, client, Ledger(data / "ledger")


async def allow(client: httpx.AsyncClient, **schema: Any) -> None:
    changed = await client.patch("/api/v1/schemas/test", json={"client_tools": True, **schema})
    assert changed.status_code == 200, changed.text


async def give(client: httpx.AsyncClient, session_id: str, call_id: str, result: Any, **body: Any) -> httpx.Response:
    given = {"call_id": call_id, "result": result, **body}
    return await client.post(f"/api/v1/sessions/{session_id}/respond", json=given)


def chat(client: httpx.AsyncClient, steps: Any = STEPS, *tools: dict[str, Any], **body: Any) -> Talk:
    return say(client, steps, client_tools=[*(tools or (WHERE,))], **body)


async def test_the_client_is_asked_and_its_result_is_what_the_model_reads(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client, _):
        talk = chat(client)
        [asked] = await talk.until("client_tool_call")
        [call] = talk.datas("tool_call")
        assert asked == {
            "session_id": talk.session_id,
            "turn_id": asked["turn_id"],
            "call_id": call["call_id"],
            "tool": "where_am_i",
            "input": {"exact": True},
            "expires_at": None,
        }
        taken = await give(client, talk.session_id, call["call_id"], {"city": "Zürich"})
        assert taken.status_code == 200
        answered = taken.json()
        assert answered.pop("confirmation_id").startswith("conf_")
        assert answered == {"call_id": call["call_id"], "is_error": False, "status": "ok"}
        assert await talk.end() == [
            *("message_delta", "tool_call", "client_tool_call", "tool_result", "message_delta", "message", "done")
        ]
        [result] = talk.datas("tool_result")
        assert (json.loads(result["output"]), result["has_error"]) == ({"city": "Zürich"}, False)
        assert json.loads(talk.datas("message")[0]["content"].removeprefix("look ")) == {"city": "Zürich"}
        turn = (await client.get(f"/api/v1/sessions/{talk.session_id}/turns/{asked['turn_id']}")).json()
        assert [one["tool"] for one in turn["tool_calls"]] == ["where_am_i"]


@pytest.mark.parametrize(
    ("result", "output"),
    [("plain", "plain"), ("", ""), (None, "null"), (0, "0"), ([1, "a"], '[1,"a"]'), ({"k": None}, '{"k":null}')],
)
async def test_a_result_is_a_text_or_any_json_and_may_be_an_error(tmp_path: Path, result: Any, output: str) -> None:
    async with world(tmp_path) as (_, client, _):
        talk = chat(client)
        [asked] = await talk.until("client_tool_call")
        assert (await give(client, talk.session_id, asked["call_id"], result, is_error=True)).json()["is_error"]
        await talk.end()
        assert [(one["output"], one["has_error"]) for one in talk.datas("tool_result")] == [(output, True)]


async def test_parallel_calls_are_all_asked_at_once_and_answered_in_any_order(tmp_path: Path) -> None:
    steps = [[["draw", {"n": 1}], ["draw", {"n": 2}], ["look", {"n": 3}]], ["done"]]
    async with world(tmp_path, agent={"tool_execution": "parallel"}) as (_, client, book):
        talk = chat(client, steps, DRAW)
        first, second = await talk.until("client_tool_call", 2)
        await talk.until("tool_result")
        assert book.counts()["look 3"] == 1
        for asked in (second, first):
            assert (await give(client, talk.session_id, asked["call_id"], asked["input"]["n"])).status_code == 200
        assert (await talk.end())[-1] == "done"
        by_call = {one["call_id"]: one["output"] for one in talk.datas("tool_result")}
        assert (by_call[first["call_id"]], by_call[second["call_id"]]) == ("1", "2")


async def test_the_same_result_again_has_the_same_answer_and_another_or_a_wrong_one_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path, agent={"confirm_before": ["pay"]}) as (_, client, _):
        talk = chat(client, [[["where_am_i", {}]], [["pay", {"amount": 1}]], ["end"]])
        [asked] = await talk.until("client_tool_call")
        call_id, at = asked["call_id"], f"/api/v1/sessions/{talk.session_id}/respond"
        word = await answer(client, talk.session_id, call_id, "approve")
        assert (word.status_code, word.json()["details"][0]["path"]) == (422, "$.answers")
        assert "waits for its result" in word.json()["message"]
        both = await client.post(at, json={"call_id": call_id, "answers": ["approve"], "result": "x"})
        assert (both.status_code, both.json()["details"][0]["path"]) == (400, "$.answers")
        nothing = await client.post(at, json={"call_id": call_id})
        assert (nothing.status_code, nothing.json()["details"][0]["path"]) == (400, "$.answers")
        assert (await client.post(at, json={"result": "x"})).status_code == 400
        assert (await give(client, talk.session_id, "call_unknown", "x")).status_code == 404
        first = await give(client, talk.session_id, call_id, "here")
        [question] = await talk.until("confirmation")
        again = await give(client, talk.session_id, call_id, "here")
        assert (again.status_code, again.content) == (200, first.content)
        for body in ({"result": "there"}, {"result": "here", "is_error": True}):
            other = await client.post(at, json={"call_id": call_id, **body})
            assert (other.status_code, other.json()["error"]) == (409, "already_answered")
        wrong = await give(client, talk.session_id, question["call_id"], "paid")
        assert (wrong.status_code, wrong.json()["details"][0]["path"]) == (422, "$.result")
        inbox = (await client.get("/api/v1/approvals")).json()
        assert [one["tool"] for one in inbox["data"]] == ["pay"]
        assert (await answer(client, talk.session_id, question["call_id"], "approve")).status_code == 200
        assert (await talk.end())[-1] == "done"


async def test_a_call_waits_under_its_own_key_and_is_in_no_persons_inbox(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client, _):
        body = {"message": json.dumps(STEPS), "client_tools": [WHERE], "stream": False}
        waiting = await client.post("/api/v1/schemas/test/chat", json=body)
        assert waiting.status_code == 202
        shown = waiting.json()
        assert (shown["status"], "questions" in shown) == ("needs_input", False)
        [call] = shown["client_calls"]
        assert (call["tool"], call["input"], call["turn_id"]) == ("where_am_i", {"exact": True}, shown["turn_id"])
        assert (await client.get("/api/v1/approvals")).json()["data"] == []
        assert (await client.get("/api/v1/approvals")).json()["total"] == 0
        session_id, location = shown["session_id"], waiting.headers["location"]
        assert (await client.get(location)).json()["client_calls"] == [call]
        assert (await client.get(f"/api/v1/sessions/{session_id}")).json()["client_calls"] == [call]
        inbox = await client.post(f"/api/v1/approvals/{call['confirmation_id']}/respond", json={"answers": ["approve"]})
        assert inbox.status_code == 422
        assert (await give(client, session_id, call["confirmation_id"], "x")).status_code == 200
        await follow(client, session_id).end()
        assert (await client.get(location)).json()["status"] == "completed"
        assert (await client.get(f"/api/v1/sessions/{session_id}")).json()["client_calls"] == []


async def test_a_person_may_have_to_approve_it_first_and_change_its_arguments(tmp_path: Path) -> None:
    async with world(tmp_path, agent={"confirm_before": ["where_am_i"]}) as (_, client, _):
        talk = chat(client)
        [question] = await talk.until("confirmation")
        assert (question["source"], question["tool"]) == ("client", "where_am_i")
        assert not talk.datas("client_tool_call")
        early = await give(client, talk.session_id, question["call_id"], "too early")
        assert early.status_code == 422
        await answer(client, talk.session_id, question["call_id"], "approve", input={"exact": False})
        [asked] = await talk.until("client_tool_call")
        assert asked["input"] == {"exact": False}
        await give(client, talk.session_id, asked["call_id"], "here")
        assert (await talk.end())[-1] == "done"
        assert talk.datas("tool_result")[0]["output"] == ('[A person changed the arguments to {"exact":false}]\nhere')
        refused = chat(client)
        [question] = await refused.until("confirmation")
        await answer(client, refused.session_id, question["call_id"], "reject")
        assert "client_tool_call" not in await refused.end()


async def test_a_call_that_nobody_answers_expires_with_words_and_a_late_result_is_gone(tmp_path: Path) -> None:
    async with world(tmp_path, BYTEBREW_CONFIRMATION_TTL="1") as (_, client, _):
        talk = chat(client)
        [asked] = await talk.until("client_tool_call")
        assert asked["expires_at"] is not None
        await talk.end()
        [result] = talk.datas("tool_result")
        assert (result["has_error"], "in time" in result["output"]) == (True, True)
        late = await give(client, talk.session_id, asked["call_id"], "late")
        assert (late.status_code, late.json()["error"]) == (410, "gone")


async def test_a_cancelled_turn_waits_for_no_result(tmp_path: Path) -> None:
    async with world(tmp_path, agent={"max_turn_duration": 1}) as (_, client, _):
        talk = chat(client)
        [asked] = await talk.until("client_tool_call")
        await asyncio.sleep(1.2)  # the time limit of the turn stands still meanwhile
        assert (await client.post(f"/api/v1/sessions/{talk.session_id}/cancel")).status_code == 204
        assert (await talk.end())[-1] == "done"
        assert (await give(client, talk.session_id, asked["call_id"], "x")).status_code == 410


async def test_a_long_result_is_cut_and_can_be_read_on(tmp_path: Path) -> None:
    async with world(tmp_path, BYTEBREW_TOOL_OUTPUT_BYTES="1024") as (_, client, _):
        talk = chat(client)
        [asked] = await talk.until("client_tool_call")
        assert (await give(client, talk.session_id, asked["call_id"], "ab" * 2000)).status_code == 200
        await talk.end()
        [result] = talk.datas("tool_result")
        assert len(result["output"]) < 1200
        assert "go on with read_result" in result["output"]
        huge = await give(client, talk.session_id, asked["call_id"], "x" * (1 << 20))
        assert huge.status_code == 413


@pytest.mark.parametrize(
    ("tools", "path"),
    [
        ([{**WHERE, "name": "a b"}], "$.client_tools[0].name"),
        ([{**WHERE, "name": "x" * 65}], "$.client_tools[0].name"),
        ([{**WHERE, "name": ""}], "$.client_tools[0].name"),
        ([WHERE, {**DRAW, "name": "Where_Am_I"}], "$.client_tools[1].name"),
        ([WHERE, {**DRAW, "name": "pay"}], "$.client_tools[1].name"),
        ([{**DRAW, "name": "READ_RESULT"}], "$.client_tools[0].name"),
        ([{**DRAW, "name": "memory_recall"}], "$.client_tools[0].name"),
        ([{**DRAW, "name": "spawn_anything"}], "$.client_tools[0].name"),
        ([{**DRAW, "input_schema": {"type": "array"}}], "$.client_tools[0].input_schema"),
        ([{**DRAW, "input_schema": {}}], "$.client_tools[0].input_schema"),
        ([{**DRAW, "input_schema": {"type": "object", "title": "x" * 33_000}}], "$.client_tools[0].input_schema"),
        (
            [{**DRAW, "input_schema": {"type": "object", "x": DEEP}}],
            "$.client_tools[0].input_schema",
        ),
        ([{**DRAW, "name": f"t{n}"} for n in range(65)], "$.client_tools"),
        ([{**DRAW, "extra": 1}], "$.client_tools[0].extra"),
        ([{**DRAW, "name": f"draw{n}", "description": "x" * 9000} for n in range(15)], "$.client_tools"),
    ],
)
async def test_a_declaration_that_does_not_fit_is_refused_with_its_path(
    tmp_path: Path, tools: list[dict[str, Any]], path: str
) -> None:
    async with world(tmp_path) as (_, client, _):
        body = {"message": "hi", "client_tools": tools}
        refused = await client.post("/api/v1/schemas/test/chat", json=body)
        assert (refused.status_code, refused.json()["details"][0]["path"]) == (400, path), refused.text


async def test_a_schema_allows_them_or_they_are_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client, _):
        await allow(client, client_tools=False)
        body = {"message": json.dumps([["hi"]]), "client_tools": [WHERE]}
        refused = await client.post("/api/v1/schemas/test/chat", json=body)
        assert (refused.status_code, refused.json()["error"]) == (403, "client_tools_disabled")
        assert (await client.post("/api/v1/schemas/test/chat", json={**body, "client_tools": []})).status_code == 200


async def test_a_schema_of_another_type_is_refused_in_words_that_say_which_is_expected(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client, _):
        body = {"message": "hi", "client_tools": [{**DRAW, "input_schema": {"type": "array"}}]}
        refused = await client.post("/api/v1/schemas/test/chat", json=body)
    assert refused.json()["details"][0]["message"] == 'Expected a JSON Schema with "type": "object"'


class Late(Toolset):
    """Tools whose names are known once a turn runs, as those of an MCP server."""

    lists = ("tools",)

    async def tools(self, agent: Agent) -> list[Tool]:
        class Place(Tool):
            name = "place__where_am_i"
            description = "Here"
            input_schema = {"type": "object"}
            source = "place"
            foreign = True
            idempotent = True

            @property
            def names(self) -> frozenset[str]:
                return frozenset((self.name, "where_am_i"))

            async def run(self, call: Any, input: dict[str, Any]) -> str:
                return "the engine's own"

        return [Place()]


async def test_a_tool_that_the_agent_has_only_later_wins_and_a_notice_says_so(tmp_path: Path) -> None:
    def register_toolsets(register: Any, engine: Any) -> None:
        register(Late())

    late = plugin("late", register_toolsets=register_toolsets)
    async with world(tmp_path, late, agent={"tools": ["pay", "elsewhere"]}) as (_, client, _):
        talk = chat(client)
        assert "client_tool_call" not in await talk.end()
        [notice] = talk.datas("notice")
        assert (notice["code"], notice["names"]) == ("client_tools_hidden", ["where_am_i"])
        assert talk.datas("tool_result")[0]["output"] == "the engine's own"


async def test_the_owner_of_the_session_answers_without_the_scope_of_approvals_and_nobody_else(tmp_path: Path) -> None:
    async with (
        world(tmp_path) as (running, _, _),
        client_of(running, await token(running, "chat")) as owner,
        client_of(running, await token(running, "chat")) as other,
    ):
        talk = chat(owner)
        [asked] = await talk.until("client_tool_call")
        assert (await give(other, talk.session_id, asked["call_id"], "x")).status_code == 404
        assert (await give(owner, talk.session_id, asked["call_id"], "x")).status_code == 200
        assert (await talk.end())[-1] == "done"


async def test_sub_agents_do_not_get_them(tmp_path: Path) -> None:
    child = [[["where_am_i", {}]], [None]]
    steps = [[["spawn_helper", {"message": json.dumps(child)}]], [None]]
    async with world(tmp_path, agent={}) as (_, client, _):
        await client.post("/api/v1/agents", json={"name": "helper", "model": "steps"})
        await client.patch("/api/v1/agents/test", json={"can_spawn": ["helper"]})
        talk = chat(client, steps)
        assert "client_tool_call" not in await talk.end()
        assert "There is no tool named 'where_am_i'" in talk.datas("message")[0]["content"]


async def test_a_killed_engine_waits_again_for_the_same_call_and_asks_nothing_twice(processes: Setup) -> None:
    async with processes.serving() as (process, client):
        await configure(client)
        await allow(client)
        talk = chat(client, [[["look", {"n": 1}], ["where_am_i", {}]], [["draw", {}]], [None]], WHERE, DRAW)
        [asked] = await talk.until("client_tool_call")
        await talk.until("tool_result")
        session_id = talk.session_id
        process.kill()
        await talk.leave()
    async with processes.serving() as (process, client):
        again = follow(client, session_id)
        assert await again.until("client_tool_call") == [asked]
        [call] = (await client.get(f"/api/v1/sessions/{session_id}")).json()["client_calls"]
        assert call["call_id"] == asked["call_id"]
        await give(client, session_id, asked["call_id"], "here")
        process.kill()
        await again.leave()
    async with processes.serving() as (_, client):
        last = follow(client, session_id)
        _, drawn = await last.until("client_tool_call", 2)
        assert (await give(client, session_id, asked["call_id"], "here")).status_code == 200
        assert drawn["tool"] == "draw"
        await give(client, session_id, drawn["call_id"], "drawn")
        assert (await last.end())[-1] == "done"
        assert [one["output"] for one in last.datas("tool_result")] == ["saw 1", "here", "drawn"]
    assert processes.ledger.counts()["look 1"] == 1
