"""More clients than descriptors: each is served right, refused in words or waits, and the engine lacks none itself."""

import asyncio
import re
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import anyio
import httpx
import msgspec
import pytest

from bytebrew.base.machine import descriptors
from bytebrew.testing import ADMIN, served_engine
from bytebrew.web.http_state import http_state
from tests.cli.test_pauses import END, PLAIN, delta
from tests.commands import BYTEBREW
from tests.processes import Process, serving
from tests.upstream import STREAM, Step, Upstream, upstream

DESCRIPTORS = 200
UNDER = ("sh", "-c", f'ulimit -n {DESCRIPTORS}; exec "$0" "$@"')
TRUTH = {"done", "overloaded", ""}


@pytest.fixture(params=[BYTEBREW, (sys.executable, "-c", PLAIN)], ids=["uvloop", "asyncio"])
def narrow(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Process]:
    with serving(tmp_path / "data", {"BYTEBREW_PROVIDER_RETRIES": "0"}, (*UNDER, *request.param)) as process:
        yield process


@asynccontextmanager
async def configured(process: Process, vendor: Upstream) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {ADMIN}"}
    async with httpx.AsyncClient(base_url=f"{process.url}/api/v1", headers=headers, timeout=20) as api:
        model = {"name": "m", "type": "openai_compatible", "model_name": "m", "api_key": "k", "base_url": vendor.url}
        for path, body in (
            ("/models", model),
            ("/agents", {"name": "a", "model": "m", "system": "s"}),
            ("/schemas", {"name": "s", "entry_agent": "a", "chat_enabled": True}),
        ):
            assert (await api.post(path, json=body)).status_code == 201
        yield api


async def exchange(process: Process, method: str, path: str, body: bytes = b"") -> tuple[int, str]:
    """The status and the rest of an answer to a client with a connection of its own; status 0 where none comes."""
    address = httpx.URL(process.url)
    head = f"{method} /api/v1{path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    try:
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            with closing(writer):
                writer.write(head.encode() + body)
                answer = (await reader.read()).decode()
    except TimeoutError:
        return 0, ""
    return int(answer[9:12]), answer


async def health(process: Process, query: str = "") -> dict[str, str]:
    """As one more client sees it."""
    status, answer = await exchange(process, "GET", f"/health{query}")
    fields: dict[str, str] = msgspec.json.decode(answer.partition("\r\n\r\n")[2]) if status == 200 else {}
    return fields


async def chat(process: Process) -> str:
    """What becomes of one more client's chat: its last event, a code, or nothing where it still waits."""
    status, answer = await exchange(process, "POST", "/schemas/s/chat", b'{"message": "hello"}')
    if status == 503:
        assert "\r\nretry-after: 1\r\n" in answer.lower()
        return re.findall('"error":"([a-z_]+)"', answer)[0]  # type: ignore[no-any-return]
    return "done" if "event: done" in answer and '"1 2 3 "' in answer else answer


@pytest.mark.slow
async def test_more_chats_than_descriptors_are_served_or_refused_in_words(narrow: Process) -> None:
    go_on = asyncio.Event()
    answer: list[Step] = [STREAM, delta(1), go_on, delta(2), delta(3), END]
    async with upstream(answer) as vendor, configured(narrow, vendor):
        became: Counter[str] = Counter()
        states: list[dict[str, str]] = []

        async def count() -> None:
            became[await chat(narrow)] += 1

        async with anyio.create_task_group() as group:
            for _ in range(2 * DESCRIPTORS):
                group.start_soon(count)
            while became["overloaded"] < DESCRIPTORS:
                states.append(await health(narrow))
            go_on.set()
        assert set(became) <= TRUTH
        assert any(state["status"] == "overloaded" and "descriptors" in state["overload"] for state in states)
        assert became["done"], became
        with anyio.fail_after(10):
            while await chat(narrow) != "done":
                await anyio.sleep(0.1)
        assert (await health(narrow))["status"] == "ok"
    assert narrow.stop() == 0
    assert narrow.errors.count("warning") + narrow.errors.count("error") <= 3, narrow.errors


async def test_connections_to_many_vendors_leave_room_for_the_engines_files(narrow: Process) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(6):
            vendor = await stack.enter_async_context(upstream([STREAM, 0.3, delta(1), delta(2), delta(3), END]))
            async with configured(narrow, vendor) as api:
                assert await asyncio.gather(*(chat(narrow) for _ in range(30))) == ["done"] * 30
                for path in ("/schemas/s", "/agents/a", "/models/m"):
                    assert (await api.delete(path)).status_code == 204
        assert (await health(narrow, "?deep=true"))["database"] == "ok"
    assert narrow.stop() == 0
    assert narrow.errors.count("error") == 0, narrow.errors


@pytest.mark.slow
async def test_connections_that_idle_leave_room_for_health_and_for_what_the_engine_opens(narrow: Process) -> None:
    address = httpx.URL(narrow.url)
    async with upstream([STREAM, delta(1), delta(2), delta(3), END]) as vendor, configured(narrow, vendor):
        idle = [await asyncio.open_connection(address.host, address.port) for _ in range(2 * DESCRIPTORS)]
        for _ in range(3):
            assert (await health(narrow))["status"] in ("ok", "overloaded")
            assert await chat(narrow) in TRUTH
            assert (await health(narrow, "?deep=true"))["database"] == "ok"
        for _, writer in idle:
            writer.close()
        with anyio.fail_after(20):
            while await chat(narrow) != "done":
                await anyio.sleep(0.1)
    assert narrow.stop() == 0
    assert narrow.errors.count("warning") == 1, narrow.errors


async def test_idle_connections_are_looked_for_once_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "share", lambda: descriptors.Share(4, 2, 1, 64))
    async with served_engine() as (engine, client):
        for _ in range(5):
            many = [await asyncio.open_connection("127.0.0.1", client.base_url.port) for _ in range(6)]
            while not http_state(engine).admission.crowd:
                await asyncio.sleep(0.001)
            for _, writer in many:
                writer.close()
            while http_state(engine).admission.crowd:
                await asyncio.sleep(0.001)
        scheduled: list[asyncio.TimerHandle] = vars(asyncio.get_running_loop())["_scheduled"]
        assert len([one for one in scheduled if "reap" in repr(one)]) == 1


async def test_a_connection_that_was_one_too_many_is_served_once_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "share", lambda: descriptors.Share(4, 2, 1, 64))
    async with served_engine() as (_, client):
        many = [await asyncio.open_connection("127.0.0.1", client.base_url.port) for _ in range(5)]
        async with httpx.AsyncClient(
            http1=False, http2=True, base_url=client.base_url, headers=client.headers
        ) as patient:
            assert (await patient.get("/api/v1/agents")).status_code == 503
            for _, writer in many:
                writer.close()
            with anyio.fail_after(5):
                while (await patient.get("/api/v1/agents")).status_code == 503:  # it comes again before it idles
                    await anyio.sleep(0.2)


async def test_of_more_connections_at_once_than_there_may_be_those_that_fit_are_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(descriptors, "share", lambda: descriptors.Share(4, 2, 1, 64))
    async with served_engine() as (_, client):
        address = (client.base_url.host, client.base_url.port)
        many = [socket.create_connection(address) for _ in range(8)]  # all of them wait before the engine accepts one
        asked = f"GET /api/v1/agents HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN}\r\n\r\n"
        for one in many:
            one.sendall(asked.encode())
        statuses = []
        for one in many:
            reader, writer = await asyncio.open_connection(sock=one)
            statuses.append(int((await reader.readline()).split(b" ", 2)[1]))
            writer.close()
        assert statuses == [200] * 4 + [503] * 4


async def test_the_limit_is_raised_as_far_as_it_may_be(tmp_path: Path) -> None:
    soft = ("sh", "-c", f'ulimit -Sn {DESCRIPTORS}; exec "$0" "$@"', *BYTEBREW)
    with serving(tmp_path / "data", {}, soft) as process:
        limits = Path(f"/proc/{process.process.pid}/limits").read_text()
        line = next(line for line in limits.splitlines() if line.startswith("Max open files"))
        assert int(line.split()[3]) > DESCRIPTORS
