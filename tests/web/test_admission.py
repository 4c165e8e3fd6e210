"""More turns than the engine bears are refused at once, and those that run go on."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx
import pytest

from bytebrew.base.formats import new_uuid
from bytebrew.contract.events import MessageDelta
from bytebrew.engine import Engine
from bytebrew.testing import ADMIN, ScriptedProvider, chat, names, plugin, providing, scripted_schema, served_engine
from bytebrew.web.admission import CALM, FEW, LEAST, MOST, TARGET, TICK, Limit, default_turns
from bytebrew.web.http_state import http_state

CHAT = "/api/v1/schemas/test/chat"


@asynccontextmanager
async def busy() -> AsyncIterator[tuple[httpx.AsyncClient, asyncio.Event]]:
    """An engine that takes two turns and has them: one that runs until the event is set, and one in its queue."""
    go_on = asyncio.Event()
    provider = ScriptedProvider([go_on, MessageDelta(content="well")])
    async with served_engine(providing(provider), settings={"BYTEBREW_MAX_TURNS": "2"}) as (engine, client):
        await scripted_schema(engine)
        session_id = new_uuid()
        async with anyio.create_task_group() as group:
            for n in (1, 2):
                group.start_soon(lambda: chat(client, "test", "hello", session_id=session_id))
                while sum(turn.admitted.done() for turn in engine.runner.turns.values()) < n:
                    await anyio.sleep(0.01)
            try:
                yield client, go_on
            finally:
                go_on.set()


async def test_a_turn_too_many_is_refused_with_what_to_do_and_when() -> None:
    async with busy() as (client, _):
        refused = await client.post(CHAT, json={"message": "hello"})
        assert (refused.status_code, refused.json()["error"]) == (503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        assert "try again" in refused.json()["message"] and "BYTEBREW_MAX_TURNS" in refused.json()["message"]


@pytest.mark.parametrize(
    "path", [CHAT, f"{CHAT}?a=b", "/api/v1/schemas/a%20b/chat"], ids=["plain", "with a query", "escaped"]
)
async def test_a_refusal_is_the_same_whether_its_request_was_parsed_or_not(path: str) -> None:
    async with busy() as (client, _):
        short, long = [
            await client.post(path, json={"message": "hello"}, headers=headers)
            for headers in ({}, {"Origin": "https://a.example"})
        ]
        assert (short.status_code, short.json()) == (long.status_code, long.json())
        ours = {name: value for name, value in short.headers.items() if name != "x-request-id"}
        assert "date" not in ours
        assert ours.items() <= long.headers.items()


async def test_requests_that_are_refused_unparsed_may_come_in_pieces_and_on_one_connection() -> None:
    async with busy() as (client, _):
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        head = f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
        for pieces in (
            (head, "{}"),
            (head, "{", f"}}{head}{{}}"),
            (head[:9], head[9:], "{}"),
            (f"{head}{{}}",),
            (f"{head}{{}}{head}{{}}",),
        ):
            for piece in pieces:
                writer.write(piece.encode())
                await asyncio.sleep(0.05)
            for _ in range("".join(pieces).count("POST")):
                with anyio.fail_after(5):
                    answer = await reader.readuntil(b"\r\n\r\n")
                    assert answer.startswith(b"HTTP/1.1 503")
                    assert b'"overloaded"' in await reader.readexactly(int(answer.split(b"content-length: ")[1][:3]))
        writer.close()
        assert (await client.post("/api/v1/schemas/test/chats", json={})).status_code == 404
        assert (await client.get(CHAT)).status_code == 405


@pytest.mark.parametrize(
    "lines",
    [
        "Content-Length: 4\r\nA: b\nTransfer-Encoding: chunked",
        "Content-Length: 4\r\nA: b\rTransfer-Encoding: chunked",
        "Transfer-Encoding\t: chunked\r\nContent-Length: 4",
        "Content-Length: 4\r\nContent-Length: 100",
        "Content-Length: 100\r\nA: b\r\nContent-Length: 4",
        "Content-Length: 4\r\nContent-Length: 3, 100",
        "Content-Length: 4\r\n 0",
        "A\r\nContent-Length: 4",
    ],
)
async def test_no_request_hides_in_the_body_of_one_that_is_refused(lines: str) -> None:
    hidden = "GET /api/v1/health HTTP/1.1\r\nHost: a\r\n\r\n"
    body = f"{len(hidden):x}\r\n{hidden}\r\n0\r\n\r\n"
    async with busy() as (client, _):
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        with closing(writer):
            writer.write(f"POST {CHAT} HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n{body[:4]}".encode())
            await asyncio.sleep(0.05)
            writer.write(body[4:].encode())
            with suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(0.5):
                    while answer := await reader.readline():
                        assert b"HTTP/1.1 200" not in answer


async def test_it_is_refused_before_its_caller_is_known_and_its_body_there() -> None:
    async with busy() as (client, _):
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        head = f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
        writer.write(head.encode())
        with anyio.fail_after(1.5):
            assert (await reader.readline()).startswith(b"HTTP/1.1 503")
        writer.close()


async def test_reads_and_what_ends_turns_go_on_and_health_says_what_is_the_matter() -> None:
    async with busy() as (client, _):
        (session,) = (await client.get("/api/v1/sessions")).json()["sessions"]
        assert (await client.get(f"/api/v1/sessions/{session['id']}/events?follow=false")).status_code == 200
        health = await client.get("/api/v1/health")
        assert (health.status_code, health.json()["status"]) == (200, "overloaded")
        assert "2 turns" in health.json()["overload"]
        assert (await client.post(f"/api/v1/sessions/{session['id']}/cancel")).status_code == 204
        assert "bytebrew_refused_turns_total 0.0" in (await client.get("/metrics")).text
        assert (await client.get("/api/v1/health")).json()["status"] == "ok"


async def test_a_refusal_uses_up_no_idempotency_key() -> None:
    async with busy() as (client, go_on):
        asked = {"json": {"message": "hello", "stream": False}, "headers": {"Idempotency-Key": "k"}}
        assert (await client.post(CHAT, **asked)).status_code == 503  # type: ignore[arg-type]
        go_on.set()
        with anyio.fail_after(5):
            while (answer := await client.post(CHAT, **asked)).status_code == 503:  # type: ignore[arg-type]
                await anyio.sleep(0.01)
        assert answer.json()["message"] == "well"
        assert "bytebrew_refused_turns_total 0.0" not in (await client.get("/metrics")).text


async def test_a_repeat_that_waits_for_its_turn_is_no_second_one() -> None:
    go_on = asyncio.Event()
    provider = ScriptedProvider([go_on, MessageDelta(content="well")])
    async with served_engine(providing(provider), settings={"BYTEBREW_MAX_TURNS": "2"}) as (engine, client):
        await scripted_schema(engine)
        answers: list[int] = []

        async def ask(**more: Any) -> None:
            asked = {"message": "hello", "stream": False}
            answers.append((await client.post(CHAT, json=asked, **more)).status_code)

        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(lambda: ask(headers={"Idempotency-Key": "k"}))
                await anyio.sleep(0.3)
            group.start_soon(ask)
            await anyio.sleep(0.3)
            go_on.set()
        assert answers == [200] * 3


async def test_as_many_as_there_may_be_are_taken_however_many_come_at_once() -> None:
    rest_refused = asyncio.Event()
    async with served_engine(
        providing(ScriptedProvider([rest_refused, MessageDelta(content="well")])), settings={"BYTEBREW_MAX_TURNS": "5"}
    ) as (engine, client):
        await scripted_schema(engine)
        for body in ({"message": "hello"}, {"message": "hello", "stream": False}):
            answers: list[int] = []
            rest_refused.clear()

            async def ask(body: object = body, answers: list[int] = answers) -> None:
                answers.append((await client.post(CHAT, json=body)).status_code)
                if len(answers) == 15:
                    rest_refused.set()

            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(ask)
            assert sorted(answers) == [200] * 5 + [503] * 15
        assert (http_state(engine).admission.entering, engine.runner.turns) == (0, {})
        assert names(await chat(client, "test", "hello"))[-1] == "done"


@pytest.mark.parametrize("path", ["/api/v1/schemas/none/chat", "/api/v1/schemas/test/chat?odd=1"])
async def test_a_request_that_begins_no_turn_after_all_frees_its_place(path: str) -> None:
    async with served_engine(settings={"BYTEBREW_MAX_TURNS": "1"}) as (engine, client):
        for _ in range(3):
            assert (await client.post(path, json={"message": "hello"})).status_code in (400, 404)
            assert (await client.post(path, content=b"{")).status_code == 400
        assert http_state(engine).admission.entering == 0


async def test_of_requests_that_come_at_once_no_more_get_as_far_as_the_routes_than_there_are_places() -> None:
    reached: list[int] = []

    async def request_answered(engine: Engine, method: str, path: str, status: int, seconds: float) -> None:
        reached.append(status)

    go_on = asyncio.Event()
    provider = ScriptedProvider([go_on, MessageDelta(content="well")])
    observer = plugin(request_answered=request_answered)
    async with served_engine(providing(provider), observer, settings={"BYTEBREW_MAX_TURNS": "4"}) as (engine, client):
        await scripted_schema(engine)
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(chat, client, "test", "hello")
            while len(engine.runner.turns) < 2:
                await anyio.sleep(0.01)
            request = f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN}\r\n"
            request += 'Content-Type: application/json\r\nContent-Length: 17\r\n\r\n{"message": "hi"}'
            ends = [await asyncio.open_connection(client.base_url.host, client.base_url.port) for _ in range(20)]
            reached.clear()
            for _, writer in ends:
                writer.write(request.encode())
            answers = [(await reader.readline()).split()[1] for reader, _ in ends]
            assert sorted(answers) == [b"200"] * 2 + [b"503"] * 18
            assert http_state(engine).admission.refused == 18
            go_on.set()
            for _, writer in ends:
                writer.close()
        assert 503 not in reached


@pytest.mark.parametrize(
    ("path", "lines"),
    [
        ("/api/v1/schemas/a%2Fb/chat", "Host: a\r\nContent-Length: 0\r\n"),
        ("/api/v1/schemas/a%2Fb/chat", "Host: a\r\nContent-Length: 60000\r\n"),
        (CHAT, "Content-Length: 0\r\n"),
        (CHAT, "Host: a\r\nContent-Length: 9\r\nContent-Type: application/json\r\n"),
    ],
    ids=["no such path", "no such path, and a body that does not come", "malformed", "left in the middle of its body"],
)
async def test_a_request_that_reaches_no_turn_gives_back_the_place_that_its_first_bytes_got(
    path: str, lines: str
) -> None:
    go_on = asyncio.Event()
    provider = ScriptedProvider([go_on, MessageDelta(content="well")])
    async with served_engine(providing(provider), settings={"BYTEBREW_MAX_TURNS": "2"}) as (engine, client):
        await scripted_schema(engine)
        task = {"title": "Wait", "agent": "test", "mode": "background"}  # no request of it is known to the admission
        assert (await client.post("/api/v1/tasks", json=task)).status_code == 201
        with anyio.fail_after(5):
            while not engine.runner.turns:
                await anyio.sleep(0.01)
        assert http_state(engine).admission.pressed()
        for _ in range(3):
            reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
            writer.write(f"POST {path} HTTP/1.1\r\nAuthorization: Bearer {ADMIN}\r\n{lines}\r\n".encode())
            with closing(writer), anyio.fail_after(5):
                if "9" not in lines:
                    assert (await reader.readline()).split()[1] in (b"400", b"404")
                    assert http_state(engine).admission.entering == 0
                while "9" in lines and not http_state(engine).admission.entering:
                    await anyio.sleep(0.01)
            await writer.wait_closed()
            with anyio.fail_after(5):
                while http_state(engine).admission.entering:
                    await anyio.sleep(0.01)
        go_on.set()
        assert names(await chat(client, "test", "hello"))[-1] == "done"


async def test_reads_that_wait_for_a_reader_count_as_lateness_though_the_loop_is_in_time() -> None:
    go_on = asyncio.Event()
    provider = ScriptedProvider([go_on, MessageDelta(content="well")])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        async with anyio.create_task_group() as group:
            group.start_soon(chat, client, "test", "hello")
            with anyio.fail_after(5):
                while not engine.runner.turns:
                    await anyio.sleep(0.01)
                assert engine.db.delay() == 0
                while http_state(engine).admission.limit.turns == math.inf:
                    for _ in range(50):
                        group.start_soon(engine.db.read, lambda _: time.sleep(0.01))
                    await anyio.sleep(0.1)
            assert http_state(engine).admission.limit.turns == FEW
            go_on.set()


async def test_the_engine_looks_at_its_loop_only_while_there_are_turns() -> None:
    async with served_engine(providing(ScriptedProvider([MessageDelta(content="well")]))) as (engine, client):
        await scripted_schema(engine)
        await chat(client, "test", "hello")
        with anyio.fail_after(5):
            while http_state(engine).admission._timer is not None:
                await anyio.sleep(TICK)
        assert urlsplit(str(client.base_url)).port  # and it still serves
        await chat(client, "test", "hello")


def test_the_default_number_of_turns_is_made_of_memory() -> None:
    assert LEAST <= default_turns() <= MOST


class Loop:
    """Moments of an event loop, as a limit sees them."""

    def __init__(self) -> None:
        self.limit = Limit()
        self._now = 0.0

    def runs(self, intervals: int, late: float, active: int, *, refused: bool = True) -> float:
        """Lets so many intervals pass in which the loop is so late; the limit then."""
        while intervals:
            self._now += TICK + late
            intervals -= self.limit.look(self._now, late, active, refused=refused)
        return self.limit.turns


def test_a_loop_that_is_in_time_takes_all_turns() -> None:
    assert Loop().runs(100, TARGET / 2, 1000) == math.inf


def test_a_loop_that_stays_late_takes_fewer_until_it_is_not() -> None:
    loop = Loop()
    limits = [loop.runs(2, TARGET * 1.5, 1000)]
    assert limits[-1] < 1000
    assert loop.runs(5, TARGET * 1.5, 1000) == limits[0]  # its turns have not ended yet
    while limits[-1] > FEW:
        limits.append(loop.runs(1, TARGET * 1.5, int(limits[-1])))
    assert loop.runs(100, TARGET * 100, FEW) == FEW


def test_it_takes_more_while_more_is_wanted_and_all_once_nothing_is_refused() -> None:
    loop = Loop()
    late = loop.runs(2, TARGET * 2, 1000)
    assert late < loop.runs(3, 0, 500) < late * 2
    assert loop.runs(CALM - 1, 0, 500, refused=False) < math.inf
    assert loop.runs(1, 0, 500, refused=False) == math.inf


def test_one_long_step_is_no_overload() -> None:
    loop = Loop()
    for _ in range(20):
        assert loop.runs(1, 0, 1000) == math.inf
        loop._now += 5
        loop.limit.look(loop._now, 5, 1000, refused=False)
