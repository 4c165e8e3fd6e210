"""Clients that follow at one node what another one runs."""

import asyncio
import gc
import time
from collections.abc import Sequence

import anyio
import pytest

from bytebrew.contract.messages import ToolCall
from bytebrew.contract.storage.store import Signals
from bytebrew.contract.tool import tool
from bytebrew.testing import events_of
from tests.nodes.chats import URL, Stream, data, eventually, say, two
from tests.nodes.engines import Node

pytestmark = pytest.mark.postgresql


async def test_a_chat_of_one_node_is_followed_live_at_another_with_the_same_bytes() -> None:
    gate = asyncio.Event()
    async with two([say("one "), gate, say("two")]) as (a, b, _):
        whole: list[bytes] = []
        async with a.http.stream("POST", URL, json={"message": "Hi"}) as chat:
            session = chat.headers["x-session-id"]
            chunks = chat.aiter_bytes()
            whole.append(await anext(chunks))
            seen = b""
            async with b.http.stream("GET", f"/api/v1/sessions/{session}/events") as followed:
                async for chunk in followed.aiter_bytes():
                    seen += chunk
                    if b"one " in seen:
                        gate.set()
                    if b"event: done" in seen:
                        break
            async for chunk in chunks:
                whole.append(chunk)
        assert seen == b"".join(whole)


async def test_a_stream_goes_on_at_another_node_behind_the_last_event_that_was_seen() -> None:
    gate = asyncio.Event()
    async with two([say("one "), gate, say("two")]) as (a, b, _):
        first = Stream(a.http, "Hi", key="k")
        seen = await first.until("message_delta")
        again = Stream(b.http, "Hi", key="k", last_event_id=seen.id)
        await again.opened()
        gate.set()
        assert await again.whole() == ["message_delta", "message", "done"]
        assert again.text == "two"
        await first.task
        assert again.events == first.events[1:]


async def test_nodes_take_turns_in_a_session_that_both_follow() -> None:
    async with two(*([say(str(n))] for n in range(6))) as (a, b, _):
        first = Stream(a.http, "0")
        await first.task
        events = f"/api/v1/sessions/{first.session}/events"
        async with a.http.stream("GET", events) as at_a, b.http.stream("GET", events) as at_b:
            for n in range(1, 6):
                chat = Stream((b if n % 2 else a).http, str(n), session_id=first.session)
                await chat.task
                assert (chat.text, data(chat.events[-1])["status"]) == (str(n), "completed")
            for followed in (at_a, at_b):
                numbers = []
                async for event in events_of(followed):
                    numbers.append(int(event.id))
                    if len(numbers) == 18:
                        break
                assert numbers == [*range(1, 19)]


class Mute(Signals):
    """Signals that all are lost: each second receivers look by themselves."""

    async def send(self, texts: Sequence[str]) -> None:
        pass


@pytest.mark.parametrize("how", ["lost", "pooler"])
async def test_without_signals_nodes_look_by_themselves(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "lost":
        from bytebrew_postgres.signals import PostgresSignals

        monkeypatch.setattr(PostgresSignals, "send", Mute.send)
    settings = {"BYTEBREW_DATABASE_POOLER": "true"} if how == "pooler" else None
    gate = asyncio.Event()
    async with two([say("one"), gate], [say("two"), asyncio.Event()], settings=settings) as (a, b, _):
        first = Stream(a.http, "1")
        await first.until("message_delta")
        second = Stream(b.http, "2", session_id=first.session)
        await second.until("queued")
        gate.set()
        with anyio.fail_after(10):
            await second.until("message_delta")
            assert (await b.http.post(f"/api/v1/sessions/{first.session}/cancel")).status_code == 204
            await second.task
        assert data(second.events[-1])["status"] == "cancelled"


async def test_a_message_that_the_owner_never_took_is_answered_by_who_takes_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with two([say("one"), asyncio.Event()], [say("one"), say(" more")], [say("two")]) as (a, b, _):

        async def nothing(ids: object) -> None:
            pass

        for inbox in a.engine.signals._inboxes["requests"]:
            monkeypatch.setattr(inbox, "_receiver", nothing)
        first = Stream(a.http, "1")
        await first.until("message_delta")
        second = Stream(b.http, "2", session_id=first.session)
        await second.until("queued")
        await a.stop()
        with anyio.fail_after(20):
            await second.task
        assert (second.text, data(second.events[-1])["status"]) == ("two", "completed")


async def test_nothing_is_left_of_turns_that_were_followed() -> None:
    gate = asyncio.Event()
    async with two([say("one"), gate], [say("two")]) as (a, b, _):
        first = Stream(a.http, "1")
        await first.until("message_delta")
        tasks = len(asyncio.all_tasks())
        second = Stream(b.http, "2", session_id=first.session)
        await second.until("queued")
        await second.leave()
        gate.set()
        await first.task
        await eventually(lambda: _idle(a))
        assert len(asyncio.all_tasks()) <= tasks
        del first, second
        await eventually(lambda: _is_empty(a))
        await eventually(lambda: _is_empty(b))


async def _is_empty(node: Node) -> bool:
    await node.engine.db.write(lambda conn: None)  # the writer keeps its last works
    gc.collect()
    return not node.engine.journal._logs and not node.engine.runner.remote.turns


async def _idle(node: Node) -> bool:
    return not node.engine.runner.lanes


async def test_requests_at_another_node_take_effect_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    count, begun = 20, 0.0
    delays: dict[str, list[float]] = {"message": [], "cancel": [], "answer": []}

    @tool
    async def careful() -> str:
        """Says how long an answer took."""
        delays["answer"].append(time.monotonic() - begun)
        return "done"

    answers = [ToolCall("careful", {}, "c1")], [say("one"), asyncio.Event()], [say("two")]
    steps = [step for _ in range(count) for step in answers]
    async with two(*steps, tools=[careful], confirm_before=["careful"]) as (a, b, _):
        for _ in range(count):
            first = Stream(a.http, "1")
            asked = data(await first.until("confirmation"))
            begun = time.monotonic()
            answer = {"confirmation_id": asked["confirmation_id"], "answers": ["approve"]}
            assert (await b.http.post(f"/api/v1/sessions/{first.session}/respond", json=answer)).status_code == 200
            await first.until("message_delta")
            begun = time.monotonic()
            second = Stream(b.http, "2", session_id=first.session)
            lane = a.engine.runner.lanes[first.session]
            while not lane.waiting:
                await asyncio.sleep(0.001)
            delays["message"].append(time.monotonic() - begun)
            begun = time.monotonic()
            assert (await b.http.post(f"/api/v1/sessions/{first.session}/cancel")).status_code == 204
            delays["cancel"].append(time.monotonic() - begun)
            await second.task
            assert second.text == "two"
    for what, seconds in delays.items():
        found = sorted(seconds)
        with capsys.disabled():
            print(f"\n{what} at another node: p50 {found[count // 2] * 1000:.1f} ms, p99 {found[-1] * 1000:.1f} ms")
        assert found[count // 2] < 1.0


async def test_a_node_that_stops_sends_its_clients_to_another() -> None:
    gate = asyncio.Event()
    async with two([say("one "), gate, say("more")]) as (a, b, _):
        first = Stream(a.http, "1", key="k")
        await first.until("message_delta")
        again = Stream(b.http, "1", key="k")
        await again.until("message_delta")
        answer = asyncio.create_task(
            b.http.post(URL, json={"message": "1", "stream": False}, headers={"idempotency-key": "k"})
        )
        await b.engine.drain(0)
        assert (await again.whole())[-1] == "error"
        assert data(again.events[-1])["code"] == "draining"
        assert (await answer).status_code == 503
        gate.set()
        assert await first.whole() == ["message_delta", "message", "done"]
