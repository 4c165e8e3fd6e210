"""MCP servers that are changed, deleted or lost while they are connected to or called; and nothing is left over."""

import asyncio
import ctypes
import json
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from bytebrew import MessageDelta, ToolCall, ToolError
from bytebrew.testing import ADMIN, chat
from tests.mcp_double import Web
from tests.plugins.test_mcp import DOUBLE, PATH, World, stdio, world
from tests.plugins.test_mcp_faults import alive, all_gone, connected, until
from tests.processes import serving


def commands() -> list[int]:
    """The doubles that run as commands of this process."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line, stat = (entry / "cmdline").read_bytes().decode(errors="replace"), (entry / "stat").read_text()
        except OSError:
            continue
        fields = stat.rpartition(")")[2].split()
        if int(fields[1]) == os.getpid() and fields[0] != "Z" and str(DOUBLE) in line:
            found.append(int(entry.name))
    return found


def env(place: str, **how: Any) -> dict[str, str]:
    return {"MCP_DOUBLE": json.dumps(how), "PLACE": place}


class Turn:
    """A turn that calls tools one after the other, the first of them for long."""

    def __init__(self, w: World, *calls: ToolCall) -> None:
        w.model.answers = [*([call] for call in calls), [MessageDelta(content="Done.")]]
        w.model.requests.clear()
        self.talk = asyncio.create_task(chat(w.client, "test", "Go on"))

    async def results(self) -> list[dict[str, Any]]:
        events = await self.talk
        assert events[-1].event == "done"
        return [json.loads(event.data) for event in events if event.event == "tool_result"]


@asynccontextmanager
async def calling(w: World, *calls: ToolCall) -> AsyncIterator[Turn]:
    """A turn whose first call has reached its server."""
    turn = Turn(w, *calls)
    await until(busy(w))
    await anyio.sleep(0.2)
    yield turn


def busy(w: World) -> Any:
    async def is_busy() -> bool:
        return any(connection.busy for connection in w.connections.values())

    return is_busy


async def test_a_turn_ends_its_call_on_the_server_that_it_began_with_and_finds_the_changed_one_after() -> None:
    async with world() as w:
        await w.add(env={"PLACE": "old"})
        async with calling(w, ToolCall("slow", {"last": 2.0}), ToolCall("env", {})) as turn:
            old = commands()
            changed = await w.client.patch(f"{PATH}/double", json={"env": env("new")})
            assert changed.json()["status"]["status"] == "connected"
            assert set(commands()) > set(old)
            slow, told = await turn.results()
        assert (slow["output"], slow["has_error"]) == ("at last", False)
        assert json.loads(told["output"])["PLACE"] == "new"
        assert await anyio.to_thread.run_sync(all_gone, old)
        assert len(commands()) == 1


@pytest.mark.parametrize("where", ["http", "sse"])
async def test_a_call_over_http_ends_where_it_began(where: str) -> None:
    async with Web(sse=where == "sse") as web, world() as w:
        await w.add(url=web.url, type=where)
        async with calling(w, ToolCall("slow", {"last": 1.0}), ToolCall("echo", {})) as turn:
            await w.client.patch(f"{PATH}/double", json={"headers": {"X-Place": "new"}})
            slow, echo = await turn.results()
        assert slow["output"] == "at last"
        assert json.loads(echo["output"])["headers"]["x-place"] == "new"


@pytest.mark.parametrize("how", ["delete", "disable"])
@pytest.mark.parametrize("where", ["stdio", "http", "sse"])
async def test_a_server_that_is_taken_away_ends_its_calls_at_once(where: str, how: str) -> None:
    async with Web(sse=where == "sse") as web, world() as w:
        await w.add(**({} if where == "stdio" else {"url": web.url, "type": where}))
        async with calling(w, ToolCall("slow", {"last": 60}), ToolCall("echo", {})) as turn:
            begun = time.monotonic()
            if how == "delete":
                await w.client.patch("/api/v1/agents/test", json={"mcp_servers": []})
                assert (await w.client.delete(f"{PATH}/double")).status_code == 204
            else:
                await w.client.patch(f"{PATH}/double", json={"enabled": False})
            slow, echo = await turn.results()
            assert time.monotonic() - begun < 5
        assert (slow["output"], slow["has_error"]) == ("MCP server 'double' is gone", True)
        assert (echo["output"], echo["has_error"]) == ("MCP server 'double' is not connected", True)
        assert await anyio.to_thread.run_sync(all_gone, commands())


@pytest.mark.parametrize("how", ["delete", "disable"])
@pytest.mark.parametrize("where", ["stdio", "http"])
async def test_a_server_that_is_changed_and_then_taken_away_ends_its_calls_too(where: str, how: str) -> None:
    async with Web() as web, world() as w:
        await w.add(**({} if where == "stdio" else {"url": web.url}))
        async with calling(w, ToolCall("slow", {"last": 60})) as turn:
            begun = time.monotonic()
            await w.client.patch(f"{PATH}/double", json={"env": env("new")})
            if how == "delete":
                await w.client.patch("/api/v1/agents/test", json={"mcp_servers": []})
                assert (await w.client.delete(f"{PATH}/double")).status_code == 204
            else:
                await w.client.patch(f"{PATH}/double", json={"enabled": False})
            [slow] = await turn.results()
            assert time.monotonic() - begun < 8
        assert (slow["output"], slow["has_error"]) == ("MCP server 'double' is gone", True)
        assert await anyio.to_thread.run_sync(all_gone, commands())


async def test_a_reload_leaves_alone_what_has_not_changed() -> None:
    async with world() as w:
        await w.add()
        async with calling(w, ToolCall("slow", {"last": 1.0})) as turn:
            before = commands()
            await w.client.post("/api/v1/config/reload")
            await w.client.patch(f"{PATH}/double", json={"pin": "warn", "deny_tools": ["slow"]})
            [slow] = await turn.results()
        assert slow["output"] == "at last"
        assert commands() == before


async def test_a_server_that_is_changed_or_deleted_while_it_is_connected_to_is_what_it_was_last() -> None:
    async with world() as w:
        await w.add(how={"mute": True})
        mute = commands()
        changed = await w.client.patch(f"{PATH}/double", json={"env": env("there")})
        assert changed.json()["env"] == {"MCP_DOUBLE": "***", "PLACE": "***"}
        await until(lambda: connected(w))
        assert not any(map(alive, mute))
        await w.client.patch(f"{PATH}/double", json={"env": env("there", mute=True)})
        await w.client.patch("/api/v1/agents/test", json={"mcp_servers": []})
        assert (await w.client.delete(f"{PATH}/double")).status_code == 204
        assert (await w.client.get(f"{PATH}/double")).status_code == 404
        assert await anyio.to_thread.run_sync(all_gone, commands())


@pytest.mark.slow
async def test_of_many_writes_at_once_one_is_left_and_no_command_of_the_others() -> None:
    async with world() as w:
        await w.add(how={"ignores_end": True})
        first = commands()
        bodies = [{"env": env(str(n), ignores_end=True)} for n in range(6)]
        answers = await asyncio.gather(*(w.client.patch(f"{PATH}/double", json=body) for body in bodies))
        assert {answer.status_code for answer in answers} == {200}

        async def replaced() -> bool:
            assert len(commands()) <= 1  # two might want the same port or file
            return await connected(w) and commands() not in ([], first)

        await until(replaced, 20)


async def test_calls_that_find_their_session_forgotten_one_after_the_other_share_the_new_one() -> None:
    async with Web(no_get=True, late=1.0) as web, world() as w:
        await w.add(url=web.url)
        web.sessions.clear()
        begun = time.monotonic()
        assert "sum" in "".join(await asyncio.gather(w.call("echo"), w.call("structured")))
        assert web.strangers == 2
        assert "sum" in await w.call("structured")
        assert time.monotonic() - begun < 6


async def test_a_call_that_runs_when_its_session_is_forgotten_ends_and_is_made_once() -> None:
    async with Web() as web, world() as w:
        await w.add(url=web.url)
        async with asyncio.TaskGroup() as group:
            slow = group.create_task(w.call("slow", last=1.5))
            await anyio.sleep(0.5)
            web.sessions.clear()
            assert "sum" in await w.call("structured")
        assert slow.result() == "at last"
        called = [
            one["message"]["params"]["name"]
            for one in web.server.seen
            if "id" in one["message"] and one["message"].get("method") == "tools/call"
        ]
        assert called.count("slow") == 1


async def test_an_engine_that_stops_waits_for_no_call() -> None:
    async with world() as w:
        await w.add(how={"ignores_end": True})
        async with calling(w, ToolCall("slow", {"last": 60})) as turn:
            await w.client.patch(f"{PATH}/double", json={"env": env("new", ignores_end=True)})
            await until(lambda: connected(w))
            assert len(commands()) == 2
            begun = time.monotonic()
    assert time.monotonic() - begun < 10
    assert commands() == []
    turn.talk.cancel()


@pytest.mark.slow
def test_a_command_that_is_being_ended_is_gone_when_the_engine_is_killed_meanwhile(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "data") as process,
        httpx.Client(base_url=process.url, headers={"Authorization": f"Bearer {ADMIN}"}) as client,
    ):
        body = {"name": "double", **stdio({"ignores_end": True, "child": str(tmp_path / "pids")})}
        assert client.post(PATH, json=body).json()["status"]["status"] == "connected"
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        client.patch(f"{PATH}/double", json={"enabled": False})
        time.sleep(2.7)  # it has been asked, and it is not yet killed
        assert alive(pids[0])
        process.process.send_signal(signal.SIGKILL)
        process.ended()
        assert all_gone(pids)


def orphans() -> list[int]:
    """The dead that this process should have buried."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            found += [int(entry.name)] if (fields[0], int(fields[1])) == ("Z", os.getpid()) else []
    return found


@pytest.mark.slow
async def test_an_engine_that_is_the_first_process_buries_what_its_commands_leave_behind() -> None:
    adopts = ctypes.CDLL(None).prctl
    adopts(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: as the first process of a container
    try:
        async with world(probe_timeout="0") as w:
            await w.add(how={})
            before = orphans()
            for _ in range(4):
                with pytest.raises(ToolError):
                    await w.call("die")
                await until(lambda: connected(w))
            await anyio.sleep(1.5)
            assert orphans() == before
    finally:
        adopts(36, 0, 0, 0, 0)


class Held:
    """What this process holds: file descriptors, tasks, threads and commands."""

    def __init__(self) -> None:
        self.files = len(list(Path("/proc/self/fd").iterdir()))
        self.tasks = len(asyncio.all_tasks())
        self.threads = threading.active_count()
        self.commands = len(commands())

    def more_than(self, other: "Held") -> dict[str, int]:
        """What there is considerably more of."""
        more = {name: value - getattr(other, name) for name, value in vars(self).items()}
        return {name: value for name, value in more.items() if value > (0 if name == "commands" else 3)}


@pytest.mark.slow
@pytest.mark.parametrize("where", ["stdio", "http", "json", "sse"])
async def test_fifty_connections_leave_nothing_behind(where: str) -> None:
    async with AsyncExitStack() as stack:
        w = await stack.enter_async_context(world(probe_timeout="0"))
        web = None
        if where == "stdio":
            await w.add(how={})
        else:
            web = await stack.enter_async_context(Web(json=where == "json", sse=where == "sse"))
            await w.add(url=web.url, type="sse" if where == "sse" else "http")

        async def works() -> bool:
            try:
                return bool(json.loads(await w.call("structured")) == {"sum": 3, "parts": [1, 2]})
            except ToolError:
                return False

        await until(works)
        await anyio.sleep(0.3)
        before = Held()
        for n in range(25):
            await w.client.patch(f"{PATH}/double", json={"env": env(str(n))})
            await until(lambda: connected(w))
        for _ in range(25):
            if web is not None:
                web.drop()
            else:
                with pytest.raises(ToolError):
                    await w.call("die")
            await until(works)
        await anyio.sleep(1.2)
        assert Held().more_than(before) == {}
