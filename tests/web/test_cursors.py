"""Cursors: a client goes on behind what it has seen, or learns that the history is another one."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from bytebrew.contract.events import MessageDelta
from bytebrew.contract.messages import Stop
from bytebrew.testing import ScriptedProvider, chat, events_of, providing, scripted_schema, served_engine
from tests.stored import ON_POSTGRESQL, opened

SESSIONS = "/api/v1/sessions"


def set_epoch(data: Path, epoch: int) -> None:
    """Begins this epoch in a data folder whose engine is down."""
    with opened(data) as conn:
        conn.execute("update history set epoch = ?", (epoch,))


async def said(client: httpx.AsyncClient) -> tuple[str, list[str]]:
    """A session with a turn in it, and the ids of its events."""
    events = await chat(client, "demo", "hello")
    return json.loads(events[-1].data)["session_id"], [event.id for event in events]


async def first_bytes(client: httpx.AsyncClient, url: str, **given: Any) -> tuple[int, bytes]:
    """The status of a request, and what comes first, where that is within 10 s."""
    async with asyncio.timeout(10), client.stream("GET", url, **given) as response:
        if response.status_code != 200:
            return response.status_code, await response.aread()
        body = b""
        async for chunk in response.aiter_raw():
            body += chunk
            if body != b": ok\n\n":
                break
        return 200, body


async def test_the_ids_of_the_first_epoch_are_plain_numbers() -> None:
    async with served_engine() as (engine, client):
        _, ids = await said(client)
    assert engine.journal.epoch == 1
    assert ids == [str(n) for n in range(1, len(ids) + 1)]


async def test_a_later_epoch_is_in_every_id_live_and_replayed(tmp_path: Path) -> None:
    async with served_engine(data=tmp_path) as (_, client):
        session_id, before = await said(client)
    set_epoch(tmp_path, 2)
    async with served_engine(data=tmp_path) as (_, client):
        more = [event.id for event in await chat(client, "demo", "again", session_id=session_id)]
        every = [f"2:{n}" for n in range(1, len(before) + len(more) + 1)]
        assert more == every[len(before) :]
        url = f"{SESSIONS}/{session_id}/events"
        async with client.stream("GET", url) as response:
            events = events_of(response)
            assert [(await anext(events)).id for _ in every] == every
        async with client.stream("GET", url, headers={"Last-Event-ID": every[2]}) as response:
            assert (await anext(events_of(response))).id == every[3]


async def test_pages_go_on_by_next_in_any_epoch(tmp_path: Path) -> None:
    async with served_engine(data=tmp_path) as (_, client):
        session_id, ids = await said(client)
    url = f"{SESSIONS}/{session_id}/events?follow=false&limit=2"
    for epoch in (1, 2):
        set_epoch(tmp_path, epoch)
        async with served_engine(data=tmp_path) as (_, client):
            found, after = [], "0"
            while events := (page := (await client.get(f"{url}&after={after}")).json())["events"]:
                assert page["epoch"] == epoch
                found += [event["id"] for event in events]
                after = page["next"]
            assert found == [int(number) for number in ids]
            assert after == page["next"]


@pytest.mark.parametrize("follow", ["true", "false"])
async def test_a_cursor_ahead_of_the_session_is_refused(follow: str) -> None:
    async with served_engine() as (_, client):
        session_id, ids = await said(client)
        url = f"{SESSIONS}/{session_id}/events?follow={follow}"
        ahead = str(len(ids) + 1)
        for query, headers in ((f"&after={ahead}", {}), ("&after=0", {"Last-Event-ID": ahead})):
            status, body = await first_bytes(client, url + query, headers=headers)
            assert status == 410
            assert b'"error":"history_changed"' in body
            assert b"read again from the start, with after=0" in body
        response = await client.get(f"{SESSIONS}/{session_id}/messages?after=3")
        assert (response.status_code, response.json()["error"]) == (410, "history_changed")
        assert (await client.get(f"{SESSIONS}/{session_id}/messages?after=2")).json() == []


async def test_a_cursor_of_another_epoch_is_refused_though_the_number_is_there(tmp_path: Path) -> None:
    async with served_engine(data=tmp_path) as (_, client):
        session_id, _ = await said(client)
        url = f"{SESSIONS}/{session_id}/events"
        for after, status in (("1:2", 200), ("2:2", 410), ("2:0", 200)):
            assert (await first_bytes(client, f"{url}?after={after}"))[0] == status, after
    set_epoch(tmp_path, 3)
    async with served_engine(data=tmp_path) as (_, client):
        for after, status in (("0", 200), ("3:2", 200), ("2", 410), ("1:2", 410), ("2:2", 410), ("4:2", 410)):
            for asked in ({"params": {"after": after}}, {"headers": {"Last-Event-ID": after}}):
                assert (await first_bytes(client, url, **asked))[0] == status, after


async def test_a_cursor_at_the_end_waits_for_what_comes() -> None:
    async with served_engine() as (_, client):
        session_id, ids = await said(client)
        following = first_bytes(client, f"{SESSIONS}/{session_id}/events", headers={"Last-Event-ID": ids[-1]})
        waiting = asyncio.create_task(following)
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await chat(client, "demo", "again", session_id=session_id)
        status, body = await waiting
    assert status == 200
    assert body.partition(b"id: ")[2].startswith(b"%d\n" % (len(ids) + 1))


async def test_what_a_running_turn_has_sent_is_never_ahead() -> None:
    pause = asyncio.Event()
    script = ScriptedProvider([MessageDelta(content="a"), pause, MessageDelta(content="b"), Stop()])
    async with served_engine(providing(script)) as (engine, client):
        await scripted_schema(engine)
        body = {"message": "hi"}
        async with client.stream("POST", "/api/v1/schemas/test/chat", json=body) as response:
            events = events_of(response)
            last = (await anext(events)).id
            url = f"{SESSIONS}/{response.headers['x-session-id']}/events"
            resumed = asyncio.create_task(first_bytes(client, url, headers={"Last-Event-ID": last}))
            ahead = await first_bytes(client, url, headers={"Last-Event-ID": "99"})
            pause.set()
            assert ahead[0] == 410
            assert b'"content":"b"' in (await resumed)[1]


async def test_what_a_page_has_shown_can_be_followed_before_the_writer_has_told_of_it(tmp_path: Path) -> None:
    """A reader sees what is committed in the file; the log in memory learns of it a moment later."""
    async with served_engine(data=tmp_path) as (engine, client):
        session_id, ids = await said(client)
        log = await engine.journal.log(session_id)
        with opened(tmp_path) as conn:
            copied = "select session_id, n + 1, type, data, at from events where session_id = ? and n = ?"
            conn.execute(f"insert into events {copied}", (session_id, len(ids)))
        url = f"{SESSIONS}/{session_id}/events"
        page = (await client.get(f"{url}?follow=false&after=0")).json()
        assert page["last"] == len(ids) + 1
        async with client.stream("GET", url, params={"after": page["next"]}) as response:
            assert response.status_code == 200
        ahead = await client.get(url, params={"after": page["last"] + 1})
        assert (ahead.status_code, log.committed) == (
            410,
            len(ids) + ON_POSTGRESQL,
        )  # where it looks for other nodes' events


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "9" * 30, ":1", "1:", "1:2:3", "1: 2", "²", " "])
async def test_what_is_no_id_is_a_400(after: str, shared_client: httpx.AsyncClient) -> None:
    session_id, _ = await said(shared_client)
    response = await shared_client.get(f"{SESSIONS}/{session_id}/events", params={"after": after})
    assert (response.status_code, response.json()["details"][0]["path"]) == (400, "$.after")


async def test_a_tasks_events_are_refused_alike() -> None:
    async with served_engine() as (_, client):
        task = (await client.post("/api/v1/tasks", json={"agent": "demo", "title": "hello"})).json()
        status, body = await first_bytes(client, f"/api/v1/tasks/{task['id']}/events?after=9999")
    assert (status, b"history_changed" in body) == (410, True)


async def test_what_is_no_id_is_refused_also_where_the_other_one_is() -> None:
    async with served_engine() as (_, client):
        turn = await client.post("/api/v1/schemas/demo/chat", json={"message": "hi"})
        path = f"/api/v1/sessions/{turn.headers['x-session-id']}/events?follow=false"
        for query, header in (("&after=x", "1"), ("&after=1", "x")):
            answer = await client.get(path + query, headers={"Last-Event-ID": header})
            assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
