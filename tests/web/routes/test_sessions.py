"""Sessions over REST."""

import asyncio
import json
import threading

import httpx
import msgspec
import pytest

from bytebrew.contract.connection import Connection
from bytebrew.contract.lists import PAGE_BYTES
from bytebrew.contract.messages import Message
from bytebrew.engine import Engine
from bytebrew.store.database.scans import SCANNERS
from bytebrew.testing import served_engine

CHAT = "/api/v1/schemas/demo/chat"
URL = "/api/v1/sessions"


async def say(client: httpx.AsyncClient, message: str, **body: object) -> str:
    answer = await client.post(CHAT, json={"message": message, "stream": False, **body})
    assert answer.status_code == 200, answer.text
    session_id: str = answer.json()["session_id"]
    return session_id


async def test_pages_go_through_all_sessions_newest_first() -> None:
    async with served_engine() as (_, client):
        ids = [await say(client, f"hello {n}") for n in range(5)]
        first = (await client.get(f"{URL}?limit=2")).json()
        assert first["sessions"] == first["data"]
        assert (first["total"], first["page"], first["per_page"], first["total_pages"]) == (5, 1, 2, 3)
        assert [row["title"] for row in first["sessions"]] == ["hello 4", "hello 3"]
        second = (await client.get(f"{URL}?page=2&per_page=2")).json()
        after = (await client.get(f"{URL}?per_page=2&after={first['next']}")).json()
        assert [row["id"] for row in second["data"]] == [row["id"] for row in after["data"]] == [ids[2], ids[1]]
        last = (await client.get(f"{URL}?page=3&per_page=2")).json()
        assert ([row["id"] for row in last["data"]], last["next"]) == ([ids[0]], None)
        odd = (await client.get(f"{URL}?page=zero&per_page=1000")).json()
        assert (odd["page"], odd["per_page"], len(odd["data"])) == (1, 100, 5)


async def test_a_message_names_its_turn() -> None:
    async with served_engine() as (_, client):
        first = (await client.post(CHAT, json={"message": "hello", "stream": False})).json()
        session = first["session_id"]
        body = {"message": "and you", "stream": False, "session_id": session}
        answers = [first, (await client.post(CHAT, json=body)).json()]
        rows = (await client.get(f"{URL}/{session}/messages")).json()
        assert [(row["role"], row["turn_id"]) for row in rows] == [
            (role, answer["turn_id"]) for answer in answers for role in ("user", "assistant")
        ]


async def test_filters_narrow_the_list() -> None:
    async with served_engine() as (_, client):
        await say(client, "one", user_sub="u1")
        await say(client, "two", user_sub="u2")

        async def titles(query: str) -> list[str]:
            return [row["title"] for row in (await client.get(f"{URL}?{query}")).json()["data"]]

        assert await titles("user_sub=u1") == ["one"]
        assert await titles("agent=demo&status=completed") == ["two", "one"]
        assert await titles("agent=other") == []
        assert await titles("status=active") == []
        assert await titles("from=2020-01-01") == ["two", "one"]
        assert await titles("to=2020-01-01") == []
        assert (await client.get(f"{URL}?from=yesterday")).status_code == 400
        assert (await client.get(f"{URL}?after=nowhere")).status_code == 404


async def test_a_session_shows_its_messages_and_tokens() -> None:
    async with served_engine() as (_, client):
        session_id = await say(client, "What is the current_time?")
        session = (await client.get(f"{URL}/{session_id}")).json()
    assert (session["agent"], session["schema"], session["status"]) == ("demo", "demo", "completed")
    assert (session["message_count"], session["usage"]["output_tokens"] > 0) == (4, True)
    assert session["usage"]["cost_usd"] is None
    assert [message["role"] for message in session["messages"]] == ["user", "assistant", "tool", "assistant"]
    call, result = session["messages"][1]["tool_calls"][0], session["messages"][2]
    assert (call["tool"], call["call_id"]) == ("current_time", result["call_id"])


async def test_a_page_of_events_is_json() -> None:
    async with served_engine() as (_, client):
        session_id = await say(client, "hello")
        whole = (await client.get(f"{URL}/{session_id}/events?follow=false")).json()
        page = (await client.get(f"{URL}/{session_id}/events?follow=false&after=2&limit=3")).json()
        assert page["events"] == whole["events"][2:5]
        assert page["last"] == whole["last"] == len(whole["events"])
        assert whole["events"][-1]["event"] == "done"
        for after in ("x", "-1", "1.5", "9" * 30):
            assert (await client.get(f"{URL}/{session_id}/events?after={after}")).status_code == 400


async def test_a_title_can_be_changed() -> None:
    async with served_engine() as (_, client):
        session_id = await say(client, "hello")
        for method, title in (("PUT", "a"), ("PATCH", "b")):
            answer = await client.request(method, f"{URL}/{session_id}", json={"title": title})
            assert (answer.status_code, answer.json()["title"]) == (200, title)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/messages"),
        ("GET", "/events"),
        ("POST", "/cancel"),
        ("PATCH", ""),
    ],
)
async def test_an_unknown_session_is_a_404(method: str, path: str) -> None:
    async with served_engine() as (_, client):
        body = {"title": "x"} if method == "PATCH" else None
        answer = await client.request(method, f"{URL}/a1b2c3d4{path}", json=body)
    assert (answer.status_code, answer.json()["error"]) == (404, "not_found")


async def long_session(engine: Engine, client: httpx.AsyncClient, count: int, size: int) -> str:
    """A session with so many messages of so many characters."""
    session_id = await say(client, "hello")
    body = msgspec.json.encode(Message("assistant", "x" * size)).decode()

    def fill(conn: Connection) -> None:
        conn.execute("delete from messages where session_id = ?", (session_id,))
        conn.executemany(
            "insert into messages values (?, ?, 'turn', ?, 1, '2026-03-01T00:00:00.000000Z')",
            [(session_id, n + 1, body) for n in range(count)],
        )

    await engine.db.write(fill)
    return session_id


async def test_a_long_session_shows_its_newest_megabyte_and_how_many_messages_come_before() -> None:
    async with served_engine() as (engine, client):
        session_id = await long_session(engine, client, 100, PAGE_BYTES // 10)
        answer = await client.get(f"{URL}/{session_id}")
        session = answer.json()
        assert len(answer.content) < 1.2 * PAGE_BYTES
        assert [message["id"] for message in session["messages"]] == [str(n) for n in range(91, 101)]
        assert (session["message_count"], session["earlier_messages"]) == (100, 90)
        one = await long_session(engine, client, 3, 3 * PAGE_BYTES)
        assert (await client.get(f"{URL}/{one}")).json()["earlier_messages"] == 2
        short = (await client.get(f"{URL}/{await say(client, 'hello')}")).json()
        assert (len(short["messages"]), short["earlier_messages"]) == (2, 0)


async def test_messages_are_paged_by_bytes_along_links_or_sent_as_lines() -> None:
    async with served_engine() as (engine, client):
        session_id = await long_session(engine, client, 100, PAGE_BYTES // 10)
        path: str | None = f"{URL}/{session_id}/messages"
        ids: list[str] = []
        pages = 0
        while path:
            answer = await client.get(path)
            assert len(answer.content) < 1.2 * PAGE_BYTES
            ids += [message["id"] for message in answer.json()]
            path = answer.links.get("next", {}).get("url")
            pages += 1
        everything = [str(n) for n in range(1, 101)]
        assert (ids, pages) == (everything, 10)
        for query, headers in (("format=ndjson", {}), ("limit=7", {"accept": "application/x-ndjson"})):
            answer = await client.get(f"{URL}/{session_id}/messages?{query}", headers=headers)
            assert answer.headers["content-type"] == "application/x-ndjson"
            assert [json.loads(line)["id"] for line in answer.text.splitlines()] == everything
        rest = await client.get(f"{URL}/{session_id}/messages?format=ndjson&after=98")
        assert [json.loads(line)["id"] for line in rest.text.splitlines()] == ["99", "100"]
        assert (await client.get(f"{URL}/{session_id}/messages?format=csv")).status_code == 400
        assert (await client.get(f"{URL}/nowhere/messages?format=ndjson")).status_code == 404


async def test_chats_and_logins_are_answered_while_every_list_waits() -> None:
    async with served_engine() as (engine, client):
        go_on = threading.Event()
        scans = [asyncio.create_task(engine.db.scan(lambda conn: go_on.wait(20))) for _ in range(SCANNERS)]
        lists = [asyncio.create_task(client.get("/api/v1/approvals")) for _ in range(4)]
        await asyncio.sleep(0.05)
        for _ in range(3):
            await say(client, "hello")
        assert not any(one.done() for one in lists)
        go_on.set()
        await asyncio.gather(*scans)
        assert [answer.status_code for answer in await asyncio.gather(*lists)] == [200] * 4
