"""A node takes over what another has left open, while messages and tasks arrive."""

import asyncio
from typing import Any

import pytest

from bytebrew.contract.connection import Connection
from bytebrew.contract.entities import NewTask
from bytebrew.nodes import members
from bytebrew.store import open_turns, tasks
from tests.nodes.chats import Stream, eventually, say, two
from tests.nodes.engines import Node

pytestmark = pytest.mark.postgresql


async def _take_over(node: Node, lost: Node) -> None:
    assert lost.engine.node.id is not None
    assert node.engine.node.id is not None
    await node.engine.db.write(members.take_over, lost.engine.node.id, node.engine.node.id)


async def _statuses(node: Node, session: str) -> list[str]:
    sql = "select status from turns where session_id = ? order by seq"
    return [row[0] for row in await node.engine.db.read(lambda conn: conn.execute(sql, (session,)).fetchall())]


async def test_a_message_waits_for_a_turn_that_is_being_taken_over() -> None:
    async with two([say("one"), asyncio.Event()], [say("new"), asyncio.Event()], [say("two")]) as (a, b, _):
        first = Stream(a.http, "1")
        await first.until("message_delta")
        async with b.engine.handover.taking:  # as while it adopts many turns
            await _take_over(b, a)
            second = Stream(b.http, "2", session_id=first.session)
            await second.opened()
            assert await _statuses(b, first.session) == ["running", "queued"]


async def test_messages_do_not_overtake_the_turn_that_is_taken_over_with_them() -> None:
    async with two([say("one"), asyncio.Event()], [say("new"), asyncio.Event()], [say("two")]) as (a, b, _):
        first = Stream(a.http, "1")
        await first.until("message_delta")
        second = Stream(b.http, "2", session_id=first.session)
        await second.until("queued")
        await _take_over(b, a)
        await b.engine.handover.carry_out(None)  # the poll comes before the takeover's own look
        await b.engine.handover.adopt()
        lane = b.engine.runner.lanes[first.session]
        assert lane.current.id == first.headers["x-turn-id"]


async def test_a_task_that_a_leaving_node_has_not_begun_is_run_by_another() -> None:
    async with two([say("done")]) as (a, b, vendor):

        def claimed(conn: Connection) -> str:
            made = tasks.create(conn, NewTask(title="t", agent="test", schema="test"), "admin", "api")
            assert tasks.claim(conn, 0, a.engine.node.id)
            return made.id

        task_id = await a.engine.db.write(claimed)
        await a.stop()
        await eventually(lambda: _completed(b, task_id))
    assert len(vendor.requests) == 1


async def test_a_task_that_is_claimed_while_a_node_takes_over_is_run_once() -> None:
    async with two([say("done")], [say("again")]) as (_, b, vendor):

        def create(conn: Connection) -> str:
            return tasks.create(conn, NewTask(title="t", agent="test", schema="test"), "admin", "api").id

        task_id = await b.engine.db.write(create)
        await asyncio.gather(b.engine.tasks._take_all(), b.engine.tasks.adopt())
        await eventually(lambda: _completed(b, task_id))
    assert len(vendor.requests) == 1


async def _completed(node: Node, task_id: str) -> bool:
    found = await node.engine.db.read(tasks.get, task_id)
    return found.status == "completed" and found.attempts == 1


async def test_a_taken_turn_goes_on_behind_events_that_the_node_has_not_seen() -> None:
    go = asyncio.Event()
    async with two([say("one"), go, say("more"), asyncio.Event()], [say("new")]) as (a, b, _):
        first = Stream(a.http, "1")
        await first.until("message_delta")
        log = await b.engine.journal.log(first.session)
        b.engine.signals.stop()
        go.set()
        await eventually(lambda: _stored(a, first.session))
        assert log.last == 1
        await _take_over(b, a)
        await b.engine.handover.adopt()
        await eventually(lambda: _ended(b, first.session))
        assert await _statuses(b, first.session) == ["completed"]


async def test_a_turn_that_ends_while_a_node_looks_for_open_ones_is_not_resumed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go = asyncio.Event()
    async with two([say("one"), go, say("end")], [say("again")]) as (_, b, vendor):
        read = b.engine.db.read

        async def late(work: Any, *args: Any, **kwargs: Any) -> Any:
            if work is not open_turns.left_open:
                return await read(work, *args, **kwargs)
            turn = Stream(b.http, "1")
            await turn.until("message_delta")
            found = await read(work, *args, **kwargs)
            assert found
            go.set()
            await turn.whole()
            return found

        monkeypatch.setattr(b.engine.db, "read", late)
        await b.engine.handover.adopt()
        assert not b.engine.turns
    assert len(vendor.requests) == 1


async def _stored(node: Node, session: str) -> bool:
    sql = "select max(n) from events where session_id = ?"
    return bool(await node.engine.db.read(lambda conn: conn.execute(sql, (session,)).fetchone()[0] == 2))


async def _ended(node: Node, session: str) -> bool:
    return not {"queued", "running"} & {*await _statuses(node, session)}
