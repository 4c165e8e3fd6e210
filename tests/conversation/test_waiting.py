"""Messages that wait behind another of their session: how many may, and where they are meanwhile."""

import asyncio
import json
import tracemalloc
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from bytebrew import Capabilities, MessageDelta
from bytebrew.base.formats import new_uuid
from bytebrew.engine import Engine
from bytebrew.testing import ADMIN, ScriptedProvider, providing, scripted_schema, served_engine, token
from bytebrew.web.http_state import http_state
from bytebrew.web.public_view import SENTENCES
from tests.stored import ON_POSTGRESQL, everything

CHAT = "/api/v1/schemas/test/chat"
PICTURE = bytes(range(256)) * 1200


class Seeing(ScriptedProvider):
    """One that sees images."""

    capabilities = Capabilities(vision=True)


class Desk:
    """An engine whose first turn of each session runs until it may go on."""

    def __init__(self, engine: Engine, client: httpx.AsyncClient, provider: Seeing, go_on: asyncio.Event) -> None:
        self.engine, self.client, self.provider, self.go_on = engine, client, provider, go_on
        self.sending: list[asyncio.Task[httpx.Response]] = []

    async def send(self, session_id: str, message: str, bearer: str = ADMIN, **body: Any) -> None:
        """Sends a message whose answer is looked at later; returns once it is admitted."""
        before = len(self.engine.runner.turns)
        given = {"message": message, "session_id": session_id, **body}
        headers = {"Authorization": f"Bearer {bearer}"}
        self.sending.append(asyncio.create_task(self.client.post(CHAT, json=given, headers=headers)))
        async with asyncio.timeout(5):
            while len(self.engine.runner.turns) == before or not all(
                turn.admitted.done() for turn in self.engine.runner.turns.values()
            ):
                await asyncio.sleep(0.005)

    async def refused(self, session_id: str, message: str, bearer: str = ADMIN) -> tuple[int, str, str, str]:
        """The status, code, Retry-After and message of a refusal."""
        headers = {"Authorization": f"Bearer {bearer}"}
        async with asyncio.timeout(5):
            answer = await self.client.post(CHAT, json={"message": message, "session_id": session_id}, headers=headers)
        body = answer.json()
        return answer.status_code, body["error"], answer.headers["retry-after"], body["message"]

    async def end(self) -> list[int]:
        """Lets all go on; the statuses of what was sent."""
        self.go_on.set()
        return [one.status_code for one in await asyncio.gather(*self.sending)]

    def asked(self) -> list[str]:
        """The last message of each request to the model."""
        return [request.messages[-1].content for request in self.provider.requests]


@asynccontextmanager
async def desk(data: Path | None = None, **settings: str) -> AsyncIterator[Desk]:
    go_on = asyncio.Event()
    provider = Seeing([go_on, MessageDelta(content="well")])
    async with served_engine(providing(provider), data=data, settings=settings) as (engine, client):
        if (await client.get("/api/v1/schemas/test")).status_code == 404:
            await scripted_schema(engine)
        one = Desk(engine, client, provider, go_on)
        yield one
        go_on.set()
        await asyncio.gather(*one.sending, return_exceptions=True)


# How many may wait.


async def test_a_session_has_a_bound_on_what_waits_in_it() -> None:
    async with desk(BYTEBREW_QUEUED_PER_SESSION="2") as one:
        session_id, other = new_uuid(), new_uuid()
        for n in range(3):
            await one.send(session_id, f"message {n}")
        status, code, wait, words = await one.refused(session_id, "too many")
        assert (status, code, wait) == (429, "queue_full", "5")
        assert "BYTEBREW_QUEUED_PER_SESSION" in words
        await one.send(other, "of another session")
        await one.send(other, "and one that waits there")
        assert await one.end() == [200] * 5
        later = await one.client.post(CHAT, json={"message": "later", "session_id": session_id})
        assert later.status_code == 200
        assert "too many" not in one.asked()


async def test_an_interruption_is_bounded_too() -> None:
    async with desk(BYTEBREW_QUEUED_PER_SESSION="1") as one:
        session_id = new_uuid()
        await one.send(session_id, "first")
        await one.send(session_id, "second")
        answer = await one.client.post(CHAT, json={"message": "now", "session_id": session_id, "on_busy": "interrupt"})
        assert answer.status_code == 429


async def test_who_does_not_want_to_wait_gets_a_409_however_much_waits() -> None:
    async with desk(BYTEBREW_QUEUED_PER_SESSION="1") as one:
        session_id = new_uuid()
        for message in ("first", "second"):
            await one.send(session_id, message)
            answer = await one.client.post(CHAT, json={"message": "now", "session_id": session_id, "on_busy": "reject"})
            assert (answer.status_code, answer.json()["error"]) == (409, "session_busy")


async def test_what_was_refused_takes_no_place_among_what_waits() -> None:
    async with desk(BYTEBREW_QUEUED_PER_SESSION="1") as one:
        other = {"name": "other", "entry_agent": "test", "chat_enabled": True}
        assert (await one.client.post("/api/v1/schemas", json=other)).status_code == 201
        session_id = new_uuid()
        await one.send(session_id, "first")
        for _ in range(3):
            body = {"message": "to another schema", "session_id": session_id}
            answer = await one.client.post("/api/v1/schemas/other/chat", json=body)
            assert (answer.status_code, answer.json()["error"]) == (409, "conflict")
        await one.send(session_id, "second")
        waiting = one.engine.runner.lanes[session_id].waiting
        assert [turn.new.message for turn in waiting] == [""]  # it is in the file, and nothing else is kept
        assert await one.end() == [200] * 2


async def test_a_caller_has_a_bound_over_all_sessions_and_others_have_their_own() -> None:
    async with desk(BYTEBREW_QUEUED_PER_CALLER="2") as one:
        sessions = [new_uuid() for _ in range(3)]
        for session_id in sessions:
            await one.send(session_id, "first")
        for session_id in sessions[:2]:
            await one.send(session_id, "second")
        status, code, wait, words = await one.refused(sessions[2], "third")
        assert (status, code, wait) == (429, "queue_full", "5")
        assert "BYTEBREW_QUEUED_PER_CALLER" in words
        other, session_id = await token(one.engine, "chat"), new_uuid()
        for message in ("first", "second"):
            await one.send(session_id, message, other)
        assert await one.end() == [200] * 7


async def test_what_waits_takes_a_bounded_number_of_bytes_of_a_caller_and_of_all() -> None:
    async with desk(BYTEBREW_QUEUED_BYTES="4096") as one:
        callers = [await token(one.engine, "chat") for _ in range(5)]
        sessions = [new_uuid() for _ in callers]
        for caller, session_id in zip(callers, sessions, strict=True):
            await one.send(session_id, "first", caller)
        for caller, session_id in list(zip(callers, sessions, strict=True))[:4]:
            await one.send(session_id, "x" * 1000, caller)
        status, code, _, words = await one.refused(sessions[0], "y" * 100, callers[0])
        assert (status, code) == (429, "queue_full")
        assert "BYTEBREW_QUEUED_BYTES" in words
        status, code, wait, words = await one.refused(sessions[4], "z" * 200, callers[4])
        assert (status, code, wait) == (503, "overloaded", "1")
        assert "BYTEBREW_QUEUED_BYTES" in words
        await one.send(sessions[4], "short", callers[4])
        assert await one.end() == [200] * 10


async def test_all_visitors_of_a_page_have_the_bytes_of_one_caller() -> None:
    async with desk(BYTEBREW_QUEUED_BYTES="4096") as one:
        page = {"authorization": f"Bearer {await token(one.engine, 'public')}"}
        made = [await one.client.post("/api/v1/auth/visitors", json={}, headers=page) for _ in range(2)]
        visitors, sessions = [answer.json()["access_token"] for answer in made], [new_uuid(), new_uuid()]
        for visitor, session_id in zip(visitors, sessions, strict=True):
            await one.send(session_id, "first", visitor)
        await one.send(sessions[0], "x" * 1000, visitors[0])
        status, code, _, words = await one.refused(sessions[1], "y" * 100, visitors[1])
        assert (status, code) == (429, "queue_full")
        assert words == SENTENCES["queue_full"]  # a visitor is told no setting's name
        await one.send(sessions[1], "short", visitors[1])
        assert await one.end() == [200] * 4


async def test_a_refusal_uses_up_no_idempotency_key() -> None:
    async with desk(BYTEBREW_QUEUED_PER_SESSION="1") as one:
        session_id, key = new_uuid(), {"Idempotency-Key": "once"}
        await one.send(session_id, "first")
        await one.send(session_id, "second")
        body = {"message": "third", "session_id": session_id}
        assert (await one.client.post(CHAT, json=body, headers=key)).status_code == 429
        await one.end()
        assert (await one.client.post(CHAT, json=body, headers=key)).status_code == 200


# Where they are.


async def test_messages_that_wait_are_in_the_file_alone() -> None:
    size, count = 400_000, 20
    async with desk() as one:
        session_id = new_uuid()
        await one.send(session_id, "first")
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        writers = []
        for n in range(count):
            _, writer = await asyncio.open_connection("127.0.0.1", one.client.base_url.port)
            body = json.dumps(
                {"message": f"{n} " + "x" * size, "session_id": session_id, "stream": n % 2 == 0}
            ).encode()
            head = f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN}\r\nIdempotency-Key: {n}\r\n"
            writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            del body
            await writer.drain()
            writers.append(writer)
            async with asyncio.timeout(5):
                while len(one.engine.runner.turns) < n + 2 or not all(
                    turn.admitted.done() for turn in one.engine.runner.turns.values()
                ):
                    await asyncio.sleep(0.005)
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert grown < size * count / 4
        assert http_state(one.engine).bodies.held == 0
        one.go_on.set()
        async with asyncio.timeout(20):
            while one.engine.runner.turns:
                await asyncio.sleep(0.01)
        asked = [message for message in one.asked() if not message.startswith(("user:", "Summary"))]
        assert [message.partition(" ")[0] for message in asked] == ["first", *map(str, range(count))]
        assert {len(message.partition(" ")[2]) for message in asked[1:]} == {size}
        for writer in writers:
            writer.close()


async def test_a_start_reads_no_message_that_waits_before_its_turn(tmp_path: Path) -> None:
    picture = {"media_type": "image/png", "data": b64encode(PICTURE).decode()}
    session_id = new_uuid()
    async with desk(tmp_path) as one:
        for n in range(4):
            await one.send(session_id, f"message {n}", attachments=[picture] if n % 2 else [])
        sizes = [turn.size for turn in one.engine.runner.turns.values()]
        await one.engine.drain(0)
    async with desk(tmp_path) as one:
        async with asyncio.timeout(5):
            while not one.provider.requests:
                await asyncio.sleep(0.01)
        waiting = [turn for turn in one.engine.runner.turns.values() if turn.status == "queued"]
        assert [turn.new.message for turn in waiting] == [""] * 3
        assert not any(turn.new.attachments for turn in waiting)
        assert [turn.size for turn in one.engine.runner.turns.values()] == sizes
        one.go_on.set()
        async with asyncio.timeout(5):
            while one.engine.runner.turns:
                await asyncio.sleep(0.01)
        assert one.asked() == [f"message {n}" for n in range(4)]
        shown = [request.messages[-1].attachments for request in one.provider.requests]
        assert [len(one) for one in shown] == [0, 1, 0, 1]
        assert shown[1][0].data == picture["data"]


@pytest.mark.parametrize("waits", [False, True])
async def test_an_attachment_is_in_the_file_once(tmp_path: Path, waits: bool) -> None:
    data = b64encode(PICTURE).decode()
    async with desk(tmp_path) as one:
        session_id = new_uuid()
        if waits:
            await one.send(session_id, "first")
        before = await one.engine.db.read(_used, tmp_path)
        await one.send(session_id, "look", attachments=[{"media_type": "image/png", "data": data}])
        assert await one.end() == [200] * (1 + waits)
        rows = await one.engine.db.read(lambda conn: conn.execute("select attachments from turns").fetchall())
        assert {row["attachments"] for row in rows} == {"[]"}
        assert 0.9 * len(data) < await one.engine.db.read(_used, tmp_path) - before < 1.3 * len(data)
        found = (await one.client.get(f"/api/v1/sessions/{session_id}")).json()["messages"]
        assert [entry["attachments"] for entry in found if "attachments" in entry] == [
            [{"media_type": "image/png", "name": "", "url": ""}]
        ]


def _used(conn: Any, data: Path) -> int:
    """The bytes of the database that are in use."""
    if ON_POSTGRESQL:
        return len(everything(data))
    used: int = conn.execute("pragma page_count").fetchone()[0] - conn.execute("pragma freelist_count").fetchone()[0]
    size: int = conn.execute("pragma page_size").fetchone()[0]
    return used * size
