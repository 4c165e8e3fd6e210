"""Replays of recorded turns: asked for at one node, run by the leader."""

import asyncio
from typing import Any

import anyio
import pytest

from bytebrew.testing import ScriptedProvider
from tests.nodes.chats import Stream, say, two
from tests.nodes.engines import Node
from tests.nodes.test_takeovers import _take_over

pytestmark = pytest.mark.postgresql
REPLAYS = "/api/v1/replays"


async def _recorded(node: Node, count: int = 1) -> list[str]:
    """Sessions of one turn each."""
    chats = [Stream(node.http, str(n)) for n in range(count)]
    for chat in chats:
        await chat.whole()
    return [chat.session for chat in chats]


async def _report(node: Node, replay: str, status: str = "completed") -> dict[str, Any]:
    with anyio.fail_after(20):
        while (found := (await node.http.get(f"{REPLAYS}/{replay}")).json())["status"] != status:
            await asyncio.sleep(0.02)
    result: dict[str, Any] = found
    return result


async def test_a_replay_that_is_started_at_another_node_is_run_once_by_the_leader() -> None:
    async with two([say("yes")]) as (a, b, vendor):
        sessions = await _recorded(b, 3)
        begun = await b.http.post(REPLAYS, json={"sessions": sessions, "agent": "test"})
        assert begun.status_code == 201, begun.text
        report = await _report(b, begun.json()["id"])
        assert (report["passed"], report["turns"], report["done"]) == (True, 3, 3)
        assert await _report(a, report["id"]) == report
        assert not b.engine.node.leads
    assert len(vendor.requests) == 6


async def test_a_replay_goes_on_at_the_next_leader_and_no_turn_of_it_has_two_reports() -> None:
    gate = asyncio.Event()
    async with two([say("yes")], [say("yes")], [say("yes")], [say("yes"), gate], [say("yes")]) as (a, b, vendor):
        sessions = await _recorded(b, 3)
        begun = (await b.http.post(REPLAYS, json={"sessions": sessions, "agent": "test"})).json()
        await _asked(vendor, 6)
        with anyio.fail_after(20):
            while (await b.http.get(f"{REPLAYS}/{begun['id']}")).json()["done"] < 2:
                await asyncio.sleep(0.02)
        await _take_over(b, a)
        report = await _report(b, begun["id"])
        assert (report["passed"], report["turns"], len(report["reports"])) == (True, 3, 3)
        assert b.engine.node.leads
        gate.set()
    assert len(vendor.requests) == 7


async def _asked(vendor: ScriptedProvider, count: int) -> None:
    with anyio.fail_after(20):
        while len(vendor.requests) < count:
            await asyncio.sleep(0.01)
