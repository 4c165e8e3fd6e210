"""Chat over a real socket."""

import asyncio
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import httpx
import pytest

from bytebrew.base.formats import new_uuid
from bytebrew.contract.events import MessageDelta, Thinking
from bytebrew.contract.messages import Attachment, ToolCall, Usage
from bytebrew.contract.provider import Capabilities
from bytebrew.contract.tool import tool
from bytebrew.testing import ScriptedProvider, chat, names, plugin, providing, scripted_schema, served_engine
from tests.tables import check_refusal
from tests.upstream import data, streamed, upstream


async def test_a_turn_with_a_tool_call_streams_its_events_in_order() -> None:
    provider = ScriptedProvider(
        [Thinking(content="hm"), ToolCall("current_time", {}), Usage(3, 4)],
        [MessageDelta(content="It is "), MessageDelta(content="late."), Usage(5, 6)],
    )
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine, tools=("current_time",))
        events = await chat(client, "test", "What time is it?")
    assert names(events) == ["thinking", "tool_call", "tool_result", "message_delta", "message", "done"]
    assert [event.id for event in events] == [str(n) for n in range(1, len(events) + 1)]
    assert '"content":"It is late."' in events[-2].data
    assert '"input_tokens":8,"output_tokens":10' in events[-1].data


async def test_one_json_answer_instead_of_a_stream() -> None:
    async with served_engine() as (_, client):
        answer = await client.post(
            "/api/v1/schemas/demo/chat", json={"message": 'current_time {"timezone": "Europe/Berlin"}', "stream": False}
        )
    body = answer.json()
    assert answer.status_code == 200
    fields = {"session_id", "turn_id", "message", "tool_calls", "usage", "status", "finish_reason", "agent_version"}
    assert set(body) == fields
    assert answer.headers["x-session-id"] == body["session_id"]
    assert answer.headers["x-turn-id"] == body["turn_id"]
    [call] = body["tool_calls"]
    assert (call["tool"], call["input"], call["has_error"]) == ("current_time", {"timezone": "Europe/Berlin"}, False)
    assert call["output"] in body["message"]


async def test_the_stream_has_its_headers_and_begins_with_a_comment() -> None:
    async with (
        served_engine() as (_, client),
        client.stream("POST", "/api/v1/schemas/demo/chat", json={"message": "hi"}) as response,
    ):
        raw = await response.aread()
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert "server" not in response.headers
    assert raw.startswith(b": ok\n\nid: 1\nevent: ")


async def test_the_headers_say_where_the_time_went() -> None:
    @tool
    async def nap() -> str:
        """Sleeps a little."""
        await asyncio.sleep(0.1)
        return "awake"

    def timing(answer: httpx.Response) -> dict[str, float]:
        parts = [part.split(";dur=") for part in answer.headers["server-timing"].split(", ")]
        return {name: float(milliseconds) for name, milliseconds in parts}

    provider = ScriptedProvider([0.2, ToolCall("nap", {})], [0.2, MessageDelta(content="done")])
    naps = plugin("naps", register_tools=lambda register: register(nap))
    async with served_engine(providing(provider), naps) as (engine, client):
        await scripted_schema(engine, tools=("nap",))
        url = "/api/v1/schemas/test/chat"
        whole = timing(await client.post(url, json={"message": "hi", "stream": False}))
        streamed = timing(await client.post(url, json={"message": "hi"}))
    assert set(whole) == {"engine", "model", "tools"}
    assert 390 <= whole["model"] < 2000
    assert 90 <= whole["tools"] < 1000
    assert 0 < whole["engine"] < 300
    assert set(streamed) == {"engine"}
    assert 0 < streamed["engine"] < 300


async def test_a_schema_is_found_by_name_and_by_id() -> None:
    async with served_engine() as (_, client):
        schema_id = (await client.get("/api/v1/schemas/demo")).json()["id"]
        answer = await client.post(f"/api/v1/schemas/{schema_id}/chat", json={"message": "hi", "stream": False})
    assert answer.status_code == 200


async def test_a_schema_whose_chat_is_off_refuses() -> None:
    async with served_engine() as (_, client):
        await client.patch("/api/v1/schemas/demo", json={"chat_enabled": False})
        answer = await client.post("/api/v1/schemas/demo/chat", json={"message": "hi"})
    assert (answer.status_code, answer.json()["error"]) == (403, "chat_disabled")


async def test_a_session_id_is_known_or_a_fresh_uuid() -> None:
    url = "/api/v1/schemas/demo/chat"
    async with served_engine() as (_, client):
        fresh = "12345678-1234-4234-8234-123456789abc"
        for _ in range(2):
            answer = await client.post(url, json={"message": "hi", "session_id": fresh, "stream": False})
            assert answer.json()["session_id"] == fresh
        answer = await client.post(url, json={"message": "hi", "session_id": "a1b2c3d4"})
        assert (answer.status_code, answer.json()["error"]) == (404, "not_found")
        await client.post("/api/v1/schemas", json={"name": "other", "entry_agent": "demo", "chat_enabled": True})
        answer = await client.post("/api/v1/schemas/other/chat", json={"message": "hi", "session_id": fresh})
        assert (answer.status_code, answer.json()["error"]) == (409, "conflict")
        assert (await client.post("/api/v1/schemas/none/chat", json={"message": "hi"})).status_code == 404


async def test_a_model_that_is_missing_is_said_before_the_stream_begins() -> None:
    async with served_engine() as (_, client):
        await client.post("/api/v1/agents", json={"name": "a", "model": "later"})
        await client.post("/api/v1/schemas", json={"name": "s", "entry_agent": "a", "chat_enabled": True})
        answer = await client.post("/api/v1/schemas/s/chat", json={"message": "hi"})
    assert (answer.status_code, answer.json()["error"]) == (422, "model_missing")
    assert "later" in answer.json()["message"]


# Attachments

URL = "/api/v1/schemas/test/chat"
PNG = b64encode(bytes(range(256)) * 3).decode()
IMAGE = {"media_type": "image/png", "data": PNG, "name": "dots.png"}
HELLO = streamed(data({"choices": [{"delta": {"content": "Dots"}, "finish_reason": "stop"}]}, "[DONE]"))


class Seeing(ScriptedProvider):
    """A vendor whose models see images."""

    capabilities = Capabilities(vision=True)


async def schema_on(client: httpx.AsyncClient, base_url: str) -> None:
    """A schema `test` whose model speaks the OpenAI wire at the address."""
    new = {"name": "test", "type": "openai_compatible", "model_name": "gpt", "base_url": base_url}
    await client.post("/api/v1/models", json=new)
    await client.post("/api/v1/agents", json={"name": "test", "model": "test"})
    await client.post("/api/v1/schemas", json={"name": "test", "entry_agent": "test", "chat_enabled": True})


async def send(client: httpx.AsyncClient, *attachments: object, **body: Any) -> httpx.Response:
    return await client.post(URL, json={"message": "Look", "attachments": attachments, "stream": False, **body})


async def test_an_image_reaches_the_vendor_as_its_data_or_its_url_and_again_in_the_next_turn() -> None:
    async with upstream(HELLO) as vendor, served_engine() as (_, client):
        await schema_on(client, vendor.url)
        url = "https://images.test/dots.png"
        answer = await send(client, IMAGE, {"media_type": "image/png", "url": url})
        assert answer.json()["message"] == "Dots"
        await send(client, session_id=answer.json()["session_id"])
    first, second = (request.json["messages"] for request in vendor.requests)
    seen = {
        "role": "user",
        "content": [
            {"type": "text", "text": "Look"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
            {"type": "image_url", "image_url": {"url": url}},
        ],
    }
    assert first == [seen]
    assert second == [seen, {"role": "assistant", "content": "Dots"}, {"role": "user", "content": "Look"}]


async def test_a_message_shows_what_is_attached_without_its_data() -> None:
    async with served_engine(providing(Seeing([MessageDelta(content="Dots")]))) as (running, client):
        await scripted_schema(running)
        linked = {"media_type": "image/png", "url": "https://images.test/dots.png"}
        session_id = (await send(client, IMAGE, linked)).json()["session_id"]
        session = await client.get(f"/api/v1/sessions/{session_id}")
        messages = await client.get(f"/api/v1/sessions/{session_id}/messages")
    assert session.json()["messages"] == messages.json()
    asked, answered = messages.json()
    assert asked["attachments"] == [
        {"media_type": "image/png", "name": "dots.png", "url": ""},
        {"media_type": "image/png", "name": "", "url": "https://images.test/dots.png"},
    ]
    assert "attachments" not in answered
    assert PNG not in session.text + messages.text


@pytest.mark.parametrize(
    ("attachment", "path"),
    [
        ({"media_type": "image/png"}, "$.attachments[1]"),
        ({"media_type": "image/png", "data": ""}, "$.attachments[1]"),
        ({"media_type": "image/png", "data": PNG, "url": "https://a.test"}, "$.attachments[1]"),
        ({"media_type": "image/png", "data": "no base64!"}, "$.attachments[1].data"),
        ({"media_type": "image/png", "data": PNG[:-2]}, "$.attachments[1].data"),
        ({"media_type": "image/png", "url": ""}, "$.attachments[1].url"),
        ({"media_type": "image/png", "url": "file:///etc/passwd"}, "$.attachments[1].url"),
        ({"media_type": "picture", "data": PNG}, "$.attachments[1].media_type"),
        ({"media_type": "image/png\n", "data": PNG}, "$.attachments[1].media_type"),
        ({"data": PNG}, "$.attachments[1].media_type"),
        ({"media_type": "image/png", "data": PNG, "size": 1}, "$.attachments[1].size"),
        ({"media_type": "application/pdf", "data": PNG}, "$.attachments[1]"),
    ],
)
async def test_an_attachment_that_is_none_or_is_not_seen_is_a_400(attachment: dict[str, Any], path: str) -> None:
    provider = Seeing([MessageDelta(content="Dots")])
    async with served_engine(providing(provider)) as (running, client):
        await scripted_schema(running)
        answer = await send(client, IMAGE, attachment)
        assert answer.status_code == 400
        assert check_refusal(answer)["details"][0]["path"] == path
        assert (await client.get("/api/v1/sessions")).json()["total"] == 0
    assert provider.requests == []


async def test_twenty_attachments_are_taken_and_no_more() -> None:
    async with served_engine(providing(Seeing([MessageDelta(content="Dots")]))) as (running, client):
        await scripted_schema(running)
        assert (await send(client, *[IMAGE] * 20)).status_code == 200
        answer = await send(client, *[IMAGE] * 21)
    assert (answer.status_code, check_refusal(answer)["details"][0]["path"]) == (400, "$.attachments")


async def test_a_model_that_sees_nothing_says_so_before_the_stream_begins() -> None:
    async with served_engine() as (_, client):
        body = {"message": "Look", "attachments": [IMAGE]}
        answer = await client.post("/api/v1/schemas/demo/chat", json=body)
    assert answer.status_code == 400
    said = check_refusal(answer)
    assert said["message"] == "An attachment cannot be seen: the agent's model takes no image/png"
    assert said["details"][0]["path"] == "$.attachments[0]"


async def test_what_is_attached_may_be_larger_than_other_bodies_up_to_a_limit_of_its_own() -> None:
    settings = {"BYTEBREW_MAX_BODY_BYTES": "1024", "BYTEBREW_MAX_UPLOAD_BYTES": "100000"}
    provider = Seeing([MessageDelta(content="Dots")])
    async with served_engine(providing(provider), settings=settings) as (running, client):
        await scripted_schema(running)
        large = {"media_type": "image/png", "data": b64encode(bytes(70_000)).decode()}
        assert (await send(client, large)).status_code == 200
        answer = await send(client, large, large)
        assert (answer.status_code, check_refusal(answer)["error"]) == (413, "payload_too_large")
    assert b64decode(provider.requests[0].messages[0].attachments[0].data) == bytes(70_000)


async def test_a_message_that_waits_keeps_its_attachments_even_over_a_restart(tmp_path: Path) -> None:
    gate = asyncio.Event()
    provider = Seeing([gate, MessageDelta(content="one")], [MessageDelta(content="two")])
    session_id = new_uuid()
    async with served_engine(providing(provider), data=tmp_path) as (running, client):
        await scripted_schema(running)
        body = {"message": "Look", "attachments": [IMAGE], "session_id": session_id}
        async with client.stream("POST", URL, json=body), client.stream("POST", URL, json=body):
            pass
    async with served_engine(providing(provider), data=tmp_path) as (running, client):
        while (await client.get(f"/api/v1/sessions/{session_id}")).json()["status"] != "completed":
            await asyncio.sleep(0.01)
    expected = (Attachment("image/png", PNG, name="dots.png"),)
    assert len(provider.requests) >= 2
    assert {request.messages[-1].attachments for request in provider.requests} == {expected}


async def test_a_waiting_message_keeps_its_attachments() -> None:
    gate = asyncio.Event()
    provider = Seeing([gate, MessageDelta(content="one")], [MessageDelta(content="two")])
    session_id = new_uuid()
    async with served_engine(providing(provider)) as (running, client):
        await scripted_schema(running)
        body = {"message": "Look", "session_id": session_id}
        async with (
            client.stream("POST", URL, json=body) as first,
            client.stream("POST", URL, json={**body, "attachments": [IMAGE]}) as second,
        ):
            gate.set()
            await first.aread()
            assert "event: done" in (await second.aread()).decode()
    assert provider.requests[1].messages[-1].attachments == (Attachment("image/png", PNG, name="dots.png"),)
