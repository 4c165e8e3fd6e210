"""Every list has one shape as a page: rows, how many there are, where the page lies, and how to go on."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bytebrew.testing import chat, served_engine
from tests.conversation.test_confirmations import PAY, configure, engine_on
from tests.tables import check_refusal

SHAPE = {"data", "total", "limit", "offset", "next"}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with served_engine() as (_, client):
        for name in ("a", "b", "c"):
            await client.post("/api/v1/agents", json={"name": name})
        yield client


async def page(client: httpx.AsyncClient, query: str) -> dict[str, Any]:
    answer = await client.get(f"/api/v1/agents?{query}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_list_without_parameters_is_the_array_that_it_was(client: httpx.AsyncClient) -> None:
    rows = (await client.get("/api/v1/agents")).json()
    assert [row["name"] for row in rows] == ["a", "b", "c", "demo"]


async def test_with_limit_or_offset_or_a_cursor_it_is_a_page(client: httpx.AsyncClient) -> None:
    first = await page(client, "limit=3")
    assert set(first) == SHAPE
    assert ([row["name"] for row in first["data"]], first["total"]) == (["a", "b", "c"], 4)
    assert (first["limit"], first["offset"], first["next"]) == (3, 0, "3")
    last = await page(client, f"limit=3&after={first['next']}")
    assert ([row["name"] for row in last["data"]], last["next"], last["offset"]) == (["demo"], None, 3)
    assert [row["name"] for row in (await page(client, "offset=1&limit=2"))["data"]] == ["b", "c"]
    assert (await page(client, "offset=9"))["data"] == []


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=many", "limit=1001", "offset=-1", "after=x", "limit=", "offset=x&after=1"]
)
async def test_a_number_that_is_none_is_a_400(query: str, shared_client: httpx.AsyncClient) -> None:
    answer = await shared_client.get(f"/api/v1/agents?{query}")
    assert answer.status_code == 400
    assert check_refusal(answer)["details"][0]["path"] == f"$.{query.partition('=')[0]}"


async def test_every_list_of_the_document_has_the_shape(client: httpx.AsyncClient) -> None:
    await chat(client, "demo", "Hi")
    session = (await client.get("/api/v1/sessions")).json()["data"][0]["id"]
    await client.post("/api/v1/tasks", json={"agent": "demo", "title": "t", "mode": "interactive"})
    task = (await client.get("/api/v1/tasks")).json()["data"][0]["id"]
    base = (await client.post("/api/v1/knowledge-bases", json={"name": "base"})).json()["id"]
    keys = {"agents": "demo", "schemas": "demo", "sessions": session, "tasks": task, "knowledge-bases": base}
    for collection, item in (
        ("tools", {"url": "http://127.0.0.1:1/"}),
        ("mcp-servers", {"url": "http://127.0.0.1:1/", "enabled": False}),
        ("budgets", {"tokens": 10**6, "window": "day"}),
        ("rate-limits", {"per": "token", "tiers": {"all": {"requests": 5}}}),
        ("schedules", {"cron": "0 9 1 1 *", "agent": "demo"}),
        ("webhooks", {"agent": "demo"}),
        ("callbacks", {"url": "https://example.com/", "events": ["turn.failed"]}),
    ):
        made = await client.post(f"/api/v1/{collection}", json={"name": "one", **item})
        assert made.status_code == 201, made.text
        keys[collection] = "one"
    keys["models"] = "demo"
    document = (await client.get("/api/v1/openapi.json")).json()
    walked = 0
    for path, methods in document["paths"].items():
        named = {one["name"] for one in methods.get("get", {}).get("parameters", ()) if one["in"] == "query"}
        if not {"limit", "offset"} <= named:
            content = methods.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
            assert content.get("application/json", {}).get("schema", {}).get("type") != "array", path
            continue
        collection = path.split("/")[3]
        url = path.replace("{name}", keys.get(collection, "")).replace("{id}", keys.get(collection, ""))
        answer = await client.get(url, params={"limit": "1", "offset": "0"})
        assert answer.status_code == 200, (url, answer.text)
        found = answer.json()
        assert set(found) >= SHAPE, path
        assert (found["limit"], found["offset"], len(found["data"])) == (1, 0, min(1, found["total"])), path
        if found["next"]:
            behind = await client.get(url, params={"limit": "1", "after": found["next"]})
            assert behind.status_code == 200, (url, behind.text)
        walked += 1
    assert walked > 20


async def test_the_inbox_of_questions_is_read_by_offset_and_by_cursor(tmp_path: Path) -> None:
    async with engine_on(tmp_path) as (_, client, _):
        await configure(client, confirm_before=["pay"])
        for _ in range(3):
            await client.post("/api/v1/schemas/test/chat", json={"message": json.dumps(PAY), "stream": False})
        whole = (await client.get("/api/v1/approvals")).json()
        second = (await client.get("/api/v1/approvals?limit=1&offset=1")).json()
        third = (await client.get(f"/api/v1/approvals?limit=1&after={second['next']}")).json()
    assert (whole["total"], whole["offset"], whole["next"]) == (3, 0, None)
    assert (second["data"], second["total"], second["offset"]) == (whole["data"][1:2], 3, 1)
    assert (third["data"], third["next"]) == (whole["data"][2:], None)


async def test_what_stands_beside_an_offset_is_read_too(client: httpx.AsyncClient) -> None:
    await chat(client, "demo", "Hi")
    url = f"/api/v1/sessions/{(await client.get('/api/v1/sessions')).json()['data'][0]['id']}/messages"
    assert [row["id"] for row in (await client.get(f"{url}?offset=0&after=1")).json()["data"]] == ["2"]
    assert len((await client.get(f"{url}?offset=0&format=ndjson")).text.splitlines()) == 2
    for query in ("offset=0&after=x", "offset=x", "offset=0&format=x"):
        assert (await client.get(f"{url}?{query}")).status_code == 400, query


async def test_older_names_stay_beside_the_new_ones(client: httpx.AsyncClient) -> None:
    await chat(client, "demo", "Hi")
    old = (await client.get("/api/v1/sessions", params={"page": "1", "per_page": "5"})).json()
    assert old["sessions"] == old["data"]
    assert (old["page"], old["per_page"], old["total_pages"], old["limit"], old["offset"]) == (1, 5, 1, 5, 0)
    session = old["data"][0]["id"]
    events = (await client.get(f"/api/v1/sessions/{session}/events", params={"follow": "false", "limit": "2"})).json()
    assert (events["events"], events["total"], events["limit"]) == (events["data"], events["last"], 2)
    inbox = (await client.get("/api/v1/approvals")).json()
    assert (inbox["data"], inbox["total"], inbox["next"]) == ([], 0, None)


async def test_a_cursor_that_is_none_of_a_list_is_refused_in_the_lists_own_words(client: httpx.AsyncClient) -> None:
    await chat(client, "demo", "Hi")
    session = (await client.get("/api/v1/sessions")).json()["data"][0]["id"]
    for path, row in (("sessions", "session"), ("tasks", "task"), ("audit", "entry"), ("audit/tool-calls", "entry")):
        answer = await client.get(f"/api/v1/{path}?after=no-such")
        words = f"There is no {row} 'no-such' to go on after; read the list from the start"
        assert (answer.status_code, check_refusal(answer)["message"]) == (404, words)
    answer = await client.get(f"/api/v1/sessions/{session}/messages?after=no-such")
    assert (answer.status_code, check_refusal(answer)["message"]) == (
        400,
        "after is the number of a message, such as 17",
    )


async def test_the_document_says_which_lists_are_pages_with_other_parameters(client: httpx.AsyncClient) -> None:
    """Followed by `next`, a list stays a page only with the parameters that the document names."""
    await chat(client, "demo", "Hi")
    session = (await client.get("/api/v1/sessions")).json()["data"][0]["id"]
    words = " ".join((await client.get("/api/v1/openapi.json")).json()["info"]["description"].split())
    assert "memories are with `offset` or `after`, and a session's messages with `offset` alone" in words
    for url, kept in ((f"sessions/{session}/messages", {"offset": "0"}), ("schemas/demo/memory", {})):
        first = (await client.get(f"/api/v1/{url}", params={"limit": "1", "offset": "0"})).json()
        behind = (
            await client.get(f"/api/v1/{url}", params={"limit": "1", "after": first["next"] or "0", **kept})
        ).json()
        assert set(behind) == SHAPE, url
        assert [row["id"] for row in first["data"] + behind["data"]] == ["1", "2"][: first["total"]]
