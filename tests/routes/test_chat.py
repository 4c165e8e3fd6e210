"""Chat over a real socket."""

from bytebrew.events import MessageDelta, Thinking
from bytebrew.messages import ToolCall, Usage
from bytebrew.testing import ScriptedProvider, chat, names, providing, scripted_schema, served_engine


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
    assert set(body) == {"session_id", "turn_id", "message", "tool_calls", "usage", "status"}
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
