"""Headers for tools of messages that another node answers: they reach its tools, and are readable nowhere else."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from bytebrew.contract.connection import Connection
from bytebrew.contract.messages import ToolCall
from bytebrew.testing import Step
from tests.nodes.chats import Stream, eventually, say, two
from tests.nodes.engines import Node
from tests.upstream import Upstream, refused, upstream

pytestmark = pytest.mark.postgresql
SECRET = "acme-5f3a9c"
SENT = {"X-Org-Id": SECRET, "X-Other": "for no tool"}


class Pair(NamedTuple):
    """Two nodes, the system that a tool calls, and the turn that runs on the first node until `go` is set."""

    a: Node
    b: Node
    system: Upstream
    running: Stream
    go: asyncio.Event


@asynccontextmanager
async def pair(*answers: list[Step]) -> AsyncIterator[Pair]:
    go = asyncio.Event()
    async with upstream(refused(200, {"n": 7})) as system, two([say("one"), go], *answers) as (a, b, _):
        tool = {"name": "stock", "method": "GET", "url": system.url, "forward_headers": ["X-Org-Id"]}
        assert (await a.http.post("/api/v1/tools", json=tool)).status_code == 201
        assert (await a.http.patch("/api/v1/agents/test", json={"tools": ["stock"]})).status_code == 200
        running = Stream(a.http, "1")
        await running.until("message_delta")
        yield Pair(a, b, system, running, go)


CALLS: list[list[Step]] = [[ToolCall("stock", {}, "c1")], [say("seven")]]


async def sealed(node: Node, turn: str) -> bytes | None:
    sql = "select headers from turns where id = ?"
    found: bytes | None = await node.engine.db.read(lambda conn: conn.execute(sql, (turn,)).fetchone()[0])
    return found


def _everything(conn: Connection) -> str:
    tables = conn.execute("select table_name from information_schema.tables where table_schema = current_schema()")
    names = [row[0] for row in tables.fetchall()]
    return "\n".join(str(tuple(row)) for name in names for row in conn.execute(f'select * from "{name}"').fetchall())


def of_system(system: Upstream) -> list[str | None]:
    return [one.headers.get("x-org-id") for one in system.requests]


@pytest.mark.parametrize("on_busy", ["queue", "interrupt"])
async def test_tools_get_the_headers_of_a_message_that_another_node_answers(
    on_busy: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with pair(*CALLS) as (_, b, system, running, go):
        waiting = Stream(b.http, "2", session_id=running.session, on_busy=on_busy, sent=SENT)
        if on_busy == "queue":
            await waiting.until("queued")
            assert await sealed(b, waiting.headers["x-turn-id"])
            stored = await b.engine.db.read(_everything)
            assert waiting.headers["x-turn-id"] in stored
            assert SECRET not in stored
            go.set()
        await waiting.task
        assert (waiting.text, of_system(system)) == ("seven", [SECRET])
        assert await sealed(b, waiting.headers["x-turn-id"]) is None
        assert SECRET not in await b.engine.db.read(_everything)
        assert not any(SECRET in str(event) for event in (*running.events, *waiting.events))
        assert not b.engine.turns
    assert SECRET not in caplog.text


async def test_headers_that_the_key_does_not_open_are_left_out(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair(*CALLS) as (a, b, system, running, go):
        await _deaf(a, monkeypatch)
        waiting = Stream(b.http, "2", session_id=running.session, sent=SENT)
        await waiting.until("queued")
        turn, broken = waiting.headers["x-turn-id"], bytes(100)
        await b.engine.db.write(lambda conn: conn.execute("update turns set headers = ?", (broken,)))
        for _ in range(2):
            await a.engine.handover.carry_out(None)
        go.set()
        await waiting.task
        assert (waiting.text, of_system(system)) == ("seven", [None])
        assert await sealed(b, turn) is None
    assert [one.args for one in caplog.records if "does not open the headers" in one.msg] == [(turn,)]


async def test_a_message_that_steers_the_turn_of_another_node_leaves_no_headers() -> None:
    async with pair([say("both")]) as (_, b, system, running, go):
        waiting = Stream(b.http, "2", session_id=running.session, on_busy="steer", sent=SENT)
        await running.until("steer")
        go.set()
        await waiting.task
        assert await sealed(b, waiting.headers["x-turn-id"]) is None
        assert of_system(system) == []


async def test_tools_get_the_headers_of_messages_that_a_stopping_node_leaves_to_another() -> None:
    async with pair([say("one")], *CALLS) as (a, b, system, running, _):
        waiting = Stream(a.http, "2", session_id=running.session, sent=SENT)
        await waiting.until("queued")
        turn = waiting.headers["x-turn-id"]
        assert await sealed(b, turn) is None
        await a.stop()
        await eventually(_ended(b, waiting.session, turn))
        assert of_system(system) == [SECRET]
        assert await sealed(b, turn) is None


def _ended(node: Node, session: str, turn: str) -> Callable[[], Awaitable[bool]]:
    async def ended() -> bool:
        answer = (await node.http.get(f"/api/v1/sessions/{session}/turns/{turn}")).json()
        return bool(answer["status"] == "completed")

    return ended


async def _deaf(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a node not look at what others ask of it."""

    async def nothing(ids: Any) -> None:
        pass

    for inbox in node.engine.signals._inboxes["requests"]:
        monkeypatch.setattr(inbox, "_receiver", nothing)
