"""Streams of an MCP server that break off are gone on with, and no call is made twice for it."""

from typing import Any

import anyio
import pytest

from bytebrew import ToolError
from tests.mcp_double import Web
from tests.plugins.test_mcp import world
from tests.plugins.test_mcp_faults import until


def calls(web: Web) -> list[str]:
    """The tools that were called."""
    messages = [one["message"] for one in web.server.seen]
    return [one["params"]["name"] for one in messages if one.get("method") == "tools/call"]


def begun(web: Web) -> int:
    return [one["message"].get("method") for one in web.server.seen].count("initialize")


async def test_an_answer_whose_stream_breaks_off_is_fetched_where_it_can_be() -> None:
    async with Web(call_fault="breaks off after an id") as web, world() as w:
        await w.add(url=web.url)
        assert "sum" in await w.call("structured")
        assert (calls(web), begun(web)) == (["structured"], 1)


@pytest.mark.parametrize(
    "how", [{"forgets": True}, {"resume_status": 404}, {"resume_status": 400}, {"resume_status": 405}]
)
async def test_a_call_whose_answer_cannot_be_fetched_is_not_made_again(how: dict[str, Any]) -> None:
    async with Web(polls=True, **how) as web, world() as w:
        await w.add(url=web.url)
        with pytest.raises(ToolError):
            await w.call("structured")
        assert calls(web) == ["structured"]


async def test_an_answer_is_fetched_with_the_headers_of_the_call() -> None:
    async with Web(polls=True) as web, world() as w:
        await w.add(url=web.url, forward_headers=["X-Org-Id"])
        assert not (await w.ask("echo", {"X-Org-Id": "acme"}))["has_error"]
        fetched = next(headers for _, headers in web.requests if "last-event-id" in headers)
        assert fetched["x-org-id"] == "acme"


async def test_a_tool_that_speaks_of_a_session_of_its_own_is_called_once() -> None:
    async with Web(call_fault="no such session") as web, world() as w:
        await w.add(url=web.url)
        with pytest.raises(ToolError, match="There is no browser session with this name"):
            await w.call("structured")
        assert (calls(web), begun(web)) == (["structured"], 1)


@pytest.mark.parametrize("how", [{"get_status": 404}, {"get_aborts": True}], ids=["not found", "hung up"])
async def test_a_server_that_knows_no_stream_of_its_own_is_begun_with_once(how: dict[str, Any]) -> None:
    async with Web(**how) as web, world() as w:
        await w.add(url=web.url)
        await anyio.sleep(1.5)
        assert (await w.get())["status"]["status"] == "connected"
        assert begun(web) == 1


@pytest.mark.parametrize("where", ["http", "sse"])
async def test_an_event_that_is_no_message_is_left_out(where: str) -> None:
    async with Web(keeps_alive="ping", sse=where == "sse") as web, world() as w:
        await w.add(url=web.url, type=where)
        assert "sum" in await w.call("structured")
        await anyio.sleep(0.5)
        assert (await w.get())["status"]["status"] == "connected"
        assert begun(web) == 1


@pytest.mark.parametrize("where", ["http", "json", "stdio", "sse"])
async def test_an_answer_whose_number_has_a_point_is_one(where: str) -> None:
    how = {"answers": "as a float"}
    async with Web(**how, json=where == "json", sse=where == "sse") as web, world(call_timeout="1") as w:
        await w.add(
            **({"how": how} if where == "stdio" else {"url": web.url, "type": "sse" if where == "sse" else "http"})
        )
        assert "sum" in await w.call("structured")


@pytest.mark.parametrize("where", ["http", "json", "sse"])
async def test_a_call_that_is_late_is_cancelled_in_the_name_of_whoever_made_it(where: str) -> None:
    async with Web(json=where == "json", sse=where == "sse") as web, world(call_timeout="0.5") as w:
        await w.add(url=web.url, type="sse" if where == "sse" else "http", forward_headers=["X-Org-Id"])
        assert "did not answer within" in (await w.ask("slow", {"X-Org-Id": "acme"}, last=0.8))["output"]

        def sent(method: str) -> list[dict[str, Any]]:
            return [one for one in web.server.seen if one["message"].get("method") == method]

        async def told() -> bool:
            return bool(sent("notifications/cancelled"))

        await until(told)
        [cancelled] = sent("notifications/cancelled")
        assert cancelled["message"]["params"]["requestId"] == sent("tools/call")[0]["message"]["id"]
        assert cancelled["headers"]["x-org-id"] == "acme"
        await anyio.sleep(0.5)  # until the late answer has come
        assert "sum" in await w.call("structured")
        assert begun(web) == 1
