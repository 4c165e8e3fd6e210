"""People are forgotten wherever their turns run."""

import asyncio

import anyio
import pytest

from bytebrew.contract.connection import Connection
from bytebrew.contract.messages import ToolCall, Usage
from bytebrew.contract.tool import tool
from bytebrew.conversation import forgetting
from bytebrew.store.people import forgettings
from bytebrew.testing import client
from bytebrew.web.routes import users
from tests.nodes.chats import Stream, data, eventually, say, two
from tests.nodes.engines import Node
from tests.nodes.test_takeovers import _take_over

pytestmark = pytest.mark.postgresql


def _rows(conn: Connection, word: str) -> list[str]:
    """The tables that have a word in any of their columns."""
    sql = """select table_name, column_name from information_schema.columns
      where table_schema = 'public' and data_type in ('text', 'bytea', 'jsonb')"""
    return sorted(
        {
            table
            for table, column in conn.execute(sql).fetchall()
            for row in conn.execute(f'select "{column}" from "{table}"')
            if word in (row[0].decode(errors="replace") if isinstance(row[0], bytes) else str(row[0]))
        }
    )


async def traces(node: Node, word: str = "annzq") -> list[str]:
    return await node.engine.db.read(_rows, word)


@pytest.mark.parametrize("at", ["the leader", "the other"])
async def test_a_person_is_forgotten_whose_turn_another_node_runs(at: str) -> None:
    async with two([say("annzq"), asyncio.Event()]) as (a, b, vendor):
        running = Stream(b.http, "annzq", user_sub="annzq")
        await running.until("message_delta")
        async with a.http.stream("GET", f"/api/v1/sessions/{running.session}/events") as followed:
            assert {"events", "sessions", "turns"} <= {*await traces(a)}
            answer = await (a if at == "the leader" else b).http.delete("/api/v1/users/annzq")
            assert (answer.status_code, answer.json()["status"]) == (200, "done"), answer.text
            with anyio.fail_after(10):
                seen = "".join([text async for text in followed.aiter_text()])
        assert "event: error" in seen
        await running.task
        assert data(running.events[-1]).get("status") == "cancelled"
        assert vendor.cancelled == 1
        assert not b.engine.runner.turns
        assert not await traces(a)
        for node in (a, b):
            assert (await node.http.get(f"/api/v1/sessions/{running.session}")).status_code == 404


async def test_who_is_to_be_forgotten_is_so_once_another_node_has_ended_the_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forgetting, "STOP_SECONDS", 0.1)
    monkeypatch.setattr(users, "WAIT_SECONDS", 2.0)
    begun, gate = asyncio.Event(), asyncio.Event()

    @tool
    async def stubborn() -> str:
        """Does not end when it is cancelled."""
        begun.set()
        with anyio.CancelScope(shield=True):
            await gate.wait()
        return "annzq"

    async with two([Usage(7, 1), ToolCall("stubborn", {}, "c1")], tools=[stubborn]) as (a, b, _):
        running = Stream(b.http, "annzq", user_sub="annzq")
        await begun.wait()
        answer = await a.http.delete("/api/v1/users/annzq")
        still = bool(b.engine.runner.turns)
        gate.set()  # before what may fail: no node stops while the tool runs
        assert (still, answer.status_code, answer.json()["status"]) == (True, 202, "deleting")
        with anyio.fail_after(20):
            while (answer := await a.http.delete("/api/v1/users/annzq")).status_code == 202:
                pass
        assert answer.json()["status"] == "done"
        assert not b.engine.runner.turns
        assert not await traces(a)
        await running.task


async def test_a_message_of_a_person_in_the_session_of_another_ends_before_the_person_is_forgotten() -> None:
    async with two([say("one")], [say("two"), asyncio.Event()]) as (a, b, vendor):
        first = Stream(b.http, "1")
        await first.whole()
        made = (await b.http.post("/api/v1/auth/tokens", json={"name": "other", "scopes": ["admin"]})).json()
        async with client(b.engine, made["token"]) as http:
            second = Stream(http, "2", session_id=first.session)
            await second.until("message_delta")
            subject = f"token:{made['id']}"
            answer = await a.http.delete(f"/api/v1/users/{subject}")
            assert (answer.status_code, answer.json()["status"]) == (200, "done"), answer.text
            assert vendor.cancelled == 1
            await second.task
        assert (await a.http.get(f"/api/v1/sessions/{first.session}")).status_code == 200
        assert "usage" not in await traces(a, subject)


async def test_a_person_is_forgotten_by_the_next_leader_if_the_one_that_began_is_lost() -> None:
    async with two([say("annzq")]) as (a, b, _):
        await Stream(b.http, "annzq", user_sub="annzq").whole()
        a.engine.duties.cancel("forgettings")  # as one that hangs
        asked = asyncio.create_task(b.http.delete("/api/v1/users/annzq"))
        await eventually(lambda: _is_asked(b))
        await _take_over(b, a)
        with anyio.fail_after(20):
            answer = await asked
        assert (answer.status_code, answer.json()["status"]) == (200, "done"), answer.text
        assert not await traces(b)


async def _is_asked(node: Node) -> bool:
    return bool(await node.engine.db.read(forgettings.list_all))
