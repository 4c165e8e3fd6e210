"""A pause of the process, such as a debugger's, a snapshot's or a laptop's, is no silence of those it talks to."""

import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from bytebrew.testing import ADMIN, events_of
from tests.commands import BYTEBREW
from tests.processes import Process, serving
from tests.upstream import STREAM, Step, chunk, data, upstream

LIMIT = 0.5
PAUSE = 1.5
PLAIN = "import sys; sys.modules['uvloop'] = None; from bytebrew.__main__ import main; main()"
LIMITS = {
    "BYTEBREW_PROVIDER_FIRST_BYTE_TIMEOUT": f"{LIMIT}s",
    "BYTEBREW_PROVIDER_SILENCE_TIMEOUT": f"{LIMIT}s",
    "BYTEBREW_PROVIDER_RETRIES": "0",
}


@pytest.fixture(params=[BYTEBREW, (sys.executable, "-c", PLAIN)], ids=["uvloop", "asyncio"])
def paused(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Process]:
    command: Sequence[str] = request.param
    with serving(tmp_path / "data", LIMITS, command) as process:
        yield process


def delta(n: int) -> bytes:
    body = {"index": 0, "delta": {"content": f"{n} "}, "finish_reason": None}
    return chunk(data({"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [body]}))


END = chunk(data({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, "[DONE]")) + chunk(b"")


async def turns(process: Process, answer: list[Step], count: int) -> list[list[Any]]:
    """The events of turns that run at a time, through a pause that begins once the vendor has been called."""
    found: list[list[Any]] = []
    headers = {"Authorization": f"Bearer {ADMIN}"}
    async with (
        upstream(answer) as vendor,
        httpx.AsyncClient(base_url=f"{process.url}/api/v1", headers=headers, timeout=30) as api,
    ):
        model = {"name": "m", "type": "openai_compatible", "model_name": "m", "api_key": "k", "base_url": vendor.url}
        for path, body in (
            ("/models", model),
            ("/agents", {"name": "a", "model": "m", "system": "s"}),
            ("/schemas", {"name": "s", "entry_agent": "a", "chat_enabled": True}),
        ):
            assert (await api.post(path, json=body)).status_code == 201

        async def turn() -> None:
            async with api.stream("POST", "/schemas/s/chat", json={"message": "hello"}) as response:
                found.append([event async for event in events_of(response)])

        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(turn)
            while len(vendor.requests) < count:
                await anyio.sleep(0.01)
            await anyio.sleep(LIMIT / 5)
            process.process.send_signal(signal.SIGSTOP)
            await anyio.sleep(PAUSE)
            process.process.send_signal(signal.SIGCONT)
    return found


@pytest.mark.parametrize("count", [1, 20])
async def test_what_a_vendor_sent_while_the_engine_stood_still_is_read(paused: Process, count: int) -> None:
    words = [step for n in range(20) for step in (delta(n), 0.1)]
    for events in await turns(paused, [STREAM, *words, END], count):
        assert [events[-1].event, events[-2].event] == ["done", "message"], events[-1]
        assert "".join(f"{n} " for n in range(20)) in events[-2].data


async def test_so_is_its_first_byte(paused: Process) -> None:
    (events,) = await turns(paused, [LIMIT / 2, STREAM, delta(1), END], 1)
    assert events[-1].event == "done", events[-1]


async def test_a_silence_is_one_also_when_the_engine_stood_still_meanwhile(paused: Process) -> None:
    began = time.monotonic()
    (events,) = await turns(paused, [STREAM, delta(1), 10.0], 1)
    assert '"model_timeout"' in events[-1].data
    assert time.monotonic() - began < 9
