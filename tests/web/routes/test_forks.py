"""A fork has the history of its session up to a turn's end, and is then a session of its own."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import httpx
import pytest

from bytebrew.contract.connection import Connection
from bytebrew.engine import Engine
from bytebrew.store import messages
from bytebrew.store.queries import events
from bytebrew.testing import ScriptedProvider, chat, events_of, providing, scripted_schema, served_engine
from tests.conversation.test_runner import URL, begin, say
from tests.conversation.test_steering import waiting
from tests.faults import invariants

SESSIONS = "/api/v1/sessions"


def wrong(conn: Connection) -> list[str]:
    """What is wrong with the file."""
    checks = (invariants.file, invariants.numbers, invariants.ends, invariants.spent, invariants.counts)
    return [one for check in checks for one in check(conn)]


class Served(NamedTuple):
    """An engine, an admin's client, and the model."""

    engine: Engine
    client: httpx.AsyncClient
    provider: ScriptedProvider

    async def say(self, message: str, session_id: str | None = None, **body: Any) -> Any:
        answer = await self.client.post(
            URL, json={"message": message, "stream": False, "session_id": session_id} | body
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def fork(self, session_id: str, **body: Any) -> Any:
        answer = await self.client.post(f"{SESSIONS}/{session_id}/fork", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def get(self, session_id: str, what: str = "") -> Any:
        answer = await self.client.get(f"{SESSIONS}/{session_id}{what}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def events(self, session_id: str) -> list[Any]:
        found: list[Any] = []
        while True:
            after = found[-1]["id"] if found else 0
            page = (await self.get(session_id, f"/events?follow=false&after={after}"))["data"]
            if not page:
                return found
            found += page

    async def texts(self, session_id: str) -> list[str]:
        return [one["content"] for one in await self.get(session_id, "/messages")]

    async def ends(self, session_id: str) -> list[int]:
        return [one["id"] for one in await self.events(session_id) if one["event"] in ("done", "error")]

    async def pack(self) -> None:
        """Packs the events of all turns, as retention does after days."""

        def work(conn: Connection) -> None:
            rows = conn.execute("select session_id, first_event, last_event from turns").fetchall()
            for row in rows:
                while events.pack(conn, *row):
                    pass

        await self.engine.db.write(work)

    async def rows(self) -> dict[str, int]:
        """The numbers of rows of history."""

        def count(conn: Connection) -> dict[str, int]:
            tables = ("sessions", "events", "messages", "turns", "shared_history", "removals", "summaries", "results")
            return {one: conn.execute(f"select count(*) from {one}").fetchone()[0] for one in tables}

        return await self.engine.db.read(count)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    provider = ScriptedProvider([say("answer")])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine, tools=("current_time",))
        yield Served(engine, client, provider)
        await engine.retention.run_once()
        assert not await engine.db.read(wrong)


async def three(served: Served) -> str:
    session_id: str = (await served.say("1"))["session_id"]
    for n in "23":
        await served.say(n, session_id)
    return session_id


@pytest.mark.parametrize("packed", [False, True])
async def test_a_fork_has_the_same_events_and_messages_and_goes_on_behind_them(served: Served, packed: bool) -> None:
    session_id = await three(served)
    if packed:
        await served.pack()
    before, ends = await served.events(session_id), await served.ends(session_id)
    made = await served.fork(session_id, after=ends[1])
    assert made["forked_from"] == {"session_id": session_id, "after": ends[1]}
    assert made["message_count"] == 4
    assert (await served.get(made["id"]))["forked_from"] == made["forked_from"]
    assert await served.events(made["id"]) == before[: ends[1]]
    assert await served.texts(made["id"]) == ["1", "answer", "2", "answer"]
    await served.say("other", made["id"])
    assert [message.content for message in served.provider.requests[-1].messages] == [
        *("1", "answer", "2", "answer", "other")
    ]
    after = await served.events(made["id"])
    assert after[: ends[1]] == before[: ends[1]]
    assert [one["id"] for one in after] == [*range(1, len(after) + 1)]
    assert await served.events(session_id) == before
    assert await served.texts(made["id"]) == ["1", "answer", "2", "answer", "other", "answer"]
    newest = await served.get(made["id"])
    assert [one["content"] for one in newest["messages"]] == await served.texts(made["id"])


async def test_the_stream_of_a_fork_replays_the_shared_frames_byte_for_byte(served: Served) -> None:
    session_id = await three(served)
    made = await served.fork(session_id)
    last = (await served.ends(session_id))[-1]
    frames = []
    for one in (session_id, made["id"]):
        async with served.client.stream("GET", f"{SESSIONS}/{one}/events?after=2") as response:
            found = []
            async for event in events_of(response):
                found.append(event)
                if int(event.id) == last:
                    break
            frames.append(found)
    assert frames[0] == frames[1]


async def test_without_a_number_it_has_all_turns_that_have_ended_and_forks_of_forks_too(served: Served) -> None:
    session_id = await three(served)
    one = await served.fork(session_id, after=(await served.ends(session_id))[0])
    await served.say("a", one["id"])
    two = await served.fork(one["id"])
    await served.say("b", two["id"])
    same = await served.fork(two["id"], after=(await served.ends(two["id"]))[0])
    fresh = await served.fork(same["id"])
    assert await served.texts(two["id"]) == ["1", "answer", "a", "answer", "b", "answer"]
    assert await served.texts(same["id"]) == await served.texts(fresh["id"]) == ["1", "answer"]
    forks = await served.get(session_id, "/forks")
    assert [row["id"] for row in forks["data"]] == [one["id"]]
    assert (await served.get(one["id"], "/forks"))["total"] == 1
    assert (await served.rows())["messages"] == 6 + 2 + 2


async def test_a_number_in_the_middle_of_a_turn_is_refused_with_those_that_are_allowed(served: Served) -> None:
    session_id = await three(served)
    ends = await served.ends(session_id)
    answer = await served.client.post(f"{SESSIONS}/{session_id}/fork", json={"after": ends[1] - 1})
    assert answer.status_code == 422
    words = f"is not the number of the last event of a turn that has ended; next to {ends[1] - 1}: "
    assert answer.json()["details"] == [{"path": "$.after", "message": f"{words}{ends[0]} or {ends[1]}"}]
    answer = await served.client.post(f"{SESSIONS}/{session_id}/fork", json={"after": 10_000})
    assert f"{ends[2]}" in answer.json()["message"]
    assert (await served.client.post(f"{SESSIONS}/{session_id}/fork", json={"after": 0})).status_code == 400
    assert (await served.rows())["sessions"] == 1


async def test_a_key_forks_once(served: Served) -> None:
    session_id = await three(served)
    head = {"Idempotency-Key": "k"}
    answers = [await served.client.post(f"{SESSIONS}/{session_id}/fork", json={}, headers=head) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert (await served.get(session_id, "/forks"))["total"] == 1


async def test_usage_and_turns_are_counted_once(served: Served) -> None:
    session_id = await three(served)
    before = (await served.client.get("/api/v1/usage")).json()
    made = await served.fork(session_id)
    assert (await served.client.get("/api/v1/usage")).json() == before
    assert made["status"] == "completed"
    assert (await served.get(made["id"]))["usage"]["input_tokens"] == 0
    turn_id = (await served.events(session_id))[-1]["data"]["turn_id"]
    answer = await served.get(made["id"], f"/turns/{turn_id}")
    assert answer["message"] == "answer"
    later = (await served.say("4", session_id))["turn_id"]
    assert (await served.client.get(f"{SESSIONS}/{made['id']}/turns/{later}")).status_code == 404


async def test_an_edit_answers_in_a_fork_without_the_turn_that_it_replaces(served: Served) -> None:
    session_id = await three(served)
    events = await served.events(session_id)
    second = [one["data"]["turn_id"] for one in events if one["event"] == "done"][1]
    body = {"turn_id": second, "message": "two, but other", "stream": False}
    answers = [
        await served.client.post(f"{SESSIONS}/{session_id}/edit", json=body, headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    fork = answers[0].json()["session_id"]
    assert answers[0].headers["x-session-id"] == fork != session_id
    assert await served.texts(fork) == ["1", "answer", "two, but other", "answer"]
    assert await served.texts(session_id) == ["1", "answer", "2", "answer", "3", "answer"]
    ends = await served.ends(session_id)
    assert (await served.get(fork))["forked_from"] == {"session_id": session_id, "after": ends[0]}
    assert (await served.get(session_id, "/forks"))["total"] == 1


async def test_an_edit_of_the_first_turn_begins_without_a_history_and_streams(served: Served) -> None:
    session_id = await three(served)
    first = next(one["data"]["turn_id"] for one in await served.events(session_id) if one["event"] == "done")
    body = {"turn_id": first, "message": "begin anew"}
    async with served.client.stream("POST", f"{SESSIONS}/{session_id}/edit", json=body) as response:
        events = [event async for event in events_of(response)]
        fork = response.headers["x-session-id"]
    assert [int(event.id) for event in events] == [1, 2, 3]
    assert json.loads(events[-1].data)["session_id"] == fork
    stored = await served.get(fork)
    assert (stored["title"], stored["forked_from"]["after"]) == ("begin anew", 0)
    assert await served.texts(fork) == ["begin anew", "answer"]
    again = next(one["data"]["turn_id"] for one in await served.events(fork) if one["event"] == "done")
    body = {"turn_id": again, "message": "and anew", "stream": False}
    assert (await served.client.post(f"{SESSIONS}/{fork}/edit", json=body)).status_code == 200
    assert (await served.client.post(f"{SESSIONS}/{fork}/edit", json=body | {"turn_id": "x"})).status_code == 404
    assert (await served.client.post(f"{SESSIONS}/{fork}/edit", json=body | {"session_id": "x"})).status_code == 400


@pytest.mark.parametrize("first", ["origin", "fork"])
async def test_deleting_one_harms_no_other_and_at_last_nothing_is_left(served: Served, first: str) -> None:
    session_id = await three(served)
    ends = await served.ends(session_id)
    one = (await served.fork(session_id, after=ends[1]))["id"]
    two = (await served.fork(session_id, after=ends[0]))["id"]
    await served.say("a", one)
    three_ = (await served.fork(one))["id"]
    texts = {name: await served.texts(name) for name in (session_id, one, two, three_)}
    events = {name: await served.events(name) for name in texts}
    order = [session_id, one, three_, two] if first == "origin" else [three_, one, two, session_id]
    for n, name in enumerate(order):
        assert (await served.client.delete(f"{SESSIONS}/{name}")).status_code == 204
        assert (await served.client.get(f"{SESSIONS}/{name}")).status_code == 404
        for other in order[n + 1 :]:
            assert await served.texts(other) == texts[other]
            assert await served.events(other) == events[other]
            await served.say("more", other)
            texts[other], events[other] = await served.texts(other), await served.events(other)
        assert not await served.engine.db.read(wrong)
        if first == "origin" and n == 0:  # what no fork shares is gone at once
            assert (await served.rows())["messages"] == 4 + 2 + 3 * 2
    assert set((await served.rows()).values()) == {0}


async def test_a_long_result_can_be_read_in_the_fork(served: Served) -> None:
    session_id = await three(served)
    turn_id = (await served.events(session_id))[-1]["data"]["turn_id"]
    keep = messages.keep_result
    await served.engine.db.write(keep, session_id, turn_id, "call_9", "all of it")
    early = (await served.fork(session_id, after=(await served.ends(session_id))[0]))["id"]
    late = (await served.fork(session_id))["id"]
    read = served.engine.db.read
    assert await read(messages.whole_result, late, "call_9") == "all of it"
    assert await read(messages.has_results, late)
    assert await read(messages.whole_result, early, "call_9") is None
    assert not await read(messages.has_results, early)


async def test_a_summary_goes_along_where_it_ends_before_the_fork(served: Served) -> None:
    session_id = await three(served)
    await served.engine.db.write(messages.summarise, session_id, 4, "they counted")
    ends = await served.ends(session_id)
    early, late = [(await served.fork(session_id, after=end))["id"] for end in (ends[0], ends[1])]
    for name, system in ((early, False), (late, True)):
        await served.say("go on", name)
        assert ("they counted" in served.provider.requests[-1].system) is system


async def test_without_a_number_the_newest_turn_is_the_last_to_end_whenever_its_message_came(served: Served) -> None:
    served.provider.answers[:] = [[say("one"), asyncio.Event()], [say("two")], [say("three")]]
    session_id, _ = await begin(served.client, "1")
    queued = asyncio.create_task(chat(served.client, "test", "3", session_id=session_id))
    await waiting(served.engine, session_id, 1)
    await served.say("2", session_id, on_busy="interrupt")
    await queued
    assert await served.texts((await served.fork(session_id))["id"]) == ["1", "one", "2", "two", "3", "three"]


async def test_a_turn_can_be_read_in_a_fork_once_its_session_is_deleted(served: Served) -> None:
    session_id = await three(served)
    one, two = [one["data"]["turn_id"] for one in await served.events(session_id) if one["event"] == "done"][:2]
    fork = (await served.fork(session_id, after=(await served.ends(session_id))[0]))["id"]
    before = await served.get(fork, f"/turns/{one}")
    await served.client.delete(f"{SESSIONS}/{session_id}")
    assert await served.get(fork, f"/turns/{one}") == before
    assert (await served.client.get(f"{SESSIONS}/{fork}/turns/{two}")).status_code == 404
    assert (await served.client.get(f"{SESSIONS}/{session_id}/turns/{one}")).status_code == 404
