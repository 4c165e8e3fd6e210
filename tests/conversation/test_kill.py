"""What survives kill -9."""

import random
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from bytebrew.base.sse_reader import Parser
from bytebrew.testing import ADMIN
from tests.processes import plugins_folder, serving

HEADERS = {"Authorization": f"Bearer {ADMIN}"}
DELTAS = 60


def _events(raw: bytes) -> bytes:
    """The whole frames of a stream, without its comments and without a last frame that was cut."""
    frames = raw.split(b"\n\n")[:-1]
    return b"".join(frame + b"\n\n" for frame in frames if not frame.startswith(b":"))


def _numbers(raw: bytes) -> list[int]:
    return [int(event.id) for event in Parser().feed(raw)]


async def _configure(client: httpx.AsyncClient) -> None:
    for path, body in (
        ("models", {"name": "slow", "type": "slow", "model_name": "slow"}),
        ("agents", {"name": "slow", "model": "slow", "tools": ["add"]}),
        ("schemas", {"name": "slow", "entry_agent": "slow", "chat_enabled": True}),
    ):
        answer = await client.post(f"/api/v1/{path}", json=body)
        assert answer.status_code == 201, answer.text


async def _read_until(client: httpx.AsyncClient, events: int, **body: Any) -> tuple[str, bytes]:
    """Chats until so many events have come; the session and the bytes seen."""
    request = client.stream("POST", "/api/v1/schemas/slow/chat", json={"message": str(DELTAS), **body})
    async with request as response:
        raw = b""
        async for chunk in response.aiter_raw():
            raw += chunk
            if raw.count(b"\nid: ") >= events:
                break
        return response.headers["x-session-id"], _events(raw)


@pytest.mark.kills
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_what_a_client_saw_before_kill_9_is_there_after_it_and_the_rest_follows(tmp_path: Path) -> None:
    settings = {"BYTEBREW_PLUGINS_DIR": str(plugins_folder(tmp_path / "plugins"))}
    points = [*range(1, DELTAS, 2), DELTAS + 2, DELTAS + 4, DELTAS + 8]
    random.Random(7).shuffle(points)
    assert len(points) >= 30
    data = tmp_path / "data"
    with serving(data, settings) as engine:
        async with httpx.AsyncClient(base_url=engine.url, headers=HEADERS, timeout=30) as client:
            await _configure(client)
    seen: list[tuple[str, bytes]] = []
    for point in points:
        with serving(data, settings) as engine:
            async with httpx.AsyncClient(base_url=engine.url, headers=HEADERS, timeout=30) as client:
                if seen:
                    await _resumes(client, *seen[-1])
                seen.append(await _read_until(client, point))
                engine.kill()
        assert len(_numbers(seen[-1][1])) >= point - 1
    with serving(data, settings) as engine:
        async with httpx.AsyncClient(base_url=engine.url, headers=HEADERS, timeout=30) as client:
            for session_id, raw in seen:
                await _resumes(client, session_id, raw)
            again = await client.post("/api/v1/schemas/slow/chat", json={"message": "3", "session_id": seen[0][0]})
            assert "event: done" in again.text
        assert engine.stop() == 0


async def _resumes(client: httpx.AsyncClient, session_id: str, raw: bytes) -> None:
    """A client that resumes has, byte for byte, what one has that reads all; the turn went on to its end."""
    path = f"/api/v1/sessions/{session_id}/events"
    last = _numbers(raw)[-1]
    whole = await _follow_to_end(client, path, {})
    rest = await _follow_to_end(client, path, {"Last-Event-ID": str(last)})
    assert raw + rest == whole
    assert _numbers(whole) == list(range(1, len(_numbers(whole)) + 1))
    events = [(event.event, msgspec.json.decode(event.data)) for event in Parser().feed(whole)]
    first = events[: [name for name, _ in events].index("done") + 1]
    said = "".join(data["content"] for name, data in first if name == "message_delta")
    assert said == "".join(f"delta {n} ü\u2028 " for n in (*range(DELTAS), *range(10)))
    assert first[-2] == ("message", {"content": said, "role": "assistant"})
    assert [name for name, _ in first].count("tool_result") == 1


async def _follow_to_end(client: httpx.AsyncClient, path: str, headers: dict[str, str]) -> bytes:
    raw = b""
    async with client.stream("GET", path, headers=headers) as response:
        async for chunk in response.aiter_raw():
            raw += chunk
            if b"event: done" in raw and raw.endswith(b"\n\n"):
                break
    return _events(raw)


async def test_a_message_that_waited_in_the_queue_is_answered_after_kill_9(tmp_path: Path) -> None:
    settings = {"BYTEBREW_PLUGINS_DIR": str(plugins_folder(tmp_path / "plugins"))}
    data = tmp_path / "data"
    with serving(data, settings) as engine:
        async with httpx.AsyncClient(base_url=engine.url, headers=HEADERS, timeout=30) as client:
            await _configure(client)
            session_id, _ = await _read_until(client, 3)
            url = "/api/v1/schemas/slow/chat"
            async with client.stream("POST", url, json={"message": "5", "session_id": session_id}) as response:
                assert response.status_code == 200
                engine.kill()
    with serving(data, settings) as engine:
        async with httpx.AsyncClient(base_url=engine.url, headers=HEADERS, timeout=30) as client:
            raw = b""
            async with client.stream("GET", f"/api/v1/sessions/{session_id}/events") as response:
                async for chunk in response.aiter_raw():
                    raw += chunk
                    if raw.count(b"event: done") == 2:
                        break
            messages = (await client.get(f"/api/v1/sessions/{session_id}/messages")).json()
    numbers = _numbers(raw)
    assert numbers == list(range(1, len(numbers) + 1))
    assert b"event: error" not in raw
    assert [message["content"] for message in messages if message["role"] == "user"] == [str(DELTAS), "5"]


async def test_a_turn_that_was_cancelled_before_kill_9_stays_so(tmp_path: Path) -> None:
    settings = {"BYTEBREW_PLUGINS_DIR": str(plugins_folder(tmp_path / "plugins"))}
    data = tmp_path / "data"
    with serving(data, settings) as engine:
        async with httpx.AsyncClient(base_url=engine.url, headers=HEADERS, timeout=30) as client:
            await _configure(client)
            session_id, seen = await _read_until(client, 3)
            assert (await client.post(f"/api/v1/sessions/{session_id}/cancel")).status_code == 204
            engine.kill()
    with serving(data, settings) as engine:
        async with httpx.AsyncClient(base_url=engine.url, headers=HEADERS, timeout=30) as client:
            raw = await _follow_to_end(client, f"/api/v1/sessions/{session_id}/events", {})
    assert raw.startswith(seen)
    assert b'"status":"cancelled"' in raw.splitlines()[-2]
