"""Elicitation: an MCP server asks the person of a turn, in every version of the protocol, and over restarts."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from bytebrew import MessageDelta, ToolCall
from tests.conversation.test_confirmations import Setup, Talk, configure, processes, say
from tests.mcp_double import Web
from tests.plugins.test_mcp import DOUBLE, World, world
from tests.tables import check_refusal

__all__ = ["processes"]
MODERN, LEGACY = "2026-07-28", "2025-11-25"
ASK = {"name": "ask", "inputSchema": {"type": "object"}}
FORM = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "title": "Your name", "minLength": 2},
        "age": {"type": "integer", "minimum": 18},
        "color": {"type": "string", "enum": ["r", "g"], "enumNames": ["Red", "Green"], "default": "g"},
        "pets": {"type": "array", "items": {"anyOf": [{"const": "c", "title": "Cat"}]}},
        "mail": {"anyOf": [{"type": "string", "format": "email"}, {"type": "null"}]},
    },
    "required": ["name", "age"],
}
SHOWN = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "title": "Your name", "minLength": 2},
        "age": {"type": "integer", "minimum": 18},
        "color": {
            "type": "string",
            "oneOf": [{"const": "r", "title": "Red"}, {"const": "g", "title": "Green"}],
            "default": "g",
        },
        "pets": {"type": "array", "items": {"type": "string", "anyOf": [{"const": "c", "title": "Cat"}]}},
        "mail": {"type": "string", "format": "email"},
    },
    "required": ["name", "age"],
}
CONTENT = {"name": "Zoë", "age": 30, "pets": ["c"]}


def elicit(message: str = "Who are you?", **params: Any) -> dict[str, Any]:
    """A request of a server."""
    given = {"message": message, **({"requestedSchema": FORM} if "mode" not in params else {}), **params}
    return {"method": "elicitation/create", "params": given}


def begin(w: World, *requests: Any, client: httpx.AsyncClient | None = None, **given: Any) -> Talk:
    """A turn in which the server asks."""
    script: list[Any] = [[ToolCall("ask", {"requests": requests, **given})], [MessageDelta(content="Done.")]]
    w.model.answers[len(w.model.requests) :] = script
    return Talk(client or w.client, "POST", "/api/v1/schemas/test/chat", json={"message": "Go on"})


async def respond(w: World, question: dict[str, Any], word: str, **body: Any) -> httpx.Response:
    """The person's answer."""
    given = {"confirmation_id": question["confirmation_id"], "answers": [word], **body}
    return await w.client.post(f"/api/v1/sessions/{question['session_id']}/respond", json=given)


async def replies(talk: Talk) -> Any:
    """What the server got, as its tool returns it."""
    [result] = await talk.until("tool_result")
    return json.loads(result["output"]) if not result["has_error"] else result["output"]


@asynccontextmanager
async def asking(way: str = "stdio", how: dict[str, Any] | None = None, **more: Any) -> AsyncIterator[World]:
    """An engine with a server that asks, over stdio, HTTP or SSE."""
    where, _, version = way.partition(" ")
    settings = {name: value for name, value in more.items() if name not in ("elicitation", "data", "again")}
    given = {"versions": [version or LEGACY], "more_tools": [ASK], **(how or {})}
    async with AsyncExitStack() as stack:
        w = await stack.enter_async_context(
            world(data=more.get("data"), again=more.get("again", False), probe_timeout="0.3", **settings)
        )
        body = {name: more[name] for name in ("elicitation",) if name in more}
        if where == "stdio":
            body["how"] = given
        else:
            web = await stack.enter_async_context(Web(**given, sse=where == "sse"))
            body |= {"url": web.url, "type": where}
        if not more.get("again"):
            await w.add(**body)
        with anyio.fail_after(20):
            while (await w.get())["status"]["status"] != "connected":
                await asyncio.sleep(0.02)
        yield w


WAYS = (f"stdio {LEGACY}", f"http {LEGACY}", "sse 2024-11-05", f"stdio {MODERN}", f"http {MODERN}")


@pytest.mark.parametrize("way", WAYS)
async def test_a_person_fills_in_the_form_of_a_server(way: str) -> None:
    async with asking(way) as w:
        talk = begin(w, elicit())
        [question] = await talk.until("confirmation")
        assert (question["kind"], question["source"], question["tool"]) == ("elicitation", "mcp:double", "ask")
        assert (question["input"], question["input_schema"]) == ({"message": "Who are you?"}, SHOWN)
        [waiting] = (await w.client.get("/api/v1/approvals")).json()["data"]
        assert (waiting["id"], waiting["kind"]) == (question["confirmation_id"], "elicitation")
        assert waiting["input_schema"] == SHOWN
        unfit = {"name": "Z", "age": 3.5, "color": "b", "pets": ["d"], "mail": "me", "more": 1}
        refused = check_refusal(await respond(w, question, "accept", input=unfit))
        assert [one["path"] for one in refused["details"]] == [
            f"$.input.{name}" for name in ("more", "name", "age", "color", "pets", "mail")
        ]
        missing = check_refusal(await respond(w, question, "approve"))
        assert [one["path"] for one in missing["details"]] == ["$.input.name", "$.input.age"]
        accepted = await respond(w, question, "approve", input=CONTENT, args_digest=question["args_digest"])
        assert (accepted.status_code, accepted.json()["approved"]) == (200, True)
        assert (await respond(w, question, "approve", input=CONTENT)).status_code == 200
        assert (await respond(w, question, "decline")).status_code == 409
        got = await replies(talk)
        assert got == [{"action": "accept", "content": CONTENT}, *(["opaque"] if MODERN in way else [])]
        assert (await talk.end())[-1] == "done"


@pytest.mark.parametrize("way", [f"http {LEGACY}", f"stdio {MODERN}"])
@pytest.mark.parametrize(("word", "action"), [("decline", "decline"), ("reject", "decline"), ("cancel", "cancel")])
async def test_a_person_may_decline_or_dismiss_it(way: str, word: str, action: str) -> None:
    async with asking(way) as w:
        talk = begin(w, elicit())
        [question] = await talk.until("confirmation")
        answered = await respond(w, question, word)
        assert (answered.status_code, answered.json()["approved"]) == (200, False)
        assert (await replies(talk))[0] == {"action": action}


@pytest.mark.parametrize("way", [f"http {LEGACY}", f"stdio {MODERN}"])
async def test_no_answer_in_time_dismisses_it(way: str) -> None:
    async with asking(way, confirmation_ttl="0.4") as w:
        talk = begin(w, elicit())
        [question] = await talk.until("confirmation")
        assert (await replies(talk))[0] == {"action": "cancel"}
        assert (await respond(w, question, "approve", input=CONTENT)).status_code == 410


@pytest.mark.parametrize("way", [f"http {LEGACY}", f"stdio {LEGACY}", f"http {MODERN}"])
async def test_the_time_limits_of_the_call_pause_meanwhile(way: str) -> None:
    async with asking(way, call_timeout="0.4", call_max="0.6") as w:
        talk = begin(w, elicit("First?"))
        [question] = await talk.until("confirmation")
        await asyncio.sleep(1)
        assert (await respond(w, question, "accept", input=CONTENT)).status_code == 200
        assert (await replies(talk))[0]["action"] == "accept"


async def test_an_answer_without_a_stream_says_that_a_person_must_answer() -> None:
    async with asking() as w:
        w.model.answers = [[ToolCall("ask", {"requests": [elicit()]})], [MessageDelta(content="Done.")]]
        body = {"message": "Go on", "stream": False}
        got = await w.client.post("/api/v1/schemas/test/chat", json=body)
        [question] = got.json()["questions"]
        assert (got.status_code, got.json()["status"], question["kind"]) == (202, "needs_input", "elicitation")
        await respond(w, {**question, "confirmation_id": question["id"]}, "accept", input=CONTENT)


@pytest.mark.parametrize("way", [f"http {LEGACY}", f"stdio {MODERN}"])
async def test_several_questions_of_a_call_are_all_answered(way: str) -> None:
    async with asking(way) as w:
        talk = begin(w, elicit("One?"), elicit("Two?"))
        for n in range(2):
            question = (await talk.until("confirmation", n + 1))[n]
            await respond(w, question, "accept", input={**CONTENT, "age": 20 + n})
        got = await replies(talk)
        assert [one["content"]["age"] for one in got[:2]] == [20, 21]
        spent = (await w.client.get("/api/v1/approvals", params={"status": "spent"})).json()["data"]
        assert [one["input"]["message"] for one in spent] == ["One?", "Two?"]


@pytest.mark.parametrize("way", [f"http {LEGACY}", f"stdio {MODERN}"])
async def test_a_page_to_visit_is_shown_with_its_host(way: str) -> None:
    url = "https://pay.example/once?id=1"
    async with asking(way) as w:
        talk = begin(w, elicit("Pay there", mode="url", url=url, elicitationId="e1"))
        [question] = await talk.until("confirmation")
        assert question["input"] == {"message": "Pay there", "url": url, "host": "pay.example"}
        assert "input_schema" not in question
        assert (await respond(w, question, "accept", input={"card": "4"})).status_code == 422
        assert (await respond(w, question, "accept")).status_code == 200
        assert (await replies(talk))[0] == {"action": "accept"}


@pytest.mark.parametrize(
    "params",
    [
        {"mode": "url", "url": "javascript:alert(1)"},
        {"mode": "url", "url": "https://bank.example@evil.example/"},
        {"mode": "url", "url": "https://pаypal.example/"},
        {"mode": "url", "url": "http://pay.example/"},
        {"mode": "url", "url": "https://evil.example\\.bank.example/"},
        {"mode": "url", "url": "https://bank.example%2eevil.example/"},
        {"mode": "url", "url": "https://0x7f.1/"},
        {"mode": "url", "url": "https://pay.example/>[go on](https://evil.example/)"},
        {"mode": "url", "url": "https://pay.example/>[on](https://evil.example/)<"},
        {"mode": "url", "url": "https://pay.example:99999/"},
        {"mode": "hologram"},
        {"requestedSchema": {"type": "object", "properties": {"a": {"type": "object"}}}},
        {"requestedSchema": {"type": "object", "properties": {str(n): {"type": "string"} for n in range(51)}}},
        {"requestedSchema": {"type": "array"}},
        {"requestedSchema": {"properties": {"a\u200b": {"type": "string"}}}},
        {"requestedSchema": {"properties": {"a": {"type": "string", "enum": ["yes", "yes\u200b"]}}}},
        {"requestedSchema": {"properties": {"a": {"type": "array", "items": {"type": "string"}}}}},
        {"message": ""},
    ],
)
async def test_what_is_no_form_and_no_page_is_refused(params: dict[str, Any]) -> None:
    async with asking() as w:
        talk = begin(w, elicit(**params))
        [refused] = await replies(talk)
        assert refused["code"] == -32602
        assert not talk.datas("confirmation")


async def test_a_server_whose_credential_is_in_its_question_does_not_show_it() -> None:
    async with asking() as w:
        patch = {"env": {"MCP_DOUBLE": "***", "API_KEY": "s3cr3t-value-42"}}
        assert (await w.client.patch("/api/v1/mcp-servers/double", json=patch)).status_code == 200
        field = {"properties": {"a": {"type": "string", "title": "s3cr3t-value-42"}}}
        talk = begin(w, elicit("Is s3cr3t-value-42 yours?", requestedSchema=field))
        [question] = await talk.until("confirmation")
        assert "s3cr3t" not in json.dumps(question)
        await respond(w, question, "decline")


@pytest.mark.parametrize("way", [f"http {LEGACY}", f"stdio {LEGACY}", f"stdio {MODERN}"])
async def test_a_cancelled_turn_dismisses_its_question(way: str, tmp_path: Path) -> None:
    async with asking(way) as w:
        talk = begin(w, elicit())
        [question] = await talk.until("confirmation")
        await w.client.post(f"/api/v1/sessions/{question['session_id']}/cancel")
        assert (await talk.end())[-1] == "done"
        gone = await w.client.get(f"/api/v1/approvals/{question['confirmation_id']}")
        assert gone.json()["status"] == "cancelled"
        assert (await respond(w, question, "accept", input=CONTENT)).status_code == 410
        if MODERN not in way:
            seen = json.loads(await w.call("seen"))
            assert {"action": "cancel"} in [one["message"].get("result") for one in seen]


@pytest.mark.parametrize("way", [f"http {LEGACY}", f"stdio {LEGACY}"])
async def test_a_question_that_the_server_takes_back_is_closed(way: str) -> None:
    async with asking(way) as w:
        talk = begin(w, elicit(), takes_back=True)
        [question] = await talk.until("confirmation")
        assert await replies(talk) == []
        gone = await w.client.get(f"/api/v1/approvals/{question['confirmation_id']}")
        assert gone.json()["status"] == "cancelled"


@pytest.mark.parametrize("way", [f"stdio {LEGACY}", "sse 2024-11-05"])
async def test_a_call_that_is_given_up_asks_nobody_else(way: str) -> None:
    async with asking(way) as w:
        talk = begin(w, elicit("One?"), elicit("Two, of the first person?"))
        [question] = await talk.until("confirmation")
        w.model.answers[len(w.model.requests) :] = [[ToolCall("slow", {"last": 1.5})], [MessageDelta(content="Done.")]]
        other = Talk(w.client, "POST", "/api/v1/schemas/test/chat", json={"message": "And I"})
        await other.until("tool_call")
        await w.client.post(f"/api/v1/sessions/{question['session_id']}/cancel")
        [result] = await other.until("tool_result")
        assert "at last" in result["output"]
        assert not other.datas("confirmation")
        assert (await other.end())[-1] == "done"


@pytest.mark.parametrize("way", [f"http {LEGACY}", f"stdio {LEGACY}"])
async def test_what_a_server_asks_twice_under_one_id_is_asked_once(way: str) -> None:
    async with asking(way) as w:
        talk = begin(w, elicit(), twice=True)
        [question] = await talk.until("confirmation")
        await respond(w, question, "decline")
        assert await replies(talk) == [{"action": "decline"}]
        assert (await talk.end())[-1] == "done"
        assert len(talk.datas("confirmation")) == 1


async def test_a_call_that_waits_in_the_newest_version_goes_on_after_a_restart(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    how = {"calls_file": str(calls), "versions": [MODERN], "more_tools": [ASK]}
    async with asking(f"stdio {MODERN}", how, data=tmp_path / "data") as w:
        talk = begin(w, elicit("One?"), elicit("Two?"))
        first, second = await talk.until("confirmation", 2)
        assert (await respond(w, first, "accept", input=CONTENT)).status_code == 200
        await talk.leave()
    async with asking(f"stdio {MODERN}", how, data=tmp_path / "data", again=True) as w:
        w.model.answers = [[MessageDelta(content="Done.")]]
        [waiting] = (await w.client.get("/api/v1/approvals")).json()["data"]
        assert waiting["id"] == second["confirmation_id"]
        assert (await respond(w, second, "decline")).status_code == 200
        talk = Talk(w.client, "GET", f"/api/v1/sessions/{first['session_id']}/events", params={"after": 0})
        assert await replies(talk) == [{"action": "accept", "content": CONTENT}, {"action": "decline"}, "opaque"]
        assert (await talk.end())[-1] == "done"
        assert len(talk.datas("confirmation")) == 2
    begun = [json.loads(line) for line in calls.read_text().splitlines()]
    assert [one["requestState"] for one in begun] == [None, "opaque"]


async def test_a_question_and_its_call_outlive_a_kill(processes: Setup, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    how = {"calls_file": str(calls), "versions": [MODERN], "more_tools": [ASK]}
    async with processes.serving() as (process, client):
        server = {"name": "double", "command": sys.executable, "args": [str(DOUBLE)]}
        body = {**server, "env": {"MCP_DOUBLE": json.dumps(how)}}
        assert (await client.post("/api/v1/mcp-servers", json=body)).status_code == 201
        await configure(client, mcp_servers=["double"])
        talk = say(client, [[["ask", {"requests": [elicit()]}]], [None]])
        [question] = await talk.until("confirmation")
        process.kill()
        await talk.leave()
    async with processes.serving() as (process, client):
        given = {"confirmation_id": question["confirmation_id"], "answers": ["accept"], "input": CONTENT}
        answered = await client.post(f"/api/v1/sessions/{question['session_id']}/respond", json=given)
        assert answered.status_code == 200, answered.text
        talk = Talk(client, "GET", f"/api/v1/sessions/{question['session_id']}/events", params={"after": 0})
        assert await replies(talk) == [{"action": "accept", "content": CONTENT}, "opaque"]
        assert len(talk.datas("confirmation")) == 1
        process.kill()
        await talk.leave()
    begun = [json.loads(line)["requestState"] for line in calls.read_text().splitlines()]
    assert begun == [None, "opaque"]


async def test_after_a_restart_an_older_server_is_not_called_again_by_itself(tmp_path: Path) -> None:
    async with asking(data=tmp_path) as w:
        talk = begin(w, elicit())
        [question] = await talk.until("confirmation")
        await talk.leave()
    async with asking(data=tmp_path, again=True) as w:
        w.model.answers = [[MessageDelta(content="Done.")]]
        talk = Talk(w.client, "GET", f"/api/v1/sessions/{question['session_id']}/events", params={"after": 0})
        unknown = (await talk.until("confirmation", 2))[1]
        assert unknown["kind"] == "unknown_outcome"
        gone = await w.client.get(f"/api/v1/approvals/{question['confirmation_id']}")
        assert gone.json()["status"] == "cancelled"
        assert (await respond(w, unknown, "retry")).status_code == 200
        again = (await talk.until("confirmation", 3))[2]
        assert (await respond(w, again, "accept", input=CONTENT)).status_code == 200
        assert await replies(talk) == [{"action": "accept", "content": CONTENT}]


async def test_after_a_restart_the_question_of_a_call_that_may_run_twice_stays(tmp_path: Path) -> None:
    how = {"more_tools": [{**ASK, "annotations": {"idempotentHint": True}}]}
    async with asking(how=how, data=tmp_path) as w:
        talk = begin(w, elicit())
        [question] = await talk.until("confirmation")
        assert (await respond(w, question, "accept", input={"name": "Z"})).status_code == 422
        await talk.leave()
    async with asking(how=how, data=tmp_path, again=True) as w:
        w.model.answers = [[MessageDelta(content="Done.")]]
        talk = Talk(w.client, "GET", f"/api/v1/sessions/{question['session_id']}/events", params={"after": 0})
        assert (await respond(w, question, "accept", input=CONTENT)).status_code == 200
        assert await replies(talk) == [{"action": "accept", "content": CONTENT}]
        assert len(talk.datas("confirmation")) == 1


@pytest.mark.parametrize("where", ["stdio", "http"])
async def test_the_question_of_a_server_that_goes_away_is_closed(where: str) -> None:
    async with AsyncExitStack() as stack:
        web = await stack.enter_async_context(Web(more_tools=[ASK])) if where == "http" else None
        w = await stack.enter_async_context(world(probe_timeout="0.3", turn_wait="20"))
        await w.add(**({"url": web.url} if web else {"how": {"more_tools": [ASK]}}))
        talk = begin(w, elicit())
        [question] = await talk.until("confirmation")
        if web:
            web.drop()
        else:
            await w.client.patch("/api/v1/mcp-servers/double", json={"enabled": False})
        [result] = await talk.until("tool_result")
        assert (result["has_error"], (await talk.end())[-1]) == (True, "done")
        assert (await w.client.get(f"/api/v1/approvals/{question['confirmation_id']}")).json()["status"] == "cancelled"
        assert (await respond(w, question, "accept", input=CONTENT)).status_code == 410


async def test_a_request_that_could_be_for_several_people_is_refused() -> None:
    """Over stdio nothing says for which of the calls that run a server asks."""
    async with asking() as w:
        first = begin(w, elicit("First?"))
        [question] = await first.until("confirmation")
        second = begin(w, elicit("Second?"))
        [refused] = await replies(second)
        assert (refused["code"], refused["message"]) == (-32600, "It is not clear for which call this is")
        await respond(w, question, "accept", input=CONTENT)
        assert (await replies(first))[0]["action"] == "accept"


async def test_over_http_each_call_has_its_own_questions() -> None:
    async with asking(f"http {LEGACY}") as w:
        first, second = begin(w, elicit("First?")), None
        [one] = await first.until("confirmation")
        second = begin(w, elicit("Second?"))
        [other] = await second.until("confirmation")
        await respond(w, other, "decline")
        await respond(w, one, "accept", input=CONTENT)
        assert [(await replies(talk))[0]["action"] for talk in (first, second)] == ["accept", "decline"]


@pytest.mark.parametrize("way", [f"stdio {LEGACY}", f"stdio {MODERN}"])
async def test_where_it_is_off_nobody_is_asked(way: str) -> None:
    async with asking(way, {"client_capabilities": {}}, elicitation=False) as w:
        talk = begin(w, elicit())
        [result] = await talk.until("tool_result")
        wanted = "input that nobody here can give" if MODERN in way else "does not offer elicitation/create"
        assert wanted in result["output"]
        assert not talk.datas("confirmation")


async def test_a_server_cannot_ask_without_end() -> None:
    async with asking(confirmation_ttl="0.01") as w:
        got = await replies(begin(w, elicit(), times=53))
        assert [one.get("action", one.get("code")) for one in got] == [*["cancel"] * 50, *[-32600] * 3]
