"""What a caller of a face can make the engine do: time, what is not counted, and the words of errors."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

from bytebrew_openai.responses.input_items import read_input

from bytebrew import Message, earlier_turns
from bytebrew.base.formats import new_uuid
from bytebrew.testing import client as client_of
from tests.plugins.test_face_access import SPOKEN, world
from tests.plugins.test_openai_chat import ASKING, PAYS, complete, says, talking, user
from tests.tables import token_with

SAID = "x" * 1000
MODERN = "2026-07-28"


def mcp_call(schema: str, text: str) -> Any:
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": schema, "arguments": {"message": text}, "_meta": meta}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


def mcp_headers(schema: str, method: str = "tools/call") -> dict[str, str]:
    return {"mcp-protocol-version": MODERN, "mcp-name": schema, "mcp-method": method, "accept": "application/json"}


def test_messages_in_a_row_take_time_in_proportion() -> None:
    """Copying all before each of them would take ten minutes, beyond the time limit of a test."""
    [turn] = earlier_turns([*(Message("user", SAID) for _ in range(30_000)), Message("assistant", "yes")])
    assert len(turn.message.content) == 30_000 * 1002 - 2
    said = read_input([{"role": "assistant", "content": SAID}] * 30_000)
    assert [len(one.content) for one in said.messages] == [30_000_000]


async def test_a_run_has_ten_thousand_messages_at_most(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        caller = await there.caller()
        first = SPOKEN["ag_ui"].say("talk", '[["hi"]]')
        more = [{"id": str(n), "role": "user", "content": ""} for n in range(10_000)]
        refused = await caller.post(first.path, json={**first.body, "messages": [*first.body["messages"], *more]})
        assert (refused.status_code, "messages" in refused.text) == (400, True), refused.text


async def test_no_spelling_of_a_header_keeps_a_call_of_mcp_from_being_counted(tmp_path: Path) -> None:
    limit = {"name": "few", "per": "token", "tiers": {"all": {"requests": 1, "window": "1m"}}}
    async with world(tmp_path) as there:
        assert (await there.admin.post("/api/v1/rate-limits", json=limit)).status_code == 201
        caller = await there.caller()
        encoded = f"=?base64?{base64.b64encode(b'tools/call').decode()}?="
        for method, status in (("tools/call", 200), (encoded, 429), ("tools/call", 429)):
            headers = mcp_headers("talk", method)
            assert (await caller.post("/mcp", json=mcp_call("talk", "[[]]"), headers=headers)).status_code == status


async def test_no_error_of_mcp_names_what_is_internal_in_the_public_view(tmp_path: Path) -> None:
    budget = {"name": "small", "tokens": 10**6, "window": "month"}
    async with world(tmp_path) as there:
        first = await there.caller()
        assert (await there.admin.post("/api/v1/budgets", json=budget)).status_code == 201
        assert (await first.post("/mcp", json=mcp_call("talk", "[[]]"), headers=mcp_headers("talk"))).status_code == 200
        assert (await there.admin.patch("/api/v1/budgets/small", json={"tokens": 10})).status_code == 200
        for schema, caller, is_named in (
            ("talk", first, True),
            ("other", first, False),
            ("talk", await there.caller(view="public"), False),
        ):
            refused = await caller.post("/mcp", json=mcp_call(schema, "[[]]"), headers=mcp_headers(schema))
            assert refused.status_code == 402
            assert ("small" in refused.text) == is_named


async def test_arguments_of_an_earlier_call_that_no_json_reader_takes_are_text_or_refused(tmp_path: Path) -> None:
    function = {"name": "f", "arguments": '{"a":' * 5000}
    user, last = {"role": "user", "content": "a"}, {"role": "user", "content": '[["hi"]]'}
    call = {"id": "c", "type": "function", "function": function}
    run: list[dict[str, Any]]
    async with world(tmp_path) as there:
        caller = await there.caller()
        chat = [user, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c", "content": ""}]
        answer = await caller.post("/v1/chat/completions", json={"model": "talk", "messages": [*chat, last]})
        assert answer.status_code == 200
        output = {"type": "function_call_output", "call_id": "c", "output": ""}
        items = [user, {"type": "function_call", "call_id": "c", **function}, output, last]
        answer = await caller.post("/v1/responses", json={"model": "talk", "input": items})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "input[1].arguments"
        run = [
            user,
            {"role": "assistant", "toolCalls": [call]},
            {"role": "tool", "toolCallId": "c", "content": ""},
            last,
        ]
        messages = [{"id": str(n), **one} for n, one in enumerate(run)]
        answer = await caller.post("/ag-ui/talk", json={"threadId": "t", "runId": "r", "messages": messages})
        assert answer.status_code == 200


async def test_attachments_of_earlier_messages_are_held_to_the_rules_of_new_ones(tmp_path: Path) -> None:
    files = {"type": "file", "mediaType": "image/png", "url": "file:///etc/passwd"}
    image = {"type": "image_url", "image_url": {"url": "http://host/" + "a" * 3000}}
    inline = {"type": "image", "source": {"type": "data", "value": "no base64!", "mimeType": "image/png"}}
    text = {"type": "text", "text": "look"}
    async with world(tmp_path) as there:
        caller = await there.caller()
        said: list[dict[str, Any]] = [
            {"role": "assistant", "content": "yes"},
            {"role": "user", "content": '[["hi"]]'},
        ]
        chat = {"model": "talk", "messages": [{"role": "user", "content": [text, image]}, *said]}
        first: dict[str, Any] = {"id": "m", "role": "user", "parts": [text, files]}
        more = [{"id": one["role"], "role": one["role"], "parts": [{**text, "text": one["content"]}]} for one in said]
        page = {"id": new_uuid(), "messages": [first, *more]}
        runs = [{"id": str(n), **one} for n, one in enumerate([{"role": "user", "content": [text, inline]}, *said])]
        run = {"threadId": new_uuid(), "runId": "r1", "messages": runs}
        for path, body in (("/v1/chat/completions", chat), ("/ai-sdk/talk/chat", page), ("/ag-ui/talk", run)):
            refused = await caller.post(path, json=body)
            assert refused.status_code == 400, refused.text
        files["url"] = ""  # as the transcript of a page has it
        assert (await caller.post("/ai-sdk/talk/chat", json=page)).status_code == 200


async def test_the_session_of_an_agents_task_is_not_there_in_the_public_view(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        tools = {"tools": ["manage_tasks"]}
        assert (await there.admin.patch("/api/v1/agents/agent-within", json=tools)).status_code == 200
        made = await token_with(there.engine, "chat", "tasks", name="person")
        person = client_of(there.engine, made.token)
        task = {"action": "create", "title": 'internal [["done"]]', "agent_id": "agent-within"}
        begun = await SPOKEN["openai_chat"].say("other", json.dumps([[["manage_tasks", task]], ["yes"]])).sent(person)
        assert begun.status_code == 200
        [shown] = (await person.get("/api/v1/tasks")).json()["data"]
        chat = f"/ai-sdk/other/chat/{shown['session_id']}"
        while "internal" not in (await there.admin.get(chat)).text:
            await asyncio.sleep(0.02)
        assert (await person.get(chat)).json() == {"messages": []}


async def test_a_message_that_is_sent_again_approves_nothing_that_its_answer_had_not_shown() -> None:
    here = {"X-Session-Id": new_uuid()}
    async with talking(says("Shall I?"), *PAYS, **ASKING) as (http, _):
        await complete(http, user("pay"), headers=here)
        question = (await complete(http, user("yes"), headers=here)).text
        assert "May I run" in question
        assert (await complete(http, user("yes"), headers=here)).text == question  # its answer was lost on the way
        assert (await http.get("/api/v1/approvals")).json()["total"] == 1
        assert (await complete(http, user("approve"), headers=here)).status_code == 200
        assert (await http.get("/api/v1/approvals?status=spent")).json()["total"] == 1
