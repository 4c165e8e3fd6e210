"""A tool call carries a key that is its own and stays the same when an engine that was killed runs the call again."""

import json
import sys
from typing import Any

import anyio
import httpx
from bytebrew_mcp.connection import CALL_ID, KEY

from bytebrew import Call, ToolCall
from tests.conversation.test_confirmations import Setup, answer, configure, follow, processes, say
from tests.plugins.test_http_tools import CALL, asked
from tests.plugins.test_mcp import DOUBLE, PATH, world
from tests.upstream import Act, head, upstream

__all__ = ["processes"]
OK = head(content_type="text/plain", content_length=2) + b"ok"


async def http_tool(client: httpx.AsyncClient, url: str) -> None:
    """An agent whose only tool is the HTTP tool `order`."""
    made = await client.post("/api/v1/tools", json={"name": "order", "method": "POST", "url": url})
    assert made.status_code == 201, made.text
    await configure(client, tools=["order"])


ORDER: list[Any] = [[["order", {}]], [None]]


async def test_a_call_that_is_run_again_after_a_kill_has_the_key_of_the_first_time(processes: Setup) -> None:
    async with upstream([Act.HANG], [OK]) as double:
        async with processes.serving() as (process, client):
            await http_tool(client, double.url)
            talk = say(client, ORDER)
            [begun] = await talk.until("tool_call")
            with anyio.fail_after(10):
                while not double.requests:
                    await anyio.sleep(0.01)
            process.kill()
            await talk.leave()
        async with processes.serving() as (_, client):
            rest = follow(client, talk.session_id)
            [unknown] = await rest.until("confirmation")
            assert (await answer(client, talk.session_id, unknown["call_id"], "retry")).status_code == 200
            assert (await rest.end())[-1] == "done"
        first, again = (one.headers["idempotency-key"] for one in double.requests)
    assert first == again
    assert first.endswith(f":{begun['call_id']}")


async def test_two_calls_that_a_vendor_numbers_alike_have_keys_of_their_own(processes: Setup) -> None:
    async with upstream([OK]) as double, processes.serving() as (_, client):
        await http_tool(client, double.url)
        for _ in range(2):
            assert (await say(client, ORDER).end())[-1] == "done"
        first, second = (one.headers["idempotency-key"] for one in double.requests)
    assert first != second
    assert first.rpartition(":")[2] == second.rpartition(":")[2] == "call_0_0"


async def test_an_operators_own_key_goes_before_the_engines() -> None:
    seen = await asked({}, url="{URL}", method="POST", headers={"Idempotency-Key": "mine"})
    assert seen.headers["idempotency-key"] == "mine"
    assert (await asked({}, url="{URL}", method="POST")).headers["idempotency-key"] == CALL.key == "t:call_1"


def test_a_key_is_fit_for_a_header_whatever_a_vendor_calls_its_calls() -> None:
    call = Call(call_id="a b\r\nX: ü", session_id="s", turn_id="t", schema="x", agent="a", subject="me")
    assert call.key == "t:a%20b%0D%0AX:%20%C3%BC"


async def test_an_mcp_server_has_the_call_id_and_the_key_in_meta() -> None:
    async with world() as w:
        await w.add()
        w.model.answers = [[ToolCall("echo", {}, "call_7")], []]
        answered = await w.client.post("/api/v1/schemas/test/chat", json={"message": "Go on", "stream": False})
        assert answered.status_code == 200, answered.text
        [result] = [m for m in w.model.requests[-1].messages if m.role == "tool"]
        about = json.loads(result.content)["about"]
    assert about[CALL_ID] == "call_7"
    assert about[KEY] == f"{answered.json()['turn_id']}:call_7"


async def test_a_command_that_is_killed_with_the_engine_is_called_again_with_the_same_key(processes: Setup) -> None:
    seen = processes.data.parent / "seen"
    async with processes.serving() as (process, client):
        body = {
            "name": "double",
            "command": sys.executable,
            "args": [str(DOUBLE)],
            "env": {"MCP_DOUBLE": json.dumps({"calls_file": str(seen)})},
        }
        assert (await client.post(PATH, json=body)).status_code == 201
        await configure(client, tools=[], mcp_servers=["double"])
        talk = say(client, [[["slow", {"last": 60}]], [None]])
        with anyio.fail_after(10):
            while not seen.exists():
                await anyio.sleep(0.01)
        process.kill()
        await talk.leave()
    async with processes.serving() as (_, client):
        rest = follow(client, talk.session_id)
        [unknown] = await rest.until("confirmation")
        assert (await answer(client, talk.session_id, unknown["call_id"], "retry")).status_code == 200
        with anyio.fail_after(10):
            while len(seen.read_text().splitlines()) < 2:
                await anyio.sleep(0.01)
        await rest.leave()
    first, again = (json.loads(line)["_meta"] for line in seen.read_text().splitlines())
    assert (first[CALL_ID], first[KEY]) == (again[CALL_ID], again[KEY])
