"""The feed says what has changed, to whoever may know, and says so where something may have been missed."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from bytebrew_feed import FEED
from bytebrew_feed.changes import TOPICS
from bytebrew_feed.feed import KEPT

from bytebrew import Notification, ServerSentEvent
from bytebrew.contract.events import MessageDelta
from bytebrew.testing import ScriptedProvider, chat, events_of, providing, scripted_schema, served_engine
from tests.conversation.test_confirmations import PAY, answer, configure, engine_on, say
from tests.tables import all_but, check_refusal, token_with, trace

URL = "/api/v1/events"
SECONDS = 20.0


class Follower:
    """A stream of the feed."""

    def __init__(self, events: AsyncIterator[ServerSentEvent]) -> None:
        self._events = events

    async def next(self, topic: str) -> tuple[str, dict[str, Any]]:
        """The id and the data of the next event of a topic."""
        async with asyncio.timeout(SECONDS):
            async for event in self._events:
                if event.event == topic:
                    return event.id, json.loads(event.data)
        raise AssertionError(f"the stream ended before {topic}")

    async def end(self) -> None:
        """Waits for the end of the stream."""
        async with asyncio.timeout(SECONDS):
            async for _ in self._events:
                pass


@asynccontextmanager
async def following(client: httpx.AsyncClient, seen: str = "", **query: str) -> AsyncIterator[Follower]:
    headers = {"last-event-id": seen} if seen else {}
    async with client.stream("GET", URL, params=query, headers=headers, timeout=SECONDS) as answer:
        assert answer.status_code == 200
        yield Follower(events_of(answer))


def greeting() -> tuple[str, object]:
    return providing(ScriptedProvider(*[[MessageDelta(content="Hello")]] * 5))


async def test_a_turn_is_told_from_its_beginning_to_its_end() -> None:
    async with served_engine(greeting()) as (running, client):
        await scripted_schema(running)
        async with following(client, topics="turn") as follower:
            await chat(client, "test", "Hi")
            told = [(await follower.next(topic))[1] for topic in ("turn.started", "turn.ended")]
    assert len({one["id"] for one in told}) == 1
    assert [one["data"]["status"] for one in told] == ["running", "completed"]
    assert {one["data"]["schema"] for one in told} == {"test"}
    assert "Hello" not in str(told)
    assert "Hi" not in str(told)


async def test_a_question_is_told_and_its_answer(tmp_path: Path) -> None:
    async with engine_on(tmp_path) as (_, client, _):
        await configure(client, confirm_before=["pay"])
        async with following(client, topics="approval") as follower:
            talk = say(client, PAY)
            _, asked = await follower.next("approval.created")
            question = (await talk.until("confirmation"))[0]
            await answer(client, talk.session_id, question["call_id"], "approve")
            _, answered = await follower.next("approval.answered")
            await talk.end()
    assert asked["id"] == answered["id"] == question["confirmation_id"]
    assert (asked["data"]["tool"], asked["data"]["status"], answered["data"]["status"]) == (
        "pay",
        "pending",
        "approved",
    )
    assert set(asked["data"]) == {"session_id", "turn_id", "agent", "tool", "kind", "risk", "status"}, "no arguments"


async def test_a_change_of_the_configuration_is_told_with_its_version() -> None:
    async with served_engine(greeting()) as (running, client):
        await scripted_schema(running)
        async with following(client, topics="config.changed") as follower:
            (await client.patch("/api/v1/agents/test", json={"system": "Be brief"})).raise_for_status()
            _, told = await follower.next("config.changed")
    assert (told["id"], told["data"]["kind"]) == ("test", "agents")


async def test_a_task_an_mcp_server_and_a_budget_are_told() -> None:
    async with served_engine(greeting()) as (running, client):
        await scripted_schema(running)
        async with following(client) as follower:
            body = {"title": "Count", "agent_name": "test"}
            made = (await client.post("/api/v1/tasks", json=body)).raise_for_status().json()
            assert (await follower.next("task.changed"))[1]["id"] == made["id"]
            server = {"name": "shop", "type": "http", "url": "http://127.0.0.1:9/mcp"}
            (await client.post("/api/v1/mcp-servers", json=server)).raise_for_status()
            assert (await follower.next("mcp.changed"))[1]["id"] == "shop"
            near = Notification("budget.near", "website", {"url": "/api/v1/budgets/website"})
            await running.db.write(running.publish, near)
            assert (await follower.next("budget.near"))[1]["id"] == "website"


async def test_what_is_rolled_back_is_not_told() -> None:
    async with served_engine(greeting()) as (running, client):
        await scripted_schema(running)
        async with following(client, topics="config") as follower:
            taken = await client.post("/api/v1/agents", json={"name": "test", "model": "test"})
            assert taken.status_code == 409
            (await client.patch("/api/v1/agents/test", json={"system": "Be brief"})).raise_for_status()
            _, told = await follower.next("config.changed")
    assert told["id"] == "test"
    assert told["data"]["version"] == 1, "the refused one has made none"


async def test_whoever_comes_again_is_told_what_happened_meanwhile() -> None:
    async with served_engine(greeting()) as (running, client):
        await scripted_schema(running)
        async with following(client, topics="turn") as follower:
            await chat(client, "test", "Hi")
            seen, _ = await follower.next("turn.started")
        await chat(client, "test", "Again")
        async with following(client, seen, topics="turn") as follower:
            again = [await follower.next(topic) for topic in ("turn.ended", "turn.started", "turn.ended")]
    numbers = [int(id.rpartition("-")[2]) for id, _ in again]
    assert numbers == sorted(numbers)
    assert numbers[0] == int(seen.rpartition("-")[2]) + 1


@pytest.mark.parametrize("seen", ["of-another-run-7", "7", "-1", "x" * 300, "a-9999999999999999999999"])
async def test_whoever_may_have_missed_something_is_told_so(seen: str) -> None:
    async with served_engine(greeting()) as (_, client), following(client, seen) as follower:
        assert await follower.next("missed")


async def test_whoever_is_too_far_behind_is_told_so() -> None:
    async with served_engine(greeting()) as (running, client):
        await scripted_schema(running)
        async with following(client) as follower:
            (await client.patch("/api/v1/agents/test", json={"system": "0"})).raise_for_status()
            seen, _ = await follower.next("config.changed")

            def publish(conn: Any) -> None:
                for n in range(KEPT + 1):
                    running.publish(conn, Notification("budget.near", str(n), {}))

            await running.db.write(publish)
            assert await follower.next("missed")
        async with following(client, seen) as follower:
            assert await follower.next("missed")


async def test_nothing_is_noted_while_nobody_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bytebrew_feed.feed.LINGER", 0.1)
    async with served_engine(greeting()) as (running, client):
        await scripted_schema(running)
        async with following(client, topics="turn") as follower:
            await chat(client, "test", "Hi")
            await follower.next("turn.ended")
        async with asyncio.timeout(SECONDS):
            while running.state[FEED].watching:
                await asyncio.sleep(0.05)
        said: list[str] = []
        await running.db.write(trace, said.append)
        await chat(client, "test", "Again")
        await running.db.write(trace, None)
        assert any("update turns" in statement for statement in said)
        assert not [statement for statement in said if "feed_changes" in statement]
        async with following(client, topics="turn") as follower:
            await chat(client, "test", "Once more")
            await follower.next("turn.ended")


async def test_a_stop_of_the_engine_ends_the_stream() -> None:
    async with served_engine(greeting()) as (running, client), following(client) as follower:
        await running.drain(0)
        await follower.end()


async def test_only_an_admin_follows_all_of_the_engine() -> None:
    async with served_engine(greeting()) as (running, client):
        token = (await token_with(running, *all_but("admin"))).token
        refused = await client.get(URL, headers={"authorization": f"Bearer {token}"})
        assert refused.status_code == 403
        check_refusal(refused)


@pytest.mark.parametrize("topics", ["turns", "turn.", "approval,nothing", "*"])
async def test_a_topic_that_there_is_not_is_refused_with_those_that_there_are(topics: str) -> None:
    async with served_engine(greeting()) as (_, client):
        refused = await client.get(URL, params={"topics": topics})
        assert refused.status_code == 400
        assert check_refusal(refused)["details"][0]["path"] == "$.topics"
        assert all(topic in refused.json()["message"] for topic in TOPICS)
