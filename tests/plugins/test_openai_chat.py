"""The face of OpenAI Chat Completions: shapes, segments, histories and errors, over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from bytebrew import Capabilities, MessageDelta, ProviderError, Stop, Thinking, ToolCall, Usage, tool
from bytebrew.engine import Engine
from bytebrew.testing import ScriptedProvider, client, engine, plugin, providing, scripted_schema, token

URL = "/v1/chat/completions"
WHERE = {
    "type": "function",
    "function": {"name": "where_am_i", "description": "The place", "parameters": {"type": "object", "properties": {}}},
}


PNG = "iVBORw0KGgo="


class Seeing(ScriptedProvider):
    """Sees images and documents."""

    capabilities = Capabilities(vision=True, documents=True)


@tool
async def look() -> str:
    """Looks."""
    return "seen"


@tool
async def pay(amount: int) -> str:
    """Pays."""
    return f"paid {amount}"


def register_tools(register: Any) -> None:
    register(look)
    register(pay)


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def says(*texts: str) -> list[Any]:
    """A step of the model."""
    return [*(MessageDelta(content=text) for text in texts), Usage(11, 7, cached_tokens=3, thinking_tokens=2)]


@asynccontextmanager
async def talking(
    *answers: list[Any], schema: dict[str, Any] | None = None, **agent: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, ScriptedProvider]]:
    """A client of an engine whose schema `test` has a model that gives these answers."""
    provider = ScriptedProvider(*answers)
    tools = plugin("tools", register_tools=register_tools)
    async with engine(providing(provider), tools) as running, client(running) as http:
        await scripted_schema(running, **agent)
        changed = await http.patch("/api/v1/schemas/test", json={"client_tools": True, **(schema or {})})
        assert changed.status_code == 200, changed.text
        yield http, provider


def contents(provider: ScriptedProvider) -> list[str]:
    """What the model was sent last."""
    return [one.content for one in provider.requests[-1].messages]


async def copied(running: Engine, name: str) -> None:
    """Another schema of the same agent."""
    async with client(running) as http:
        made = await http.post("/api/v1/schemas", json={"name": name, "entry_agent": "test", "chat_enabled": True})
        assert made.status_code == 201, made.text


async def complete(http: httpx.AsyncClient, *messages: Any, **body: Any) -> httpx.Response:
    headers = body.pop("headers", {})
    return await http.post(URL, json={"model": "test", "messages": messages, **body}, headers=headers)


async def text_of(http: httpx.AsyncClient, *messages: Any, **body: Any) -> tuple[str, str]:
    """The text of an answer, and its session."""
    response = await complete(http, *messages, **body)
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["message"]["content"], response.headers["x-session-id"]


def chunks(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    parts = [part for part in response.text.split("\n\n") if part and not part.startswith(":")]
    assert parts[-1] == "data: [DONE]"
    return [json.loads(part.removeprefix("data: ")) for part in parts[:-1]]


async def test_a_completion_has_openais_shape() -> None:
    async with talking([Thinking(content="Hm"), *says("Hel", "lo")]) as (http, _):
        response = await complete(http, user("hi"))
        body = response.json()
        turn_id = response.headers["x-turn-id"]
        assert isinstance(body.pop("created"), int)
        assert body.pop("system_fingerprint").startswith("bytebrew-")
        assert body == {
            "id": f"chatcmpl-{turn_id}",
            "object": "chat.completion",
            "model": "test",
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": "Hello",
                        "refusal": None,
                        "annotations": [],
                        "reasoning_content": "Hm",
                    },
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {
                "prompt_tokens": 11,
                "completion_tokens": 7,
                "total_tokens": 18,
                "prompt_tokens_details": {"cached_tokens": 3, "audio_tokens": 0},
                "completion_tokens_details": {
                    "reasoning_tokens": 2,
                    "audio_tokens": 0,
                    "accepted_prediction_tokens": 0,
                    "rejected_prediction_tokens": 0,
                },
            },
        }


async def test_a_stream_has_chunks_of_one_id_and_its_usage_in_the_last_if_wanted() -> None:
    async with talking(says("Hel", "lo")) as (http, _):
        response = await complete(http, user("hi"), stream=True, stream_options={"include_usage": True})
        made = chunks(response)
        assert {one["id"] for one in made} == {f"chatcmpl-{response.headers['x-turn-id']}"}
        assert {one["object"] for one in made} == {"chat.completion.chunk"}
        assert [one["choices"][0]["delta"] for one in made[:-1]] == [
            {"role": "assistant", "content": ""},
            {"content": "Hel"},
            {"content": "lo"},
            {},
        ]
        assert [one["choices"][0]["finish_reason"] for one in made[:-1]] == [None, None, None, "stop"]
        assert [one["usage"] for one in made[:-1]] == [None] * 4
        assert (made[-1]["choices"], made[-1]["usage"]["total_tokens"]) == ([], 18)
        plain = chunks(await complete(http, user("hi"), stream=True))
        assert not any("usage" in one for one in plain)


async def test_a_conversation_continues_its_session_with_the_newest_message_alone() -> None:
    async with talking(says("one"), says("two"), says("three")) as (http, provider):
        said, session = [user("a")], ""
        for n, answer in enumerate(["one", "two", "three"]):
            text, now = await text_of(http, {"role": "system", "content": f"Be brief {n}."}, *said)
            assert (text, session or now) == (answer, now)
            session = now
            said += [assistant(text), user(f"b{n}")]
        assert [one.content for one in provider.requests[-1].messages if "Be brief" not in one.content] == [
            "a",
            "one",
            "b0",
            "two",
            "b1",
        ]


async def test_calls_of_the_clients_tools_end_an_answer_and_their_results_go_on_with_it() -> None:
    calls = [ToolCall("where_am_i", {"n": n}, f"call_{n}") for n in range(2)]
    answers = [[*says("Let me see."), *calls, Stop("tool_calls")], says("Here.")]
    async with talking(*answers, tool_execution="parallel") as (http, provider):
        first = await complete(http, user("where?"), tools=[WHERE], stream=True)
        made = chunks(first)
        assert made[-1]["choices"][0]["finish_reason"] == "tool_calls"
        tool_calls = made[-2]["choices"][0]["delta"]["tool_calls"]
        assert [(one["index"], one["id"], one["type"], one["function"]) for one in tool_calls] == [
            (n, f"call_{n}", "function", {"name": "where_am_i", "arguments": f'{{"n":{n}}}'}) for n in range(2)
        ]
        asks = {"role": "assistant", "content": "Let me see.", "tool_calls": tool_calls}
        results = [{"role": "tool", "tool_call_id": f"call_{n}", "content": f"place {n}"} for n in range(2)]
        second = await complete(http, user("where?"), asks, *results, tools=[WHERE])
        assert second.json()["choices"][0]["message"]["content"] == "Here."
        assert second.json()["id"] == f"chatcmpl-{first.headers['x-turn-id']}-1"
        for name in ("x-session-id", "x-turn-id"):
            assert second.headers[name] == first.headers[name]
        again = await complete(http, user("where?"), asks, *results, tools=[WHERE])
        assert again.content == second.content
        assert len(provider.requests) == 2
        third = await complete(http, user("where?"), asks, *results, assistant("Here."), user("thanks"), tools=[WHERE])
        assert third.headers["x-session-id"] == first.headers["x-session-id"]
        missing = await complete(http, user("where?"), asks, results[0], tools=[WHERE])
        assert (missing.status_code, missing.json()["error"]["param"]) == (400, "messages")


@pytest.mark.parametrize("stream", [True, False])
async def test_the_same_idempotency_key_gives_the_same_bytes(stream: bool) -> None:
    async with talking(says("Hel", "lo"), says("other")) as (http, provider):
        first, second = [
            await complete(http, user("hi"), stream=stream, headers={"Idempotency-Key": "k"}) for _ in range(2)
        ]
        assert first.content == second.content
        assert len(provider.requests) == 1


async def test_a_token_that_is_bound_to_schemas_sees_and_reaches_its_models_alone() -> None:
    async with engine(providing(ScriptedProvider(says("Hi")))) as running:
        await scripted_schema(running)
        await copied(running, "other")
        bound = await token(running, "chat", schemas=["other"])
        async with client(running) as admin, client(running, bound) as http:
            assert [one["id"] for one in (await admin.get("/v1/models")).json()["data"]] == ["demo", "other", "test"]
            assert [one["id"] for one in (await http.get("/v1/models")).json()["data"]] == ["other"]
            assert (await http.get("/v1/models/other")).json()["object"] == "model"
            for refused in (await http.get("/v1/models/test"), await complete(http, user("hi"))):
                assert refused.status_code == 404
                assert refused.json()["error"]["code"] == "model_not_found"
            assert (await complete(http, user("hi"), model="other")).status_code == 200


async def test_an_edited_history_forks_and_one_that_is_not_ours_begins_a_session_with_it() -> None:
    async with talking(*(says(text) for text in ("one", "two", "three", "four"))) as (http, provider):
        _, session = await text_of(http, user("a"))
        await text_of(http, user("a"), assistant("one"), user("b"))
        text, fork = await text_of(http, user("a"), assistant("one"), user("c"))
        assert (text, fork != session) == ("three", True)
        assert (await http.get(f"/api/v1/sessions/{fork}")).json()["forked_from"]["session_id"] == session
        assert contents(provider) == ["a", "one", "c"]
        foreign = [user("a"), assistant("changed"), user("d"), assistant("else"), user("e")]
        text, new = await text_of(http, *foreign)
        assert (text, new in (session, fork)) == ("four", False)
        assert contents(provider) == [one["content"] for one in foreign]
        rows = (await http.get(f"/api/v1/sessions/{new}/messages")).json()
        assert [row["content"] for row in rows] == [*(one["content"] for one in foreign), "four"]
        provider.answers += [says("five"), says("six")]
        _, again = await text_of(http, *foreign[:3], assistant("else"), user("f"))
        assert (await http.get(f"/api/v1/sessions/{again}")).json()["forked_from"]["session_id"] == new
        assert contents(provider) == ["a", "changed", "d", "else", "f"]


async def test_several_sessions_with_one_conversation_are_told_apart_by_their_header_alone() -> None:
    async with talking(says("Hello")) as (http, provider):
        sessions = [(await text_of(http, user("hi")))[1] for _ in range(2)]
        said = [user("hi"), assistant("Hello"), user("and?")]
        _, neither = await text_of(http, *said)
        assert neither not in sessions
        assert contents(provider) == ["hi", "Hello", "and?"]
        for session in sessions:
            assert (await text_of(http, *said, headers={"X-Session-Id": session}))[1] == session
            assert (await text_of(http, user("alone"), headers={"X-Session-Id": session}))[1] == session
            assert contents(provider) == ["hi", "Hello", "and?", "Hello", "alone"]


async def test_the_end_users_of_a_token_have_their_own_histories() -> None:
    async with talking(says("Hello")) as (http, _):
        _, mine = await text_of(http, user("hi"), user="ann")
        _, theirs = await text_of(http, user("hi"), user="bob")
        said = [user("hi"), assistant("Hello"), user("and?")]
        assert (await text_of(http, *said, user="ann"))[1] == mine
        assert (await text_of(http, *said, safety_identifier="bob"))[1] == theirs
        assert (await text_of(http, *said))[1] not in (mine, theirs)
        assert (await http.get(f"/api/v1/sessions/{mine}")).json()["user_sub"] == "ann"


async def test_a_session_or_a_history_of_another_caller_gives_nothing() -> None:
    async with engine(providing(ScriptedProvider(says("secret")))) as running:
        await scripted_schema(running)
        ann, bob = await token(running, "chat"), await token(running, "chat")
        async with client(running, ann) as one, client(running, bob) as other:
            _, session = await text_of(one, user("hi"))
            refused = await complete(other, user("more"), headers={"X-Session-Id": session})
            assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")
            _, own = await text_of(other, user("hi"), assistant("secret"), user("more"))
            assert own != session


async def test_a_new_session_takes_the_uuid_and_the_history_of_the_client() -> None:
    async with talking(says("Hello")) as (http, provider):
        mine = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
        said = [assistant("Welcome!"), user("a"), assistant("b"), user("c")]
        assert (await text_of(http, *said, headers={"X-Session-Id": mine}))[1] == mine
        assert contents(provider)[0] == "a"
        assert "Welcome!" in " ".join(contents(provider))
        assert contents(provider)[-1] == "c"
        other = {"X-Session-Id": mine.replace("0190", "0191")}
        assert (await text_of(http, *said, assistant("Hello"), user("d"), headers=other))[1] == other["X-Session-Id"]


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"n": 2}, "n", "unsupported_value"),
        ({"logprobs": True}, "logprobs", "unsupported_value"),
        ({"modalities": ["text", "audio"]}, "modalities", "unsupported_value"),
        ({"functions": [{"name": "f"}]}, "functions", "unsupported_value"),
        ({"tool_choice": "required"}, "tool_choice", "unsupported_value"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice", "unsupported_value"),
        ({"messages": []}, "messages", "invalid_request"),
        ({"messages": [user("a"), assistant("b")]}, "messages", "invalid_request"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages", "invalid_request"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "invalid_request"),
        ({"messages": [user([{"type": "text"}])]}, "messages[0].content[0].text", "invalid_request"),
        (
            {"messages": [user([{"type": "image_url", "image_url": {"url": "data:image/png;base64,%"}}])]},
            "messages[0].content[0].image_url.url",
            "invalid_request",
        ),
        (
            {"messages": [user([{"type": "file", "file": {"file_id": "file-1"}}])]},
            "messages[0].content[0].file.file_id",
            "invalid_request",
        ),
        ({"messages": [user("")]}, "messages", "invalid_request"),
        ({"messages": [{"role": "tool", "tool_call_id": "c", "content": "x"}]}, "messages", "invalid_request"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type", "invalid_request"),
        ({"tools": [WHERE, WHERE]}, "tools[1].function.name", "invalid_request"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": 1}}}},
            "response_format.json_schema.schema.type",
            "invalid_request",
        ),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "unsupported_value"),
        ({"model": ""}, "model", "invalid_request"),
    ],
)
async def test_a_request_that_cannot_be_honoured_names_its_parameter(
    body: dict[str, Any], param: str, code: str
) -> None:
    async with talking(says("Hi")) as (http, provider):
        refused = await http.post(URL, json={"model": "test", "messages": [user("hi")], **body})
        assert refused.status_code == 400, refused.text
        error = refused.json()["error"]
        assert {*error} == {"message", "type", "param", "code"}
        assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
        assert provider.requests == []


async def test_other_errors_have_openais_shape_and_their_status() -> None:
    async with talking(says("Hi")) as (http, _):
        answers = [
            (await http.get("/v1/models", headers={"Authorization": "Bearer no"}), 401, "invalid_api_key"),
            (await http.get("/v1/models/none"), 404, "model_not_found"),
            (await http.delete("/v1/models"), 405, "method_not_allowed"),
            (await http.post(URL, content=b"a", headers={"content-type": "text/plain"}), 415, "unsupported_media_type"),
            (await complete(http, user("hi"), headers={"X-Session-Id": "no-uuid"}), 404, "not_found"),
        ]
        await http.patch("/api/v1/schemas/test", json={"client_tools": False})
        answers.append((await complete(http, user("hi"), tools=[WHERE]), 403, "client_tools_disabled"))
        await http.patch("/api/v1/schemas/test", json={"chat_enabled": False})
        answers.append((await complete(http, user("hi")), 403, "chat_disabled"))
        for answer, status, code in answers:
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
            assert {*answer.json()["error"]} == {"message", "type", "param", "code"}


async def test_a_turn_that_fails_ends_the_stream_and_is_the_status_of_a_whole_answer() -> None:
    too_long = ProviderError("No", code="model_rate_limited", retry_after=7)
    async with talking([*says("Hel"), too_long], [too_long]) as (http, _):
        streamed = await complete(http, user("hi"), stream=True)
        last = streamed.text.rpartition("data: ")[2]
        assert json.loads(last)["error"]["code"] == "model_rate_limited"
        assert "[DONE]" not in streamed.text
        whole = await complete(http, user("hi"))
        assert (whole.status_code, whole.json()["error"]["code"]) == (502, "model_rate_limited")
        assert whole.headers["x-turn-id"]


async def test_the_ends_of_answers_have_their_reasons() -> None:
    async with talking([*says("cut"), Stop("max_tokens")], [*says("bad"), Stop("refusal")]) as (http, _):
        assert (await complete(http, user("hi"))).json()["choices"][0]["finish_reason"] == "length"
        refused = (await complete(http, user("ho"))).json()["choices"][0]
        assert (refused["finish_reason"], refused["message"]["content"] or "bad") == ("content_filter", "bad")
        assert refused["message"]["refusal"]
        made = chunks(await complete(http, user("ha"), stream=True))
        assert made[-1]["choices"][0]["finish_reason"] == "content_filter"


async def test_images_files_and_audio_are_attachments_of_the_message() -> None:
    provider = Seeing(says("Seen"))
    async with engine(providing(provider)) as running, client(running) as http:
        await scripted_schema(running)
        parts = [
            {"type": "text", "text": "What is"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "https://x.example/a.gif"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PNG}"}},
            {"type": "text", "text": "this?"},
        ]
        _, session = await text_of(http, user(parts))
        [message] = provider.requests[0].messages
        assert message.content == "What is\nthis?"
        assert [(one.media_type, one.url, one.name) for one in message.attachments] == [
            ("image/png", "", ""),
            ("image/gif", "https://x.example/a.gif", ""),
            ("application/pdf", "", "a.pdf"),
        ]
        assert (await text_of(http, user(parts), assistant("Seen"), user("sure?")))[1] == session


@pytest.mark.parametrize("stream", [True, False])
async def test_a_structured_answer_comes_whole_and_without_the_steps_before_it(stream: bool) -> None:
    format = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object", "required": ["n"]}}}
    answers = [[*says("Let me look"), ToolCall("look", {}, "c1"), Stop("tool_calls")], says('{"n"', ":1}")]
    async with talking(*answers, says("{}"), says("[]"), says("[]"), tools=["look"]) as (http, _):
        response = await complete(http, user("hi"), response_format=format, stream=stream)
        if stream:
            deltas = [one["choices"][0]["delta"].get("content", "") for one in chunks(response)]
            assert [one for one in deltas if one] == ['{"n":1}']
        else:
            assert response.json()["choices"][0]["message"]["content"] == '{"n":1}'
        assert (await text_of(http, user("ho"), response_format={"type": "json_object"}))[0] == "{}"
        invalid = await complete(http, user("ha"), response_format={"type": "json_object"})
        assert (invalid.status_code, invalid.json()["error"]["code"]) == (502, "answer_invalid")


async def test_a_schema_of_zod_is_read_which_names_another_dialect() -> None:
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "required": ["n"]}
    format = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    async with talking(says('{"n":1}')) as (http, _):
        assert (await text_of(http, user("hi"), response_format=format))[0] == '{"n":1}'


def call_of(response: httpx.Response) -> dict[str, Any]:
    """The only tool call of an answer."""
    [choice] = response.json()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    [call] = choice["message"]["tool_calls"]
    return dict(call)


PAYS = [[ToolCall("pay", {"amount": 3}, "c1"), Stop("tool_calls")], says("Done."), says("And on.")]
ASKING: dict[str, Any] = {"tools": ["pay"], "confirm_before": ["pay"]}


@pytest.mark.parametrize(("word", "result"), [("approve", "paid 3"), (" Yes ", "paid 3"), ("reject", "")])
async def test_the_next_message_answers_a_question_and_gets_the_rest_of_the_turn(word: str, result: str) -> None:
    async with talking(*PAYS, **ASKING) as (http, provider):
        first = await complete(http, user("pay"))
        [choice] = first.json()["choices"]
        question = choice["message"]["content"]
        assert choice["finish_reason"] == "stop"
        assert '`pay` with\n\n```json\n{"amount":3}\n```' in question
        assert question.endswith("answer at http://localhost/api/v1/approvals")
        said = [user("pay"), assistant(question), user(word)]
        for stream in (False, True):
            second = await complete(http, *said, stream=stream)
            assert second.headers["x-turn-id"] == first.headers["x-turn-id"]
            assert "Done." in second.text
        assert (contents(provider)[-1] == result) is bool(result)
        inbox = (await http.get("/api/v1/approvals?status=" + ("spent" if result else "rejected"))).json()["data"]
        assert len(inbox) == 1
        text, session = await text_of(http, *said, assistant("Done."), user("more"))
        assert (text, session) == ("And on.", first.headers["x-session-id"])


async def test_another_message_than_an_answer_runs_nothing_and_is_a_turn_of_its_own() -> None:
    async with talking(*PAYS, **ASKING) as (http, provider):
        first = await complete(http, user("pay"))
        question = first.json()["choices"][0]["message"]["content"]
        text, session = await text_of(http, user("pay"), assistant(question), user("rather not today"))
        assert (text, session) == ("Done.", first.headers["x-session-id"])
        assert contents(provider)[-1] == "rather not today"
        assert (await http.get("/api/v1/approvals?status=cancelled")).json()["total"] == 1
        old = f"/api/v1/sessions/{session}/turns/{first.headers['x-turn-id']}"
        assert (await http.get(old)).json()["status"] == "cancelled"


async def test_a_person_may_answer_at_the_inbox_and_the_conversation_goes_on() -> None:
    async with talking(*PAYS, **ASKING) as (http, _):
        first = await complete(http, user("pay"))
        question = first.json()["choices"][0]["message"]["content"]
        [waits] = (await http.get("/api/v1/approvals")).json()["data"]
        await http.post(f"/api/v1/approvals/{waits['id']}/respond", json={"answers": ["approve"]})
        said = [user("pay"), assistant(question)]
        assert "Done." in (await complete(http, *said, user("approve"))).text
        text, session = await text_of(http, *said, user("well?"))
        assert (text, session) == ("And on.", first.headers["x-session-id"])


@pytest.mark.parametrize(
    ("word", "status"), [("approve", "spent"), ("reject", "rejected"), ("Not on Fridays", "rejected")]
)
async def test_a_question_is_a_call_of_the_clients_tool_where_the_schema_says_so(word: str, status: str) -> None:
    own = {"type": "function", "function": {"name": "approve_tool_call"}}
    async with talking(*PAYS, schema={"approvals": "client_tool"}, **ASKING) as (http, provider):
        first = await complete(http, user("pay"), tools=[own])
        assert [one.name for one in provider.requests[0].tools] == ["pay"]
        call = call_of(first)
        assert call["function"]["name"] == "approve_tool_call"
        shown = json.loads(call["function"]["arguments"])
        assert shown == {
            "confirmation_id": call["id"],
            "tool": "pay",
            "input": {"amount": 3},
            "risk": "safe",
            "kind": "confirm",
        }
        asks = {"role": "assistant", "content": None, "tool_calls": [call]}
        answer = {"role": "tool", "tool_call_id": call["id"], "content": word}
        for _ in range(2):
            second = await complete(http, user("pay"), asks, answer, tools=[own])
            assert second.json()["choices"][0]["message"]["content"] == "Done."
        [question] = (await http.get(f"/api/v1/approvals?status={status}")).json()["data"]
        assert question["reason"] == ("Not on Fridays" if word == "Not on Fridays" else "")
        text, session = await text_of(http, user("pay"), asks, answer, assistant("Done."), user("more"))
        assert (text, session) == ("And on.", first.headers["x-session-id"])


async def test_a_call_of_the_client_comes_before_a_question_that_waits_beside_it() -> None:
    both = [ToolCall("where_am_i", {}, "c1"), ToolCall("pay", {"amount": 3}, "c2"), Stop("tool_calls")]
    async with talking(both, says("Done."), tool_execution="parallel", **ASKING) as (http, _):
        first = await complete(http, user("go"), tools=[WHERE])
        call = call_of(first)
        assert call["id"] == "c1"
        said: list[Any] = [user("go"), {"role": "assistant", "tool_calls": [call]}]
        said.append({"role": "tool", "tool_call_id": "c1", "content": "here"})
        second = await complete(http, *said, tools=[WHERE], stream=True)
        question = "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks(second))
        assert question.startswith("May I run `pay`")
        third = await complete(http, *said, assistant(question), user("approve"), tools=[WHERE])
        assert third.json()["choices"][0]["message"]["content"] == "Done."
        assert third.headers["x-turn-id"] == first.headers["x-turn-id"]


async def test_the_public_view_shows_answers_alone_and_cannot_approve() -> None:
    steps = [[Thinking(content="secret"), ToolCall("look", {}, "c1"), Stop("tool_calls")], says("Seen."), *PAYS]
    agent: dict[str, Any] = {"tools": ["look", "pay"], "confirm_before": ["pay"]}
    async with engine(providing(ScriptedProvider(*steps)), plugin("tools", register_tools=register_tools)) as running:
        await scripted_schema(running, **agent)
        async with client(running) as admin, client(running, await token(running, "chat")) as http:
            await admin.patch("/api/v1/schemas/test", json={"view": "public"})
            first = (await complete(http, user("look"))).json()
            assert first["choices"][0]["message"] == {
                "role": "assistant",
                "content": "Seen.",
                "refusal": None,
                "annotations": [],
            }
            assert first["usage"]["total_tokens"] == 0
            asked = await complete(http, user("pay"))
            question = asked.json()["choices"][0]["message"]["content"]
            assert question == "Somebody must approve this before I can go on."
            said = [user("pay"), assistant(question)]
            assert (await complete(http, *said, user("approve"))).status_code == 403
            waits = await complete(http, *said, user("well?"))
            assert (waits.status_code, waits.json()["error"]["code"]) == (409, "approval_needed")
            [one] = (await admin.get("/api/v1/approvals")).json()["data"]
            await admin.post(f"/api/v1/approvals/{one['id']}/respond", json={"answers": ["approve"]})
            session = asked.headers["x-session-id"]
            assert await text_of(http, *said, user("well?")) == ("And on.", session)


async def test_a_retry_of_openais_client_gets_the_turn_that_the_first_request_began() -> None:
    async with talking(says("one"), says("two")) as (http, provider):
        first = await complete(http, user("hi"), headers={"X-Stainless-Retry-Count": "0"})
        again = await complete(http, user("hi"), headers={"X-Stainless-Retry-Count": "1"})
        assert again.content == first.content
        assert len(provider.requests) == 1
        other = await complete(http, user("hi"), headers={"X-Stainless-Retry-Count": "0"})
        assert other.headers["x-session-id"] != first.headers["x-session-id"]


async def test_a_key_replays_also_what_tool_results_got() -> None:
    answers = [[ToolCall("where_am_i", {}, "c1"), Stop("tool_calls")], says("Here."), says("no")]
    async with talking(*answers) as (http, provider):
        call = call_of(await complete(http, user("where?"), tools=[WHERE]))
        said = [user("where?"), {"role": "assistant", "content": None, "tool_calls": [call]}]
        result = {"role": "tool", "tool_call_id": "c1", "content": "Rome"}
        for stream in (True, False):
            key = {"Idempotency-Key": f"k{stream}"}
            made = [await complete(http, *said, result, tools=[WHERE], stream=stream, headers=key) for _ in range(2)]
            assert made[0].content == made[1].content
            assert "Here." in made[0].text
        reused = await complete(http, *said, result | {"content": "Oslo"}, tools=[WHERE], headers=key)
        assert (reused.status_code, reused.json()["error"]["code"]) == (422, "idempotency_key_reused")
        changed = await complete(http, *said, result | {"content": "Oslo"}, tools=[WHERE])
        assert changed.status_code in (400, 409)
        assert len(provider.requests) == 2


async def test_a_tool_that_is_not_allowed_now_is_not_there() -> None:
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [WHERE]}}
    other = {"type": "function", "function": {"name": "other"}}
    async with talking(says("Hi")) as (http, provider):
        await complete(http, user("a"), tools=[WHERE, other], tool_choice=allowed)
        await complete(http, user("b"), tools=[WHERE, other], tool_choice="none")
        await complete(http, user("c"), tools=[WHERE, other], tool_choice="auto")
        assert [[one.name for one in request.tools] for request in provider.requests] == [
            ["where_am_i"],
            [],
            ["where_am_i", "other"],
        ]


async def test_clients_that_keep_texts_alone_continue_their_session() -> None:
    answers = [[*says("Let me see. "), ToolCall("where_am_i", {}, "c1"), Stop("tool_calls")], says("Here."), says("On")]
    async with talking(*answers) as (http, _):
        first = await complete(http, user("where?"), tools=[WHERE])
        call = call_of(first)
        asks = {"role": "assistant", "content": "Let me see. ", "tool_calls": [call]}
        await complete(
            http, user("where?"), asks, {"role": "tool", "tool_call_id": "c1", "content": "Rome"}, tools=[WHERE]
        )
        for text in ("Let me see. Here.", "Here."):
            session = (await text_of(http, user("where?"), assistant(text), user(f"more {text}")))[1]
            forked = (await http.get(f"/api/v1/sessions/{session}")).json()["forked_from"]
            assert first.headers["x-session-id"] in (session, (forked or {}).get("session_id"))


async def test_a_message_beside_results_is_the_next_turn_and_one_without_them_is_refused() -> None:
    answers = [[ToolCall("where_am_i", {}, "c1"), Stop("tool_calls")], says("Here."), says("Bye.")]
    async with talking(*answers) as (http, provider):
        first = await complete(http, user("where?"), tools=[WHERE])
        asks = {"role": "assistant", "content": None, "tool_calls": [call_of(first)]}
        result = {"role": "tool", "tool_call_id": "c1", "content": "Rome"}
        refused = await complete(http, user("where?"), asks, user("never mind"), tools=[WHERE])
        assert refused.status_code == 400
        assert "must be followed by tool messages" in refused.json()["error"]["message"]
        for _ in range(2):
            both = await complete(http, user("where?"), asks, result, user("bye"), headers={"Idempotency-Key": "both"})
            assert both.json()["choices"][0]["message"]["content"] == "Bye."
            assert both.headers["x-session-id"] == first.headers["x-session-id"]
        assert contents(provider) == ["where?", "", "Rome", "Here.", "bye"]


async def test_a_client_that_keeps_no_history_answers_calls_and_questions_by_its_session() -> None:
    both = [ToolCall("where_am_i", {}, "c1"), Stop("tool_calls")]
    async with talking(both, [ToolCall("pay", {"amount": 3}, "c2"), Stop("tool_calls")], says("Done."), **ASKING) as (
        http,
        _,
    ):
        first = await complete(http, user("go"), tools=[WHERE])
        here = {"X-Session-Id": first.headers["x-session-id"]}
        result = {"role": "tool", "tool_call_id": "c1", "content": "Rome"}
        wrong = await complete(http, result | {"tool_call_id": "c9"}, headers=here)
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "messages")
        second = await complete(http, result, headers=here)
        assert second.json()["choices"][0]["message"]["content"].startswith("May I run `pay`")
        for _ in range(2):
            third = await complete(http, user("approve"), headers=here | {"Idempotency-Key": "yes"})
            assert third.json()["choices"][0]["message"]["content"] == "Done."
            assert third.headers["x-turn-id"] == first.headers["x-turn-id"]


async def test_the_public_view_has_calls_of_the_clients_own_tools() -> None:
    steps = [
        [ToolCall("where_am_i", {}, "c1"), ToolCall("where_am_i", {"n": 2}, "c2"), Stop("tool_calls")],
        says("Here."),
    ]
    async with engine(providing(ScriptedProvider(*steps))) as running:
        await scripted_schema(running, tool_execution="parallel")
        async with client(running) as admin, client(running, await token(running, "chat")) as http:
            await admin.patch("/api/v1/schemas/test", json={"view": "public", "client_tools": True})
            first = (await complete(http, user("where?"), tools=[WHERE])).json()["choices"][0]["message"]
            results = [{"role": "tool", "tool_call_id": one["id"], "content": "x"} for one in first["tool_calls"]]
            for stream in (False, True):
                second = await complete(http, user("where?"), first, *results, tools=[WHERE], stream=stream)
                assert "Here." in second.text


async def test_messages_behind_the_same_answer_at_the_same_time_know_nothing_of_each_other() -> None:
    answers = [says(f"answer {n}") for n in range(28)]
    async with talking(*answers) as (http, provider):
        for n in range(4):
            begins = user(f"root {n}")
            root, _ = await text_of(http, begins)
            branches = [user(f"branch {m}") for m in range(6)]
            made = await asyncio.gather(*(text_of(http, begins, assistant(root), one) for one in branches))
            assert len({session for _, session in made}) == 6
        assert {len(one.messages) for one in provider.requests} == {1, 3}


async def test_a_conversation_goes_on_behind_results_that_came_too_late() -> None:
    async with talking([ToolCall("where_am_i", {}, "c1")], says("next"), says("last")) as (http, _):
        asked = await complete(http, user("where?"), tools=[WHERE])
        session = asked.headers["x-session-id"]
        assert (await http.post(f"/api/v1/sessions/{session}/cancel")).is_success
        said = [user("where?"), asked.json()["choices"][0]["message"]]
        said.append({"role": "tool", "tool_call_id": "c1", "content": "Zürich"})
        assert (await complete(http, *said, tools=[WHERE])).status_code == 410
        said.append(user("and now?"))
        assert await text_of(http, *said, tools=[WHERE]) == ("next", session)
        assert await text_of(http, *said, assistant("next"), user("then?"), tools=[WHERE]) == ("last", session)
