"""Many clients at once: nothing is lost, nothing changes places."""

import os
import time
from collections import defaultdict

import anyio
import httpx
import pytest

from bytebrew.base.formats import new_uuid
from bytebrew.contract.events import MessageDelta
from bytebrew.testing import ScriptedProvider, chat, providing, scripted_schema, served_engine
from bytebrew.web.http_state import http_state

SECONDS = float(os.environ.get("LOAD_SECONDS", "10"))
CLIENTS, SESSIONS = 64, 16


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_64_clients_write_to_16_sessions_without_an_error_a_loss_or_a_change_of_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = [MessageDelta(content=f"{n} ") for n in range(10)]
    async with served_engine(providing(ScriptedProvider(answer))) as (engine, client):
        await scripted_schema(engine)
        # a processor that other programs keep busy is no reason to refuse one of these turns
        monkeypatch.setattr(http_state(engine).admission, "lacks", lambda: "")
        ids = [new_uuid() for _ in range(SESSIONS)]
        sent: dict[str, list[list[str]]] = defaultdict(list)
        until = time.monotonic() + SECONDS

        async def write(number: int) -> None:
            session_id = ids[number % SESSIONS]
            mine: list[str] = []
            sent[session_id].append(mine)
            headers = {"Authorization": client.headers["authorization"]}
            async with httpx.AsyncClient(base_url=client.base_url, headers=headers, timeout=60) as own:
                while time.monotonic() < until or len(mine) < 2:
                    mine.append(f"{number}/{len(mine)}")
                    events = await chat(own, "test", mine[-1], session_id=session_id)
                    assert [event.event for event in events][-2:] == ["message", "done"]
                    numbers = [int(event.id) for event in events if event.id]  # the place in the queue has none
                    assert numbers == list(range(numbers[0], numbers[0] + len(answer) + 2))

        async with anyio.create_task_group() as group:
            for number in range(CLIENTS):
                group.start_soon(write, number)
        for session_id in ids:
            stored: list[dict[str, str]] = []
            path = f"/api/v1/sessions/{session_id}"
            while page := (await client.get(f"{path}/messages?limit=1000&after={len(stored)}")).json():
                stored += page
            asked = [message["content"] for message in stored if message["role"] == "user"]
            assert [message["role"] for message in stored] == ["user", "assistant"] * len(asked)
            for mine in sent[session_id]:
                assert [message for message in asked if message.split("/")[0] == mine[0].split("/")[0]] == mine
            assert len(asked) == sum(len(mine) for mine in sent[session_id])
            page = (await client.get(f"{path}/events?follow=false")).json()
            assert page["last"] == len(asked) * (len(answer) + 2)
        assert sum(len(mine) for sent_there in sent.values() for mine in sent_there) > CLIENTS
