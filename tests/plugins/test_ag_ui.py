"""AG-UI over an engine: runs, interrupts, the client's tools, threads, and what one caller has of another's."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from bytebrew.testing import client as client_of
from bytebrew.testing import served_engine, token
from tests import ledger
from tests.conversation.test_confirmations import configure
from tests.plugins.ag_ui_thread import Thread, events_of

URL = "/ag-ui/test"
BIG = {"label": "Big", "value": "L"}
ANSWERS = "Answers to the form 'Order':"
WHERE = {"name": "where_am_i", "description": "The place", "parameters": {"type": "object"}}


@asynccontextmanager
async def world(data: Path, view: str = "full", **agent: Any) -> AsyncGenerator[tuple[Any, httpx.AsyncClient], None]:
    async with served_engine(("ledger", ledger), data=data, settings={"BYTEBREW_LEDGER": str(data / "ledger")}) as (
        running,
        client,
    ):
        await configure(client, **agent)
        changed = await client.patch("/api/v1/schemas/test", json={"client_tools": True, "view": view})
        assert changed.status_code == 200, changed.text
        yield running, client


class Client:
    """A client of one thread, which sends all its messages with each run."""

    def __init__(self, http: httpx.AsyncClient, thread_id: str = "thread-1") -> None:
        self.http, self.thread_id, self.thread = http, thread_id, Thread()
        self.runs = 0

    def ask(self, *steps: Any) -> None:
        self.add(role="user", content=json.dumps(steps))

    def add(self, **message: Any) -> None:
        self.thread.messages.append({"id": f"own-{len(self.thread.messages)}", **message})

    async def post(self, **more: Any) -> httpx.Response:
        self.runs += 1
        body = {"threadId": self.thread_id, "runId": f"run-{self.runs}", "messages": self.thread.messages, **more}
        return await self.http.post(URL, json=body)

    async def run(self, *steps: Any, **more: Any) -> list[dict[str, Any]]:
        """A run to its end, after a new message if there are steps."""
        if steps:
            self.ask(*steps)
        answer = await self.post(**more)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "text/event-stream"
        return self.thread.take(answer.content)

    def resume(self, payload: Any = None, status: str = "resolved") -> list[dict[str, Any]]:
        """The same answer to all interrupts of the last run."""
        more = {} if payload is None else {"payload": payload}
        return [{"interruptId": one["id"], "status": status, **more} for one in self.thread.interrupts]

    def said(self) -> list[str]:
        return [one["content"] for one in self.thread.messages if one["role"] == "assistant" and one.get("content")]

    def results(self) -> list[str]:
        return [one["content"] for one in self.thread.messages if one["role"] == "tool"]


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [one["type"] for one in events]


async def sessions(http: httpx.AsyncClient) -> list[Any]:
    rows: list[Any] = (await http.get("/api/v1/sessions")).json()["data"]
    return rows


async def contents(http: httpx.AsyncClient, session_id: str) -> list[Any]:
    rows = (await http.get(f"/api/v1/sessions/{session_id}/messages")).json()
    return [(one["role"], one["content"]) for one in rows]


async def test_a_run_streams_an_answer_and_can_be_read_again_behind_any_event(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, http):
        client = Client(http)
        client.ask(["Hel", "lo ", ["look", {"n": 1}]], ["saw it"])
        answer = await client.post(protocolVersion="1.0", state={}, tools=[], context=[], forwardedProps={"x": 1})
        events = client.thread.take(answer.content)
        assert client.said() == ["Hello ", "saw it"]
        assert client.results() == ["saw 1"]
        assert client.thread.problems() == []
        started = events[0]
        assert (started["threadId"], started["runId"], started["protocolVersion"]) == ("thread-1", "run-1", "1.0")
        about = started["metadata"]["bytebrew"]
        assert (about["session_id"], about["turn_id"]) == (
            answer.headers["x-session-id"],
            answer.headers["x-turn-id"],
        )
        assert client.thread.last["usage"][0]["totalTokens"] == 22
        frames = [part + b"\n\n" for part in answer.content.split(b"\n\n") if part.startswith(b"data: ")]
        assert frame_bytes(await http.get(about["resume"])) == frames
        for n, event in enumerate(events):
            cursor = event["metadata"]["bytebrew"]["cursor"]
            assert frame_bytes(await http.get(f"{about['resume']}&after={cursor}")) == frames[n + 1 :]
        assert frame_bytes(await http.get("/ag-ui/test/threads/thread-1/runs/run-1")) == frames
        body = {"threadId": "thread-1", "runId": "run-1", "messages": client.thread.messages[:1]}
        again = await http.post(URL, json=body)
        assert frame_bytes(again) == frames
        assert len(await sessions(http)) == 1


def frame_bytes(answer: httpx.Response) -> list[bytes]:
    assert answer.status_code == 200, answer.text
    return [part + b"\n\n" for part in answer.content.split(b"\n\n") if part.startswith(b"data: ")]


async def test_a_call_that_a_person_approves_interrupts_the_run(tmp_path: Path) -> None:
    async with world(tmp_path, confirm_before=["pay"]) as (_, http):
        steps = [["Well ", ["pay", {"amount": 3}]], [None]]
        for payload, output, said in (
            ({"approved": True}, "paid 3", "paid 3"),
            ({"approved": True, "editedArgs": {"amount": 4}}, "paid 4", "paid 4"),
            ({"approved": False, "reason": "too much"}, "too much", "too much"),
        ):
            client = Client(http, f"thread {payload}")
            await client.run(*steps)
            [interrupt] = client.thread.interrupts
            call = client.thread.messages[-1]["toolCalls"][0]
            assert (interrupt["reason"], interrupt["toolCallId"]) == ("tool_call", call["id"])
            assert json.loads(call["function"]["arguments"]) == {"amount": 3}
            assert "editedArgs" in interrupt["responseSchema"]["properties"]
            first = await client.post(resume=client.resume(payload))
            events = client.thread.take(first.content)
            assert "TOOL_CALL_START" not in kinds(events)
            assert output in client.results()[0]
            assert said in client.said()[-1]
            assert client.thread.interrupts == []
            assert client.thread.problems() == []
            messages = [one for one in client.thread.messages if "own" in one["id"] or "toolCalls" in one]
            again = await http.post(
                URL,
                json={
                    "threadId": client.thread_id,
                    "runId": "run-2",
                    "messages": messages,
                    "resume": [{"interruptId": interrupt["id"], "status": "resolved", "payload": payload}],
                },
            )
            assert frame_bytes(again) == frame_bytes(first)
            assert frame_bytes(await http.get(events[0]["metadata"]["bytebrew"]["resume"])) == frame_bytes(first)
        audit = (await http.get("/api/v1/audit?limit=50")).json()["data"]
        assert [one["action"] for one in audit].count("approval.answer") >= 3


async def test_all_interrupts_of_a_run_are_answered_together(tmp_path: Path) -> None:
    async with world(tmp_path, confirm_before=["pay"], tool_execution="parallel") as (_, http):
        client = Client(http)
        await client.run([["pay", {"amount": 1}], ["pay", {"amount": 2}]], ["done"])
        assert len(client.thread.interrupts) == 2
        first, second = client.thread.interrupts
        yes = {"status": "resolved", "payload": {"approved": True}}
        for resume, code in (
            ([{"interruptId": first["id"], **yes}], "interrupts_open"),
            ([{"interruptId": first["id"], **yes}, {"interruptId": "x", **yes}], "unknown_interrupt"),
            ([{"interruptId": f"{first['id'].partition('.')[0]}.conf_x", **yes}], "interrupts_open"),
            ([{**one, "payload": {"ok": 1}} for one in client.resume()], "invalid_payload"),
            (None, "interrupts_open"),
        ):
            if resume is None:
                client.ask(["never mind"])
            refused = events_of((await client.post(**({"resume": resume} if resume else {}))).content)
            assert kinds(refused) == ["RUN_STARTED", "RUN_ERROR"]
            assert refused[1]["code"] == code, refused
        client.thread.messages.pop()
        await client.run(
            resume=[{"interruptId": first["id"], **yes}, {"interruptId": second["id"], "status": "cancelled"}]
        )
        assert client.said() == ["done"]
        assert "paid 1" in client.results()
        assert client.thread.problems() == []


async def test_an_interrupt_that_somebody_else_has_answered_can_be_dismissed(tmp_path: Path) -> None:
    async with world(tmp_path, confirm_before=["pay"]) as (_, http):
        client = Client(http)
        events = await client.run([["pay", {"amount": 3}]], [None])
        session_id = events[0]["metadata"]["bytebrew"]["session_id"]
        question = client.thread.interrupts[0]["id"].partition(".")[2]
        body = {"confirmation_id": question, "answers": ["approve"]}
        assert (await http.post(f"/api/v1/sessions/{session_id}/respond", json=body)).status_code == 200
        other = await client.post(resume=client.resume({"approved": False}))
        assert (other.status_code, other.json()["type"]) == (409, "RUN_ERROR")
        await client.run(resume=client.resume(status="cancelled"))
        assert client.said() == ["paid 3"]


async def test_a_tool_of_the_client_is_answered_by_a_message_of_the_next_run(tmp_path: Path) -> None:
    async with world(tmp_path, tool_execution="parallel") as (_, http):
        client = Client(http)
        steps = [["Let me see ", ["where_am_i", {}], ["where_am_i", {"n": 2}], ["look", {"n": 1}]], ["ok ", None]]
        await client.run(*steps, tools=[WHERE])
        pending = client.thread.pending()
        assert [call["id"] for call in client.thread.messages[1]["toolCalls"] if call["id"] in pending] == pending
        assert client.results() == ["saw 1"]
        client.add(role="tool", toolCallId=pending[0], content="Oslo")
        part = await client.run(tools=[WHERE])
        assert client.thread.last["outcome"] == {"type": "success"}
        assert client.thread.pending() == pending[1:]
        assert kinds(part) == ["RUN_STARTED", "RUN_FINISHED"]
        client.add(role="tool", toolCallId=pending[1], content="nowhere", error="no signal")
        messages = list(client.thread.messages)
        first = await client.post(tools=[WHERE])
        events = client.thread.take(first.content)
        assert "TOOL_CALL_RESULT" not in kinds(events)
        assert client.said()[-1].startswith("ok ")
        assert client.thread.problems() == []
        again = await http.post(URL, json={"threadId": "thread-1", "runId": "run-3", "messages": messages})
        assert frame_bytes(again) == frame_bytes(first)
        [session] = await sessions(http)
        assert ("tool", "no signal\n\nnowhere") in await contents(http, session["id"])


async def test_a_message_in_place_of_a_result_ends_the_turn_that_waits_for_it(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, http):
        client = Client(http)
        await client.run([["where_am_i", {}]], ["never"], tools=[WHERE])
        await client.run(["Forget it"])
        assert client.said() == ["Forget it"]
        pending = (await http.get("/api/v1/approvals?status=pending")).json()["data"]
        assert pending == []


async def test_results_and_a_message_in_one_run_are_answered_by_one_turn(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, http):
        client = Client(http)
        await client.run([["where_am_i", {}]], ["in ", None, 0.3], ["and hello"], tools=[WHERE])
        client.add(role="tool", toolCallId=client.thread.pending()[0], content="Oslo")
        await client.run(["hello"])
        assert client.thread.last["type"] == "RUN_FINISHED"
        assert client.thread.problems() == []


async def test_a_form_interrupts_and_its_answers_are_the_next_message(tmp_path: Path) -> None:
    async with world(tmp_path, tools=["show_structured_output"]) as (_, http):
        questions = [
            {
                "id": "size",
                "label": "Size",
                "type": "select",
                "options": [{"label": "S"}, {"label": "Big", "value": "L"}],
            },
            {"id": "name", "label": "Name"},
        ]
        block = {"output_type": "form", "title": "Order", "questions": questions}
        for payload, status in (({"size": "L", "name": "Ann"}, "resolved"), (None, "cancelled"), (None, "message")):
            client = Client(http, f"thread {status}")
            await client.run(["Please: ", ["show_structured_output", block]])
            [interrupt] = client.thread.interrupts
            assert (interrupt["reason"], interrupt["message"]) == ("input_required", "Order")
            properties = interrupt["responseSchema"]["properties"]
            assert properties["size"] == {"type": "string", "enum": ["S", "L"], "title": "Size"}
            assert [one["activityType"] for one in client.thread.messages if one["role"] == "activity"] == [
                "bytebrew.structured_output"
            ]
            client.thread.messages = [one for one in client.thread.messages if one["role"] != "activity"]
            if status == "resolved":
                wrong = await client.post(resume=client.resume({"size": "XL", "name": "Ann"}))
                assert (wrong.status_code, wrong.json()["code"]) == (422, "unprocessable")
                assert wrong.json()["metadata"]["bytebrew"]["details"][0]["path"] == "$.resume[0].payload.size"
                refused = events_of((await client.post(resume=client.resume(7))).content)
                assert refused[-1]["code"] == "invalid_payload"
                failed = await client.run(resume=client.resume(payload))  # which the scripted model cannot read
                assert kinds(failed)[-1] == "RUN_ERROR"
                assert any(content.startswith(ANSWERS) for _, content in await contents(http, session_of(failed)))
            elif status == "cancelled":
                assert kinds(await client.run(resume=client.resume(status="cancelled"))) == [
                    "RUN_STARTED",
                    "RUN_FINISHED",
                ]
            else:
                await client.run(["Hi"])
                assert client.said()[-1] == "Hi"


def session_of(events: list[dict[str, Any]]) -> str:
    return str(events[0]["metadata"]["bytebrew"]["session_id"])


async def test_a_thread_goes_on_and_an_edited_one_forks(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, http):
        client = Client(http)
        first = session_of(await client.run(["one"]))
        assert session_of(await client.run(["two"])) == first
        kept = list(client.thread.messages)
        client.thread.messages = kept[:2]  # the first question and its answer
        edited = session_of(await client.run(["other"]))
        assert edited != first
        assert [one for one in await contents(http, edited) if one[0] == "assistant"] == [
            ("assistant", "one"),
            ("assistant", "other"),
        ]
        assert session_of(await client.run(["more"])) == edited
        client.thread.messages = kept[:3]  # the second question again, for another answer
        again = session_of(await client.run())
        assert again not in (first, edited)
        assert client.said() == ["one", "two"]
        client.thread.messages = []
        assert session_of(await client.run(["anew"])) not in (first, edited, again)
        copied = Client(http, "thread-2")
        copied.thread.messages = kept
        branch = session_of(await copied.run(["three"]))
        assert branch not in (first, edited, again)
        assert len(await contents(http, branch)) == 6


async def test_a_conversation_that_the_engine_does_not_have_becomes_its_history(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, http):
        client = Client(http)
        call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"n": 1}'}}
        client.add(role="assistant", content="Welcome!")
        client.add(role="user", content=[{"type": "text", "text": "[]"}])
        client.add(role="assistant", toolCalls=[call, {**call, "id": "unanswered"}])
        client.add(role="tool", toolCallId="c1", content="saw 1")
        client.add(role="assistant", content="I saw it")
        client.add(role="user", content="lost")
        client.add(role="activity", activityType="x", content={})
        events = await client.run(["fine"])
        assert (await contents(http, session_of(events)))[:5] == [
            ("user", "[]"),
            ("assistant", ""),
            ("tool", "saw 1"),
            ("assistant", "I saw it"),
            ("user", "lost"),
        ]
        assert client.said()[-1] == "fine"


async def test_a_failed_run_is_said_and_the_thread_goes_on(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, http):
        client = Client(http)
        client.add(role="user", content="[5")
        failed = await client.run()
        assert kinds(failed)[-1] == "RUN_ERROR"
        assert failed[-1]["code"]
        assert client.thread.problems() == []
        assert session_of(await client.run(["fine"])) == session_of(failed)
        assert client.said() == ["fine"]


async def test_context_state_and_system_messages_reach_the_model_as_words_of_the_user(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, http):
        client = Client(http)
        client.add(role="system", content="Be brief")
        answer = await client.run(["ok"], state={"city": "Oslo"}, context=[{"description": "Page", "value": "prices"}])
        assert client.said() == ["ok"]
        [session] = await sessions(http)
        assert await contents(http, session["id"]) == [("user", '[["ok"]]'), ("assistant", "ok")]
        assert session_of(answer) == session["id"]


async def test_a_structured_answer_is_the_result_and_the_state(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    async with world(tmp_path, response_format={"type": "json_schema", "schema": schema}) as (_, http):
        client = Client(http)
        await client.run(['{"city": "Oslo"}'], state={"units": "metric"})
        assert client.thread.last["result"] == {"city": "Oslo"}
        assert client.thread.state == {"city": "Oslo"}


async def test_refusals_are_events_that_clients_show(tmp_path: Path) -> None:
    async with world(tmp_path) as (running, http):
        body = {"threadId": "t", "runId": "r", "messages": [{"id": "u", "role": "user", "content": "[[1]]"}]}
        no_tools = await http.patch("/api/v1/schemas/test", json={"client_tools": False})
        assert no_tools.status_code == 200
        for request, status, code, path in (
            (http.post("/ag-ui/none", json=body), 404, "not_found", None),
            (http.post(URL, json={**body, "threadId": 5}), 400, "invalid_request", "$.threadId"),
            (http.post(URL, json={**body, "messages": [{"id": "u"}]}), 400, "invalid_request", "$.messages[0].role"),
            (http.post(URL, json={**body, "messages": []}), 400, "invalid_request", "$.messages"),
            (http.post(URL, json={**body, "tools": [WHERE]}), 403, "client_tools_disabled", None),
            (http.get(URL), 405, "method_not_allowed", None),
            (http.get(f"{URL}/threads/t/runs/none"), 404, "not_found", None),
            (http.get(f"{URL}/threads/t/runs/r?turn=turn_x"), 404, "not_found", None),
            (http.get(f"{URL}/threads/t/runs/r?after=x"), 400, "invalid_request", "$.after"),
            (http.post(URL, json=body, headers={"Authorization": "Bearer bb_no"}), 401, "unauthorized", None),
        ):
            answer = await request
            error = answer.json()
            assert (answer.status_code, error["type"], error["code"]) == (status, "RUN_ERROR", code), answer.text
            events_of(b"data: " + answer.content + b"\n\n")
            if path:
                assert error["metadata"]["bytebrew"]["details"][0]["path"] == path
        bound = client_of(running, await token(running, "chat", schemas=["other"]))
        assert (await bound.post(URL, json=body)).status_code == 403


async def test_another_callers_threads_runs_and_interrupts_give_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, confirm_before=["pay"]) as (running, _):
        mine = Client(client_of(running, await token(running, "chat")))
        theirs = Client(client_of(running, await token(running, "chat")))
        events = await mine.run(["s3cr3t ", ["pay", {"amount": 3}]], ["paid"])
        about = events[0]["metadata"]["bytebrew"]
        for url in (about["resume"], f"{URL}/threads/thread-1/runs/run-1"):
            assert (await theirs.http.get(url)).status_code == 404
        refused = await theirs.run(resume=mine.resume({"approved": True}))
        assert refused[-1]["code"] == "unknown_interrupt"
        theirs.thread.messages = list(mine.thread.messages)
        rest = await theirs.post()
        assert rest.status_code == 400
        again = await theirs.run(["mine"])
        assert session_of(again) != about["session_id"]
        by_id = Client(theirs.http, about["session_id"])
        by_id.ask(["mine"])
        assert (await by_id.post()).status_code == 404
        assert len(mine.thread.interrupts) == 1
        await mine.run(resume=mine.resume({"approved": True}))
        assert mine.said()[-1] == "paid"


async def test_a_public_view_shows_answers_and_the_clients_own_tools_alone(tmp_path: Path) -> None:
    async with world(tmp_path, view="public", tool_execution="parallel") as (running, _):
        client = Client(client_of(running, await token(running, "chat")))
        steps = [["a ", ["look", {"n": 1234}], ["where_am_i", {}], ["where_am_i", {"n": 2}]], ["b"]]
        first = await client.run(*steps, tools=[WHERE])
        assert "1234" not in json.dumps(first)
        assert [one["toolCallName"] for one in first if one["type"] == "TOOL_CALL_START"] == ["where_am_i"] * 2
        for call in client.thread.pending():
            client.add(role="tool", toolCallId=call, content="Oslo")
        second = await client.run(tools=[WHERE])
        assert client.said() == ["a ", "b"]
        assert "usage" not in second[-1]
        assert "tool" not in [one["role"] for one in client.thread.messages if "own" not in one["id"]]
        assert client.thread.problems() == []


async def test_a_public_view_waits_for_the_person_who_approves_elsewhere(tmp_path: Path) -> None:
    async with world(tmp_path, view="public", confirm_before=["pay"]) as (running, http):
        visitor = client_of(running, await token(running, "chat"))
        body = {
            "threadId": "t",
            "runId": "r",
            "messages": [{"id": "u", "role": "user", "content": '[["hm ", ["pay", {"amount": 1}]], ["yes"]]'}],
        }
        seen = b""
        async with visitor.stream("POST", URL, json=body) as response:
            async for chunk in response.aiter_bytes():
                seen += chunk
                if b"bytebrew.confirmation" in seen and b"RUN_FINISHED" not in seen:
                    for one in (await http.get("/api/v1/approvals")).json()["data"]:
                        answer = {"confirmation_id": one["id"], "answers": ["approve"]}
                        taken = await http.post(f"/api/v1/sessions/{one['session_id']}/respond", json=answer)
                        assert taken.status_code == 200, taken.text
        events = events_of(seen)
        assert events[-1]["outcome"] == {"type": "success"}
        assert "pay" not in json.dumps(events)


async def test_a_run_of_messages_that_are_not_new_shows_the_rest_of_the_answer(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, http):
        client = Client(http)
        client.ask(["one ", "two ", ["look", {"n": 1}]], ["three"])
        whole = [part + b"\n\n" for part in (await client.post()).content.split(b"\n\n") if b"data" in part]
        calm = Thread(*client.thread.messages)
        calm.take(b"".join(whole))
        for cut in range(4, len(whole)):
            broken = Client(http)
            broken.runs = 10 + cut
            broken.thread.messages = json.loads(json.dumps(client.thread.messages))
            broken.thread.take(b"".join(whole[:cut]))
            await broken.run()
            assert broken.thread.shown() == calm.shown(), cut
        client.thread = calm
        assert (await client.post()).status_code == 200
        assert len(await sessions(http)) == 1


async def test_a_run_in_a_session_of_an_end_user_that_is_sent_again_is_the_same(tmp_path: Path) -> None:
    async with world(tmp_path) as (running, _), client_of(running, await token(running, "chat")) as http:
        said = {"message": '[["native"]]', "stream": False, "user_sub": "ann"}
        session_id = (await http.post("/api/v1/schemas/test/chat", json=said)).json()["session_id"]
        client = Client(http, session_id)
        client.ask(["one"])
        first = await client.post()
        client.runs -= 1
        again = await client.post()
        assert first.content == again.content
        assert first.headers["x-session-id"] == again.headers["x-session-id"] == session_id
