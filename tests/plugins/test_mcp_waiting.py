"""A turn waits for the MCP servers of its agent, says which are missing, and never that their tools do not exist."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from bytebrew import MessageDelta, ToolCall
from bytebrew.testing import chat
from tests.conversation.test_confirmations import Setup, answer, configure, follow, processes, say
from tests.plugins.test_mcp import DOUBLE, PATH, World, world
from tests.plugins.test_mcp_faults import connected, until

__all__ = ["processes"]


def slow(seconds: float, **how: Any) -> dict[str, Any]:
    """A command that takes its time to begin."""
    env = {"MCP_DOUBLE": json.dumps({"slow_start": seconds, **how})}
    return {"name": "double", "command": sys.executable, "args": [str(DOUBLE)], "env": env}


async def there(client: httpx.AsyncClient) -> None:
    with anyio.fail_after(20):
        while (await client.get(f"{PATH}/double")).json()["status"]["status"] != "connected":
            await anyio.sleep(0.1)


async def notices(w: World, message: str = "Hi") -> list[tuple[str, list[str]]]:
    """What a chat says of its tools."""
    events = [json.loads(event.data) for event in await chat(w.client, "test", message) if event.event == "notice"]
    return [(one["code"], one["names"]) for one in events]


@pytest.mark.slow
async def test_a_turn_that_is_taken_up_after_a_kill_waits_for_a_command_that_is_slow_to_begin(
    processes: Setup,
) -> None:
    steps = [[["slow", {"last": 60}]], [["echo", {"who": {"name": "Zoë"}}]], [None]]
    async with processes.serving(BYTEBREW_MCP_PROBE_TIMEOUT="0") as (process, client):
        assert (await client.post(PATH, json=slow(3.5))).status_code == 201
        await there(client)
        await configure(client, tools=[], mcp_servers=["double"])
        talk = say(client, steps)
        await talk.until("tool_call")
        await anyio.sleep(0.3)
        process.kill()
        await talk.leave()
    async with processes.serving(BYTEBREW_MCP_PROBE_TIMEOUT="0") as (_, client):
        rest = follow(client, talk.session_id)
        [unknown] = await rest.until("confirmation")
        body = await answer(client, talk.session_id, unknown["call_id"], "mark_done")
        assert body.status_code == 200
        assert (await rest.end())[-1] == "done"
    assert [(one["code"], one["names"]) for one in rest.datas("notice")] == [("tools_awaited", ["double"])]
    echoed = rest.datas("tool_result")[-1]
    assert not echoed["has_error"], echoed
    assert json.loads(echoed["output"])["given"] == {"who": {"name": "Zoë"}}


@pytest.mark.slow
async def test_a_call_of_a_tool_that_may_run_again_runs_again_once_its_server_is_back(processes: Setup) -> None:
    calls = processes.data.parent / "calls"
    async with processes.serving(BYTEBREW_MCP_PROBE_TIMEOUT="0") as (process, client):
        more = [{"name": "noise", "inputSchema": {}, "annotations": {"readOnlyHint": True}}]
        how = slow(3.0, more_tools=more, calls_file=str(calls))
        assert (await client.post(PATH, json=how)).status_code == 201
        await there(client)
        await configure(client, tools=[], mcp_servers=["double"])
        talk = say(client, [[["noise", {"parts": ["."] * 5, "pause": 0.5}]], [None]])
        with anyio.fail_after(10):
            while not calls.exists():
                await anyio.sleep(0.02)
        process.kill()
        await talk.leave()
    async with processes.serving(BYTEBREW_MCP_PROBE_TIMEOUT="0") as (_, client):
        rest = follow(client, talk.session_id)
        assert (await rest.end())[-1] == "done"
    assert rest.datas("tool_result")[0]["output"] == "noisy"
    assert len(calls.read_text().splitlines()) == 2


async def test_a_turn_waits_for_a_command_that_is_still_being_started_for_the_first_time() -> None:
    async with world(probe_timeout="0", turn_wait="20") as w:
        body = slow(2.0)
        assert (await w.client.post(PATH, json=body)).json()["status"]["status"] == "connecting"
        w.model.answers = [[ToolCall("structured", {})], [MessageDelta(content="Done.")]]
        events = await chat(w.client, "test", "Go on")
        assert [event.event for event in events][:3] == ["notice", "tool_call", "tool_result"]
        assert json.loads(json.loads(events[2].data)["output"]) == {"sum": 3, "parts": [1, 2]}


async def test_what_is_missing_is_told_to_client_and_model_and_no_tool_is_said_not_to_exist() -> None:
    async with world(servers=("double", "gone", "off"), turn_wait="0.5") as w:
        await w.add(how={"silent_on_probe": True})
        await w.add("off", enabled=False)
        w.model.answers = [[ToolCall("echo", {})], [MessageDelta(content="Done.")]]
        events = [(event.event, json.loads(event.data)) for event in await chat(w.client, "test", "Go on")]
        told = [data for name, data in events if name == "notice"]
        assert [(one["code"], one["names"]) for one in told][-1] == ("tools_missing", ["double", "gone", "off"])
        words = (
            "Tools are missing at the moment: MCP server 'double' is still being connected to; "
            "MCP server 'gone' does not exist; MCP server 'off' is switched off"
        )
        assert told[-1]["message"] == words
        assert words in w.model.requests[0].system
        [result] = [data for name, data in events if name == "tool_result"]
        assert result["output"] == f"No tool 'echo' can be reached at the moment. {words}"
        assert result["has_error"]


async def test_a_tool_of_a_server_that_is_away_is_said_to_be_away_and_runs_where_that_is_back_by_then(
    tmp_path: Path,
) -> None:
    async with world(data=tmp_path) as w:
        await w.add()
        assert "structured" in await w.offered()
    dead = tmp_path / "no-such-command"
    async with world(data=tmp_path, again=True, turn_wait="0.3") as w:
        await w.client.patch(f"{PATH}/double", json={"command": str(dead)})
        assert "structured" not in await w.offered()
        assert (await w.ask("structured"))["output"].startswith("MCP server 'double' ended with exit code 127")
        await w.client.patch(f"{PATH}/double", json={"command": sys.executable})
        await until(lambda: connected(w))
        assert json.loads((await w.ask("structured"))["output"])["sum"] == 3


async def test_a_server_that_has_been_away_for_long_costs_no_turn_its_time() -> None:
    async with world(turn_wait="1") as w:
        await w.client.post(PATH, json={"name": "double", "url": "http://127.0.0.1:9"})
        w.model.answers = [[MessageDelta(content="Done.")]]
        begun = time.monotonic()
        await notices(w)
        first = time.monotonic() - begun
        begun = time.monotonic()
        w.model.answers = [[MessageDelta(content="Done.")]]
        assert await notices(w) == [("tools_missing", ["double"])]
        assert time.monotonic() - begun < max(first, 0.5)


async def test_a_turn_can_be_cancelled_while_it_waits() -> None:
    async with world(turn_wait="60", probe_timeout="30") as w:
        await w.add(how={"silent_on_probe": True})
        w.model.answers = [[MessageDelta(content="Done.")]]
        found: list[str] = []
        async with anyio.create_task_group() as group:

            async def talk() -> None:
                found.append((await chat(w.client, "test", "Go on"))[-1].data)

            group.start_soon(talk)
            with anyio.fail_after(10):
                while not (sessions := (await w.client.get("/api/v1/sessions")).json()["sessions"]):
                    await anyio.sleep(0.05)
                await anyio.sleep(0.3)
                await w.client.post(f"/api/v1/sessions/{sessions[0]['id']}/cancel")
        assert '"cancelled"' in found[0]


@pytest.mark.parametrize("wait", ["0", "5"])
async def test_a_server_that_is_there_is_waited_for_by_nobody(wait: str) -> None:
    async with world(turn_wait=wait) as w:
        await w.add()
        await until(lambda: connected(w))
        w.model.answers = [[MessageDelta(content="Done.")]]
        assert await notices(w) == []
