"""Forks and edits at one node of sessions that another one runs."""

import asyncio
from typing import Any

import pytest

from bytebrew.testing import events_of
from tests.nodes.chats import Stream, data, say, two
from tests.nodes.engines import Node

pytestmark = pytest.mark.postgresql


async def _contents(node: Node, session: str) -> list[tuple[str, str]]:
    rows = (await node.http.get(f"/api/v1/sessions/{session}/messages")).json()
    return [(one["role"], one["content"]) for one in rows]


async def _edited(node: Node, session: str, turn: str, message: str) -> dict[str, Any]:
    body = {"turn_id": turn, "message": message, "stream": False}
    answer = await node.http.post(f"/api/v1/sessions/{session}/edit", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_session_is_forked_while_another_node_runs_it() -> None:
    gate = asyncio.Event()
    async with two([say("one")], [say("two"), gate], [say("three")]) as (a, b, vendor):
        first = Stream(a.http, "1")
        await first.whole()
        running = Stream(a.http, "2", session_id=first.session)
        await running.until("message_delta")
        forked = await b.http.post(f"/api/v1/sessions/{first.session}/fork", json={})
        assert forked.status_code == 201, forked.text
        fork = forked.json()["id"]
        third = Stream(b.http, "3", session_id=fork)
        await third.whole()
        gate.set()
        await running.whole()
        for node in (a, b):
            assert await _contents(node, fork) == [
                *[("user", "1"), ("assistant", "one")],
                *[("user", "3"), ("assistant", "three")],
            ]
            assert [one for _, one in await _contents(node, first.session)] == ["1", "one", "2", "two"]
        assert [one.content for one in vendor.requests[2].messages] == ["1", "one", "3"]
        async with a.http.stream("GET", f"/api/v1/sessions/{fork}/events") as followed:
            shared = []
            async for event in events_of(followed):
                shared.append(event)
                if len(shared) == 6:
                    break
        assert [(one.id, one.event, one.data) for one in shared] == [
            (one.id, one.event, one.data) for one in (*first.events, *third.events)
        ]


async def test_the_message_of_a_turn_that_another_node_runs_is_edited() -> None:
    gate = asyncio.Event()
    async with two([say("one")], [say("two"), gate], [say("instead")]) as (a, b, vendor):
        first = Stream(a.http, "1")
        await first.whole()
        running = Stream(a.http, "2", session_id=first.session)
        await running.until("message_delta")
        other = await _edited(b, first.session, running.headers["x-turn-id"], "2b")
        assert (other["message"], other["session_id"] != first.session) == ("instead", True)
        assert [one.content for one in vendor.requests[2].messages] == ["1", "one", "2b"]
        gate.set()
        await running.whole()
        assert data(running.events[-1])["status"] == "completed"
        assert [one for _, one in await _contents(a, other["session_id"])] == ["1", "one", "2b", "instead"]


async def test_a_message_that_waits_for_another_node_is_not_edited_and_a_fork_of_a_fork_goes_on_anywhere() -> None:
    gate = asyncio.Event()
    async with two([say("one"), gate], [say("next")]) as (a, b, _):
        first = Stream(a.http, "1")
        await first.until("message_delta")
        second = Stream(b.http, "2", session_id=first.session)
        await second.until("queued")
        body = {"turn_id": second.headers["x-turn-id"], "message": "x"}
        refused = await b.http.post(f"/api/v1/sessions/{first.session}/edit", json=body)
        assert refused.status_code == 422, refused.text
        gate.set()
        await second.whole()
        session = first.session
        for n, node in enumerate((b, a, b)):
            session = (await node.http.post(f"/api/v1/sessions/{session}/fork", json={})).json()["id"]
            turn = Stream((a, b)[n % 2].http, f"{n}", session_id=session)
            assert (await turn.whole())[-1] == "done"
        assert [one for role, one in await _contents(a, session) if role == "user"] == ["1", "2", "0", "1", "2"]


async def test_the_same_fork_is_answered_at_two_nodes_at_once_and_its_session_is_deleted_at_a_third_moment() -> None:
    gate = asyncio.Event()
    async with two([say("one")], [say("two"), gate]) as (a, b, vendor):
        first = Stream(a.http, "1")
        await first.whole()
        turn = first.headers["x-turn-id"]
        key = {"Idempotency-Key": "edit"}
        body = {"turn_id": turn, "message": "1b", "stream": False}
        at = f"/api/v1/sessions/{first.session}/edit"
        asked = [asyncio.create_task(node.http.post(at, json=body, headers=key)) for node in (a, b)]
        while len(vendor.requests) < 2:
            await asyncio.sleep(0.01)
        assert (await b.http.delete(f"/api/v1/sessions/{first.session}")).status_code == 204
        gate.set()
        answers = [(await one).json() for one in asked]
        assert answers[0] == answers[1]
        assert len(vendor.requests) == 2
        assert [one for _, one in await _contents(b, answers[0]["session_id"])] == ["1b", "two"]
