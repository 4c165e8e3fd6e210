"""The AI SDK's UI message stream, by the requests that `useChat` sends."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from bytebrew import Capabilities, MessageDelta, Thinking, ToolCall
from bytebrew.testing import ScriptedProvider, providing, scripted_schema, served_engine, token
from bytebrew.testing import client as client_of
from tests import ledger
from tests.conversation.test_confirmations import configure
from tests.plugins.ui_page import API, Page, chunks, kinds

WHERE = {"where_am_i": {"description": "The place", "inputSchema": {"type": "object", "properties": {}}}}


def world(data: Path) -> Any:
    return served_engine(("ledger", ledger), data=data, settings={"BYTEBREW_LEDGER": str(data / "ledger")})


async def ready(client: httpx.AsyncClient, view: str = "full", **agent: Any) -> None:
    await configure(client, **agent)
    changed = await client.patch("/api/v1/schemas/test", json={"client_tools": True, "view": view})
    assert changed.status_code == 200, changed.text


async def sessions(client: httpx.AsyncClient) -> list[list[tuple[str, str]]]:
    """The messages of each session, oldest session first."""
    found = (await client.get("/api/v1/sessions")).json()["data"]
    every = []
    for one in sorted(found, key=lambda one: str(one["created_at"]) + str(one["id"])):
        rows = (await client.get(f"/api/v1/sessions/{one['id']}/messages")).json()
        every.append([(row["role"], row["content"]) for row in rows])
    return every


def without_place(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Parts without where their tools ran: what the page has run already, a replay takes for the engine's."""
    return [{name: value for name, value in one.items() if name != "providerExecuted"} for one in parts]


async def history(page: Page) -> Any:
    answer = await page.client.get(f"{API}/{page.id}")
    assert answer.status_code == 200, answer.text
    return answer.json()["messages"]


async def test_a_message_is_answered_by_steps_of_thinking_text_and_tools_that_the_engine_runs(tmp_path: Path) -> None:
    model = ScriptedProvider(
        [Thinking(content="hm"), MessageDelta(content="let "), ToolCall("add", {"a": 1, "b": 2}, "c1")],
        [MessageDelta(content="three")],
    )
    async with served_engine(providing(model), data=tmp_path) as (running, client):
        await scripted_schema(running, tools=("add",))
        page = Page(client)
        parts = await page.send("x")
        assert kinds(page.sent) == [
            *("start", "start-step", "reasoning-start", "reasoning-delta", "reasoning-end"),
            *("text-start", "text-delta", "text-end", "tool-input-available"),
            *("tool-output-error", "finish-step", "start-step"),
            *("text-start", "text-delta", "text-end", "finish-step", "finish"),
        ]
        assert [one["type"] for one in parts] == ["step-start", "reasoning", "text", "tool-add", "step-start", "text"]
        start, finish = page.sent[0], page.sent[-1]
        assert start["messageMetadata"]["turnId"] == start["messageId"]
        assert finish["finishReason"] == "stop"
        assert (await client.get(f"{API}/chat/stream")).status_code == 204
        [user, answer] = await history(page)
        assert user == page.messages[0]
        assert answer["parts"] == parts


async def test_a_chat_goes_on_in_one_session_and_a_message_that_is_sent_again_is_answered_once(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client):
        await ready(client)
        page = Page(client)
        await page.send(["one"])
        await page.send(["two"])
        again = await page.client.post(API, json={"id": "chat", "messages": page.messages[:-1]})
        assert chunks(again) == page.sent
        alone = Page(client)
        alone._ids = 2
        await alone.send(
            ["three"], messages=[{"id": "m9", "role": "user", "parts": [{"type": "text", "text": '[["3"]]'}]}]
        )
        assert alone.text() == "3"
        [messages] = await sessions(client)
        assert [content for role, content in messages if role == "assistant"] == ["one", "two", "3"]
        assert [one["id"] for one in await history(page)][::2] == ["chat-m1", "chat-m2", "m9"]


async def test_a_chat_with_the_id_of_a_session_goes_on_there_and_the_api_of_the_engine_goes_on_in_a_chat(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as (_, client):
        await ready(client)
        said = {"message": '[["native"]]', "stream": False}
        first = (await client.post("/api/v1/schemas/test/chat", json=said)).json()["session_id"]
        page = Page(client, chat_id=first.upper())
        await page.send(["here"])
        await client.post("/api/v1/schemas/test/chat", json={**said, "session_id": first})
        await page.send(
            ["and here"], messages=[{"id": "z", "role": "user", "parts": [{"type": "text", "text": '[["z"]]'}]}]
        )
        [messages] = await sessions(client)
        assert [content for role, content in messages if role == "assistant"] == ["native", "here", "native", "z"]
        shown = [part["text"] for one in await history(page) for part in one["parts"] if part["type"] == "text"]
        assert shown[1::2] == ["native", "here", "native", "z"]
        assert shown[-2] == '[["z"]]'
        other = {"name": "more", "entry_agent": "test", "chat_enabled": True}
        assert (await client.post("/api/v1/schemas", json=other)).status_code == 201
        assert (await client.get(f"/ai-sdk/more/chat/{first}")).status_code == 404


async def test_a_request_for_another_answer_that_is_sent_again_cancels_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client):
        await ready(client)
        page = Page(client)
        await page.send([one for n in range(10) for one in (f"word{n} ", 0.05)])
        body = {"id": "chat", "messages": page.messages[:1], "trigger": "regenerate-message"}
        first, again = await asyncio.gather(
            *(client.post(API, json=body, headers={"Idempotency-Key": "k"}) for _ in range(2))
        )
        assert first.headers["x-turn-id"] == again.headers["x-turn-id"] != page.messages[-1]["id"]
        assert [chunks(one)[-1]["type"] for one in (first, again)] == ["finish", "finish"]


async def test_a_chat_may_go_on_in_a_session_of_an_end_user(tmp_path: Path) -> None:
    async with world(tmp_path) as (running, admin):
        await ready(admin)
        async with client_of(running, await token(running, "chat")) as client:
            said = {"message": '[["native"]]', "stream": False, "user_sub": "ann"}
            first = (await client.post("/api/v1/schemas/test/chat", json=said)).json()["session_id"]
            page = Page(client, chat_id=first)
            await page.send(["one"])
            assert chunks(await page.post(messages=page.messages[:1])) == page.sent
            await page.regenerate()
            message = {"id": "z", "role": "user", "parts": [{"type": "text", "text": '[["z"]]'}]}
            await page.send(messages=[message])
            shown = [part["text"] for one in await history(page) for part in one["parts"] if part["type"] == "text"]
            assert shown[1::2] == ["native", "one", "z"]


async def test_an_answer_made_anew_and_an_edit_go_to_a_fork_where_the_chat_goes_on(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client):
        await ready(client)
        page = Page(client)
        await page.send(["one"])
        await page.send([{"tries": ["two"]}])
        first = page.messages[-1]["id"]
        await page.regenerate()
        assert page.messages[-1]["id"] != first
        await page.send(["three"])
        await page.edit("chat-m2", ["2b"])
        await page.send(["four"])
        assert [one["id"] for one in page.messages[::2]] == ["chat-m1", "chat-m2", "chat-m4"]
        assert await history(page) == page.messages
        answers = [[content for role, content in one if role == "assistant"] for one in await sessions(client)]
        assert answers == [["one", "two"], ["one", "two", "three"], ["one", "2b", "four"]]
        await page.regenerate(page.messages[1]["id"])
        assert await history(page) == page.messages
        await page.edit("chat-m1", ["new"])
        await page.send(["and on"])
        assert await history(page) == page.messages
        assert [one[1::2] for one in await sessions(client)][-1] == [("assistant", "new"), ("assistant", "and on")]


async def test_a_chat_whose_first_session_was_deleted_keeps_its_texts(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client):
        await ready(client)
        page = Page(client)
        await page.send(["one"])
        await page.send(["two"])
        first = page.messages[-1]["metadata"]["sessionId"]
        await page.regenerate()
        assert (await client.delete(f"/api/v1/sessions/{first}")).status_code == 204
        texts = [one["parts"][-1]["text"] for one in await history(page)]
        assert texts == ['[["one"]]', "one", '[["two"]]', "two"]
        await page.send(["three"])
        assert [one["role"] for one in await history(page)] == ["user", "assistant"] * 3


async def test_a_page_that_sends_the_last_message_alone_edits_and_regenerates_too(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client):
        await ready(client)
        page = Page(client)

        async def send(message_id: str, *steps: Any, **body: Any) -> str:
            message = {"id": message_id, "role": "user", "parts": [{"type": "text", "text": json.dumps(steps)}]}
            answer = await client.post(API, json={"id": "chat", "message": message, **body})
            return "".join(one["delta"] for one in chunks(answer) if one["type"] == "text-delta")

        for n in range(3):
            assert await send(f"m{n}", [f"answer {n}"]) == f"answer {n}"
        assert await send("m1", ["edited"], messageId="m1") == "edited"
        assert [one["id"] for one in await history(page)][::2] == ["m0", "m1"]
        turn_id = (await history(page))[1]["id"]
        assert await send("m1", ["anew"], trigger="regenerate-message") == "anew"
        assert [one["id"] for one in await history(page)][::2] == ["m0", "m1"]
        assert await send("m0", ["first"], trigger="regenerate-message", messageId=turn_id) == "first"
        assert [one["id"] for one in await history(page)][::2] == ["m0"]


async def test_a_client_tool_runs_in_the_page_and_the_next_request_has_its_output(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client):
        await ready(client, tool_execution="parallel")
        page = Page(client, tools=WHERE)
        call = ["where_am_i", {"exact": True}]
        parts = await page.send(["hm", ["look", {"n": 1}], call], [None, call], ["end"])
        for round in range(2):
            [own] = [one for one in parts if one.get("state") == "input-available" and not one["providerExecuted"]]
            assert own["input"] == {"exact": True}
            assert page.sent[-1] == {"type": "finish", "finishReason": "tool-calls"}
            before = kinds(page.sent)
            replayed = Page(client)
            await replayed.resume()
            assert without_place(replayed.messages[-1]["parts"]) == without_place(parts)
            assert [one for one in kinds(replayed.sent) if one == "finish"] == ["finish"]
            own |= {"state": "output-available", "output": {"city": "Zürich", "n": round}}
            asked = list(page.messages)
            parts = await page.go_on()
            assert before != kinds(page.sent)
            for key in ("k", "k", "other"):
                retried = await client.post(
                    API, json={"id": "chat", "messages": asked}, headers={"Idempotency-Key": f"{key}-{round}"}
                )
                assert chunks(retried) == page.sent
        assert page.text() == 'hm{"city":"Zürich","n":0}end'
        assert [one["type"] for one in parts].count("step-start") == 3
        shown = (await history(page))[-1]["parts"]
        assert [one["output"] for one in shown if one["type"] == "tool-where_am_i"] == [
            {"city": "Zürich", "n": 0},
            {"city": "Zürich", "n": 1},
        ]
        nothing = await page.post(messageId=page.messages[-1]["id"], messages=[{**page.messages[-1], "parts": []}])
        assert (nothing.status_code, nothing.headers["content-type"]) == (400, "text/plain; charset=utf-8")
        assert "$.messages[0].parts" in nothing.text


async def test_a_client_tool_that_failed_says_so_to_the_model(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client):
        await ready(client)
        by_other_names = {"where_am_i": {"parameters": WHERE["where_am_i"]["inputSchema"], "description": None}}
        page = Page(client, tools=by_other_names)
        await page.send([["where_am_i", {}]], [None])
        page.part("tool-where_am_i").update(state="output-error", errorText="no GPS")
        await page.go_on()
        assert page.text() == "no GPS"


@pytest.mark.parametrize("approved", [True, False])
async def test_a_call_that_a_person_approves_waits_for_the_answer_in_the_page(tmp_path: Path, approved: bool) -> None:
    async with world(tmp_path) as (_, client):
        await ready(client, confirm_before=["pay"])
        page = Page(client)
        await page.send([["pay", {"amount": 5}]], [None])
        part = page.part("tool-pay")
        assert (part["state"], part["input"]) == ("approval-requested", {"amount": 5})
        again = Page(client)
        await again.resume()
        assert again.part("tool-pay") == part
        part["state"] = "approval-responded"
        part["approval"] |= {"approved": approved, "reason": "why not"}
        asked = json.loads(json.dumps(page.messages))
        await page.go_on()
        assert part["state"] == ("output-available" if approved else "output-denied")
        assert page.text() == ("paid 5" if approved else "A person refused this call: why not")
        retried = await client.post(API, json={"id": "chat", "messages": asked})
        assert chunks(retried) == page.sent
        actions = (await client.get("/api/v1/audit?limit=50")).json()["data"]
        assert len([one for one in actions if one["action"] == "approval.answer"]) == 1


async def test_two_calls_are_answered_at_once_and_a_gated_client_tool_in_two_requests(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client):
        await ready(client, confirm_before=["pay", "where_am_i"], tool_execution="parallel")
        page = Page(client, tools=WHERE)
        await page.send([["pay", {"amount": 5}], ["pay", {"amount": 6}], ["where_am_i", {}]], ["end"])
        calls = [one for one in page.messages[-1]["parts"] if "toolCallId" in one]
        assert {one["state"] for one in calls} == {"approval-requested"}
        for one, approved in zip(calls, (True, False, True), strict=True):
            one["state"], one["approval"] = "approval-responded", {**one["approval"], "approved": approved}
        await page.go_on()
        assert [one["state"] for one in calls] == ["output-available", "output-denied", "input-available"]
        assert not calls[2]["providerExecuted"]
        calls[2].update(state="output-available", output="here")
        await page.go_on()
        assert page.text() == "end"
        assert [one["state"] for one in calls] == ["output-available", "output-denied", "output-available"]


async def test_a_page_that_is_loaded_again_has_the_answer_from_its_first_event(tmp_path: Path) -> None:
    gate = asyncio.Event()
    model = ScriptedProvider([MessageDelta(content="Hel"), gate, MessageDelta(content="lo")])
    async with served_engine(providing(model), data=tmp_path) as (running, client):
        await scripted_schema(running)
        page, other = Page(client), Page(client)
        first = asyncio.create_task(page.send("x"))
        while not model.requests:
            await asyncio.sleep(0.01)
        second = asyncio.create_task(other.resume())
        await asyncio.sleep(0.1)
        assert [one["id"] for one in await history(other)] == ["chat-m1"]
        gate.set()
        assert await first == await second
        assert page.text() == other.text() == "Hello"
        assert page.sent == other.sent


async def test_a_stop_cancels_the_turn_and_the_next_message_goes_behind_it(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, client):
        await ready(client)
        page = Page(client)
        first = asyncio.create_task(page.send(["a", 30.0, "b"]))
        await asyncio.sleep(0.3)
        stopped = await client.post(f"{API}/chat/stop", json={"assistantMessage": {"id": "x"}})
        assert stopped.status_code == 204
        await first
        assert page.sent[-1] == {"type": "abort", "reason": "cancelled"}
        assert page.text() == "a"
        assert (await client.post(f"{API}/chat/stop", json={})).status_code == 204
        second = asyncio.create_task(page.send(["c", 30.0, "d"]))
        await asyncio.sleep(0.3)
        second.cancel()  # as useChat stops: the connection is closed, and nothing is said
        await page.send(["e"])
        assert page.text() == "e"
        [messages] = await sessions(client)
        assert [content for role, content in messages if role == "assistant"] == ["a", "c", "e"]


async def test_blocks_and_structured_answers_are_data_parts_and_a_form_is_answered_by_one(tmp_path: Path) -> None:
    form = {"output_type": "form", "questions": [{"id": "q", "label": "Why?"}]}
    table = {"output_type": "table", "rows": [{"label": "Tea", "value": 3}]}
    model = ScriptedProvider(
        [ToolCall("show_structured_output", table, "c1")],
        [ToolCall("show_structured_output", form, "c2")],
        [MessageDelta(content='{"n": 1}')],
    )
    async with served_engine(providing(model), data=tmp_path) as (running, client):
        await scripted_schema(running, tools=("show_structured_output",))
        page = Page(client)
        await page.send("x")
        assert page.part("data-table")["data"]["rows"] == [{"label": "Tea", "value": 3}]
        assert page.part("data-form")["data"]["questions"][0]["id"] == "q"
        assert (await history(page))[-1]["parts"] == page.messages[-1]["parts"]
        wrong = await page.client.post(
            API,
            json={
                "id": "chat",
                "messages": [*page.messages, {"id": "f", "role": "user", "parts": [{"type": "data-form", "data": {}}]}],
            },
        )
        assert wrong.status_code == 422
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
        changed = await client.patch(
            "/api/v1/agents/test", json={"response_format": {"type": "json_schema", "schema": schema}}
        )
        assert changed.status_code == 200, changed.text
        await page.send(parts=[{"type": "data-form", "data": {"q": "so"}}])
        assert page.part("data-answer")["data"] == {"n": 1}
        assert "Why? (q): so" in model.requests[-1].messages[-1].content


async def test_files_instructions_and_the_history_of_another_backend_reach_the_model(tmp_path: Path) -> None:
    model = ScriptedProvider([MessageDelta(content="ok")])
    model.capabilities = Capabilities(vision=True, documents=True)  # type: ignore[misc]
    async with served_engine(providing(model), data=tmp_path) as (running, client):
        await scripted_schema(running)
        page = Page(client, system="Be brief")
        page.messages = [
            {"id": "s", "role": "system", "parts": [{"type": "text", "text": "In verse"}]},
            {"id": "w", "role": "assistant", "parts": [{"type": "text", "text": "Welcome"}]},
            {"id": "a", "role": "user", "parts": [{"type": "text", "text": "before"}]},
            {"id": "b", "role": "assistant", "parts": [{"type": "text", "text": "was"}]},
        ]
        image = f"data:image/png;base64,{base64.b64encode(b'pixels').decode()}"
        files = [
            {"type": "file", "mediaType": "image/png", "filename": "a.png", "url": image},
            {"type": "file", "mediaType": "text/plain", "url": "data:text/plain,a%20b"},
        ]
        await page.send(parts=[*files, {"type": "text", "text": "look"}])
        [*before, last] = model.requests[-1].messages
        assert [(one.role, one.content) for one in before][:2] == [("user", "before"), ("assistant", "was")]
        assert before[-1].content.endswith("Be brief\n\nIn verse")
        assert last.content == "look"
        assert [(one.media_type, one.data) for one in last.attachments] == [
            ("image/png", base64.b64encode(b"pixels").decode()),
            ("text/plain", base64.b64encode(b"a b").decode()),
        ]
        shown = await history(page)
        assert [one["parts"][-1]["text"] for one in shown] == ["before", "was", "look", "ok"]
        await page.regenerate()
        assert [one.content for one in model.requests[-1].messages][:2] == ["before", "was"]
        assert [one["parts"][-1]["text"] for one in await history(page)] == ["before", "was", "look", "ok"]
        bad = [{"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,???"}]
        refused = await page.post(messages=[{"id": "z", "role": "user", "parts": bad}])
        assert (refused.status_code, "$.messages[0].parts[0].url" in refused.text) == (400, True)


async def test_a_refusal_is_a_text_that_the_page_shows(tmp_path: Path) -> None:
    async with world(tmp_path) as (running, client):
        await ready(client)
        bound = client_of(running, await token(running, "chat", schemas=["other"]))
        stranger = client_of(running, await token(running, "chat"))
        page = Page(client)
        await page.send([["one"]])
        message = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "[]"}]}
        for response, status, words in (
            (await client.post("/ai-sdk/none/chat", json={"id": "c", "messages": [message]}), 404, "none"),
            (await page.post(messages=[]), 400, "messages"),
            (await page.post(messages=[{**message, "role": "robot"}]), 400, "role"),
            (await page.post(messages=[{**message, "parts": []}]), 400, "message"),
            (await page.post(id=5), 400, "id"),
            (await page.post(trigger="regenerate-message"), 400, "role"),
            (await page.post(messages=[message], tools={"a b": {}}), 400, "$.tools"),
            (await bound.post(API, json={"id": "c", "messages": [message]}), 403, "schema"),
            (await client.get(f"{API}/chat/stream", headers={"Authorization": "Bearer bb_no"}), 401, "token"),
            (await client.put(API), 405, "POST"),
            (await stranger.post(API, json={"id": "chat", "messages": [page.messages[-1]]}), 404, "turn"),
        ):
            assert response.status_code == status, response.text
            assert words in response.text
            assert response.headers["content-type"] == "text/plain; charset=utf-8"
            assert not response.text.startswith("{")
        assert (await stranger.get(f"{API}/chat/stream")).status_code == 204
        assert (await stranger.get(f"{API}/chat")).json() == {"messages": []}


async def test_a_failed_turn_is_an_error_in_the_stream_and_is_made_anew(tmp_path: Path) -> None:
    model = ScriptedProvider([MessageDelta(content="a"), RuntimeError("boom")], [MessageDelta(content="fine")])
    async with served_engine(providing(model), data=tmp_path) as (running, client):
        await scripted_schema(running)
        page = Page(client)
        await page.send("x")
        assert page.sent[-1]["type"] == "error"
        assert page.sent[-1]["errorText"]
        await page.regenerate()
        assert page.text() == "fine"
        assert await history(page) == page.messages


async def test_the_public_view_shows_answers_and_client_tools_alone(tmp_path: Path) -> None:
    async with world(tmp_path) as (running, client):
        await ready(client, view="public", confirm_before=["pay"])
        visitor = client_of(running, await token(running, "chat"))
        page = Page(visitor, tools=WHERE)
        where = ["where_am_i", {}]
        await page.send(["hm", ["look", {"n": 777}]], [where], [where], [["pay", {"amount": 777}]], ["end"])
        for _ in range(2):
            own = page.messages[-1]["parts"][-1]
            assert (own["type"], own["state"]) == ("tool-where_am_i", "input-available")
            own |= {"state": "output-available", "output": "here"}
            await page.go_on()
        assert page.part("data-confirmation")
        assert "777" not in json.dumps(page.messages[1:])
        assert "pay" not in json.dumps(page.messages[1:])
        again = Page(visitor)
        await again.resume()
        assert [one["type"] for one in again.messages[-1]["parts"]].count("tool-where_am_i") == 2
        assert all(one["providerExecuted"] for one in again.messages[-1]["parts"] if one["type"] == "tool-where_am_i")
        waiting = (await client.get("/api/v1/approvals")).json()["data"]
        assert len(waiting) == 1
        ended = asyncio.create_task(again.resume())
        body = {"confirmation_id": waiting[0]["id"], "answers": ["approve"]}
        await client.post(f"/api/v1/sessions/{waiting[0]['session_id']}/respond", json=body)
        await ended
        for _ in range(100):
            if (await visitor.get(f"{API}/chat/stream")).status_code == 204:
                break
            await asyncio.sleep(0.02)
        assert [one["text"] for one in (await history(again))[-1]["parts"] if one["type"] == "text"] == ["hm", "end"]
