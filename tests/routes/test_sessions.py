"""Sessions over REST."""

import httpx
import pytest

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
