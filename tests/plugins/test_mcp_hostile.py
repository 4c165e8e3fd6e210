"""Whatever an MCP server sends or leaves out, the call has an outcome, the turn goes on and the engine stays well."""

import asyncio
import json
import logging
import re
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest

from bytebrew import MessageDelta, ToolCall, ToolError
from bytebrew.testing import chat
from tests.mcp_double import Web
from tests.plugins.test_mcp import World, world
from tests.plugins.test_mcp_faults import connected, until

TRANSPORTS = ("stdio", "http", "json", "sse")


def listed(*names: str) -> dict[str, Any]:
    """How the double offers further tools."""
    return {"more_tools": [{"name": name, "inputSchema": {}} for name in names]}


async def connect(stack: AsyncExitStack, w: World, where: str, how: dict[str, Any]) -> Web | None:
    """The double as server `double` over a transport."""
    if where == "stdio":
        await w.add(how=how)
        return None
    web = await stack.enter_async_context(Web(**how, json=where == "json", sse=where == "sse"))
    await w.add(url=web.url, type="sse" if where == "sse" else "http")
    return web


async def told(w: World, words: str, name: str = "double") -> None:
    """Waits until the server's state says the words."""

    async def said() -> bool:
        return words in (await w.get(name))["status"]["status_message"]

    await until(said)


LATE = "'structured' of MCP server 'double' did not answer within 0.4 s"
OTHER = "MCP server 'double' answers something else than what it was asked"
ENDED = "MCP server 'double' ended the stream without an answer"
UNREADABLE = "MCP server 'double' refuses the call: cannot read this"


@pytest.mark.parametrize("where", TRANSPORTS)
@pytest.mark.parametrize("answers", ["to another", "as text", "to true", "without an id", "with an error and no id"])
async def test_an_answer_to_another_question_is_none(answers: str, where: str) -> None:
    outcome = {"stdio": LATE, "sse": LATE, "http": ENDED, "json": OTHER}[where]
    if where == "json" and answers == "with an error and no id":
        outcome = UNREADABLE
    async with AsyncExitStack() as stack:
        w = await stack.enter_async_context(world(call_timeout="0.4"))
        await connect(stack, w, where, {"answers": answers})
        result = await w.ask("structured")
        assert (result["output"], result["has_error"]) == (outcome, True)
        assert await connected(w)


@pytest.mark.parametrize("where", ["stdio", "http", "sse"])
@pytest.mark.parametrize("answers", ["to another first", "twice"])
async def test_of_several_answers_the_first_that_fits_counts(answers: str, where: str) -> None:
    async with AsyncExitStack() as stack:
        w = await stack.enter_async_context(world())
        await connect(stack, w, where, {"answers": answers})
        for _ in range(2):
            assert json.loads((await w.ask("structured"))["output"]) == {"sum": 3, "parts": [1, 2]}


@pytest.mark.parametrize("where", TRANSPORTS)
async def test_an_answer_without_a_result_is_no_success(where: str) -> None:
    async with AsyncExitStack() as stack:
        w = await stack.enter_async_context(world())
        await connect(stack, w, where, {"answers": "with no result"})
        result = await w.ask("structured")
        words = "MCP server 'double' refuses the call: its answer has no result"
        assert (result["output"], result["has_error"]) == (words, True)


@pytest.mark.parametrize("where", TRANSPORTS)
async def test_an_endless_answer_ends_the_call(where: str) -> None:
    words = {
        "stdio": "MCP server 'double' sent a line of more than 16777216 bytes",
        "json": "MCP server 'double' sent an answer of more than 16777216 bytes",
    }.get(where, "The vendor's stream is malformed: an event of the stream is longer than 8388608 bytes")
    async with AsyncExitStack() as stack:
        w = await stack.enter_async_context(world())
        await connect(stack, w, where, listed("huge"))
        result = await w.ask("huge", size=17_000_000)
        assert result["has_error"]
        assert result["output"].startswith(words) or words.partition(": ")[0] in result["output"], result["output"][
            :300
        ]
        await until(lambda: connected(w))
        assert not (await w.ask("structured"))["has_error"]


async def test_a_result_in_countless_blocks_is_cut() -> None:
    async with world() as w:
        await w.add(how=listed("blocks"))
        output = (await w.call("blocks", count=100_000)).splitlines()
        assert (output[0], output[999], output[1000:]) == ("0", "999", ["[99000 further blocks, which are left out]"])


FAULTS = {
    "500": "fails (HTTP 500)",
    "429": "fails (HTTP 429)",
    "400": "refuses the call: Bad Request (HTTP 400)",
    "ends early": "ended the stream without an answer",
    "no JSON": "sends what is no message",
    "huge event": "is malformed",
    "breaks off": "stream broke off",
}


@pytest.mark.parametrize(
    ("where", "fault"), [*(("http", fault) for fault in FAULTS), ("sse", "500"), ("sse", "429"), ("sse", "400")]
)
async def test_a_call_that_fails_on_its_own_leaves_those_beside_it_alone(where: str, fault: str) -> None:
    async with Web(sse=where == "sse") as web, world() as w:
        await w.add(url=web.url, type=where)
        async with asyncio.TaskGroup() as group:
            w.model.answers = [[ToolCall("slow", {"last": 1.0})], [MessageDelta(content="Done.")]]
            beside = group.create_task(chat(w.client, "test", "Go on"))

            async def runs() -> bool:
                return any(one["message"].get("method") == "tools/call" for one in web.server.seen)

            await until(runs)
            web.how["call_fault"] = fault
            with pytest.raises(ToolError, match=re.escape(FAULTS[fault])):
                await w.call("structured")
            del web.how["call_fault"]
        assert "at last" in next(event.data for event in beside.result() if event.event == "tool_result")
        assert not (await w.ask("structured"))["has_error"]
        assert [one["message"].get("method") for one in web.server.seen].count("initialize") == 1


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("where", ["http", "sse"])
async def test_a_person_whom_a_server_refuses_costs_nobody_else_its_tools(where: str, status: int) -> None:
    async with Web(to_others=status, sse=where == "sse") as web, world() as w:
        await w.add(url=web.url, type=where, forward_headers=["X-Org-Id"])
        async with asyncio.TaskGroup() as group:
            beside = group.create_task(w.call("slow", last=1.5))
            await anyio.sleep(0.3)
            for header in ({}, {}, {"X-Org-Id": "evil"}, {"X-Org-Id": "evil"}):
                refused = await w.ask("structured", header)
                assert refused["output"].startswith("MCP server 'double' refuses the call: ")
                assert f"(HTTP {status})" in refused["output"]
        assert beside.result() == "at last"
        assert not (await w.ask("structured", {"X-Org-Id": "acme"}))["has_error"]
        assert [one["message"].get("method") for one in web.server.seen].count("initialize") == 1


@pytest.mark.parametrize("where", ["stdio", "http"])
async def test_a_result_of_a_kind_that_nobody_knows_is_none(where: str) -> None:
    async with AsyncExitStack() as stack:
        w = await stack.enter_async_context(world())
        await connect(stack, w, where, {"versions": ["2026-07-28"], "result_type": "task"})
        result = await w.ask("structured")
        assert (result["output"], result["has_error"]) == (
            "MCP server 'double' refuses the call: its result is of the unknown type 'task'",
            True,
        )


@pytest.mark.parametrize("where", ["http", "sse"])
async def test_a_list_that_fails_leaves_the_calls_beside_it_alone(where: str, tmp_path: Path) -> None:
    file = tmp_path / "description"
    file.write_text("One.")
    async with Web(description_file=str(file), sse=where == "sse") as web, world() as w:
        await w.add(url=web.url, type=where)
        async with asyncio.TaskGroup() as group:
            beside = group.create_task(w.call("slow", last=1.5))
            await anyio.sleep(0.3)  # until it listens
            web.how["list_fault"] = "503"
            file.write_text("Two.")
            await anyio.sleep(0.7)
            del web.how["list_fault"]

        async def noticed() -> bool:
            return any(tool["description"] == "Two." for tool in (await w.get())["tools"])

        await until(noticed, 15)
        assert beside.result() == "at last"
        assert [one["message"].get("method") for one in web.server.seen].count("initialize") == 1


async def test_an_answer_that_breaks_off_is_no_answer() -> None:
    async with Web(call_fault="breaks off") as web, world() as w:
        await w.add(url=web.url)
        result = await w.ask("structured")
        assert result["has_error"]
        assert result["output"].startswith("MCP server 'double' The vendor's stream broke off")
        del web.how["call_fault"]
        assert not (await w.ask("structured"))["has_error"]


@pytest.mark.parametrize("body", ["no", '{"error": "invalid_token"}'], ids=["text", "OAuth"])
async def test_a_key_that_is_no_longer_good_is_seen_in_the_servers_state(body: str) -> None:
    async with Web(body=body) as web, world() as w:
        await w.add(url=web.url)
        web.how["status"] = 401
        assert (await w.ask("structured"))["output"] == "MCP server 'double' wants other credentials (HTTP 401)"
        await told(w, "wants other credentials (HTTP 401)")


@pytest.mark.parametrize("where", TRANSPORTS)
async def test_a_server_that_never_answers_is_given_up(where: str) -> None:
    async with AsyncExitStack() as stack:
        w = await stack.enter_async_context(world(connect_timeout="0.6", probe_timeout="0.2", turn_wait="0.3"))
        await connect(stack, w, where, {"mute": True})
        await told(w, "did not begin within 0.6 s")
        assert await w.offered() == []


async def test_a_server_that_does_not_list_its_tools_again_is_begun_with_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "description"
    file.write_text("One.")
    async with Web(description_file=str(file)) as web, world(connect_timeout="0.6", probe_timeout="0") as w:
        await w.add(url=web.url)
        await anyio.sleep(0.3)  # until it listens
        web.how["mute"] = True
        file.write_text("Two.")
        await told(w, "did not begin within 0.6 s")
        assert "double did not list its tools within 0.6 s" in caplog.text
        del web.how["mute"]
        await until(lambda: connected(w))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"no_notices": True}, "refuses to begin: Bad Request (HTTP 400)"),
        ({"sse": True, "endpoint": "http://[::1/x"}, "names an endpoint that will not do"),
        ({"sse": True, "endpoint": "http://127.0.0.1:99999/x"}, "names an endpoint that will not do"),
        ({"sse": True, "endpoint": "//evil.test/x"}, "names an endpoint of another origin"),
    ],
    ids=["no notices", "no address", "no port", "another host"],
)
async def test_a_beginning_that_fails_is_the_servers_fault(
    how: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Web(**how) as web, world() as w:
        await w.add(url=web.url, type="sse" if "sse" in how else "http")
        await told(w, words)
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("where", TRANSPORTS)
async def test_of_ten_thousand_tools_there_are_a_thousand(where: str, caplog: pytest.LogCaptureFixture) -> None:
    async with AsyncExitStack() as stack:
        w = await stack.enter_async_context(world())
        await connect(stack, w, where, {"many": 10_000, "page": 4000})
        await until(lambda: connected(w))
        begun = time.monotonic()
        assert len(await w.offered()) == (await w.get())["status"]["tools_count"] == 1000 - 2  # which are broken
        assert time.monotonic() - begun < 3
    assert "left out of its tools:" in caplog.text
    assert "all beyond 1000" in caplog.text


async def test_a_list_of_millions_that_are_none_does_not_hold_up_the_engine(caplog: pytest.LogCaptureFixture) -> None:
    async with Web(json=True, page=10**9) as web, world() as w:
        web.how["more_tools"] = [0] * 3_000_000
        await w.add(url=web.url)
        await until(lambda: connected(w))
        assert len(await w.offered()) == 10
    assert "all beyond 1000" in caplog.text


@pytest.mark.parametrize("where", TRANSPORTS)
async def test_a_list_without_an_end_is_read_for_a_while(where: str, caplog: pytest.LogCaptureFixture) -> None:
    async with AsyncExitStack() as stack:
        w = await stack.enter_async_context(world())
        await connect(stack, w, where, {"endless": True})
        await until(lambda: connected(w))
        assert len(await w.offered()) == 10
    assert "all beyond 100 pages" in caplog.text


async def test_what_is_no_definition_is_left_out_and_the_rest_is_there(caplog: pytest.LogCaptureFixture) -> None:
    deep: dict[str, Any] = {"type": "object"}
    for _ in range(300):
        deep = {"type": "object", "properties": {"x": deep}}
    good = {"inputSchema": {"type": "object"}}
    more = [
        {"name": "twin", "description": "the first", **good},
        {"name": "twin", "description": "the second", **good},
        {"name": "", **good},
        {"name": "x" * 256, **good},
        {"name": "deep", "inputSchema": deep},
        {"name": "long", "description": "x" * 70_000, **good},
        {"name": "bare"},
        {"name": "hinted", "annotations": {"readOnlyHint": "yes"}, **good},
        {"name": ["no", "text"], **good},
        None,
        {"name": "tab\tnew\nline", **good},
        {"name": "tw\u200bin", **good},
        {"name": "niwt\u202e", **good},
        {"name": "twin\x1b[31m", **good},
        {"name": "💥", **good},
        {"name": "line new tab", **good},
        {"name": "y" * 200, **good},
    ]
    async with Web(more_tools=more) as web, world() as w:
        await w.add(url=web.url)
        there = {tool["name"]: tool for tool in (await w.get())["tools"]}
        names = {"twin", "tab\tnew\nline", "💥", "line new tab", "y" * 200}
        assert names == there.keys() - {*await default_tools()}
        assert there["twin"]["description"] == "the first"
        offered = await w.offered()
        assert len(offered) == len(there)
        assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in offered)
        odd = next(name for name in offered if name.startswith("tab_new_line"))
        assert (await w.ask(odd))["output"].startswith("MCP server 'double' refuses the call: no tool tab")
    said = next(record.getMessage() for record in caplog.records if "left out of its tools" in record.getMessage())
    assert said.count("its name has characters that nobody sees") == 3
    for words in ("'twin', another of this name", "nested deeper than 100", "longer than 65536", "1 to 255 characters"):
        assert words in said
    assert len(said) < 2100


async def default_tools() -> list[str]:
    async with Web() as web, world(servers=()) as w:
        await w.add(url=web.url)
        return [tool["name"] for tool in (await w.get())["tools"]]


async def test_a_tool_that_is_called_as_one_of_the_engines_own_gets_another_name() -> None:
    async with world() as w:
        await w.add(how=listed("read_result", "current_time"))
        assert {"double__read_result", "double__current_time"} <= set(await w.offered())


@pytest.mark.parametrize("where", ["stdio", "http", "sse"])
async def test_a_flood_of_pings_is_answered_in_part(where: str) -> None:
    async with AsyncExitStack() as stack:
        w = await stack.enter_async_context(world())
        web = await connect(stack, w, where, listed("ping"))
        assert (await w.ask("ping", times=20_000))["output"] == "pinged"
        assert not (await w.ask("structured"))["has_error"]
        assert web is None or len(web.requests) < 3000


async def test_a_flood_on_standard_error_reaches_the_log_in_part(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with world() as w:
        await w.add(how=listed("noise"))
        for parts in (["a line of noise\n"], ["noise without an end "]):
            assert (await w.ask("noise", parts=parts, times=30_000))["output"] == "noisy"
    lines = [record.getMessage() for record in caplog.records if record.name == "bytebrew_mcp.stdio"]
    assert 0 < len(lines) <= 60


async def test_a_server_that_changes_all_of_its_tools_at_a_time_has_one_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = [f"tool{n:03}" for n in range(300)]
    async with Web(**listed(*names)) as web, world() as w:
        await w.add(url=web.url)
        web.how["more_tools"][:] = [{"name": name, "description": "Another", "inputSchema": {}} for name in names]
        caplog.clear()
        w.connections["double"].relist()

        async def seen() -> bool:
            return [one["state"] for one in (await w.get())["tools"]].count("withheld") == 300

        await until(seen)
    [line] = [one.getMessage() for one in caplog.records if "waits to be approved" in one.getMessage()]
    assert line.startswith("MCP server double: each of these tools has changed, and waits to be approved: tool000,")
    assert line.endswith("tool019 and 280 more")


async def test_a_command_whose_child_holds_on_to_its_output_is_missed_nevertheless() -> None:
    async with world() as w:
        await w.add(how=listed("escape"))
        assert (await w.ask("escape"))["output"] == "MCP server 'double' ended with exit code 9"
        assert not (await w.ask("structured"))["has_error"]


async def test_a_stream_that_always_ends_at_once_is_not_asked_for_all_the_time() -> None:
    async with Web(short_get=True) as web, world() as w:
        await w.add(url=web.url)
        await anyio.sleep(1.5)
        assert [method for method, _ in web.requests].count("GET") <= 2
        assert not (await w.ask("structured"))["has_error"]


async def test_a_call_that_reports_progress_for_ever_is_told_of_as_such() -> None:
    async with world(call_timeout="0.5", call_max="1") as w:
        await w.add()
        endless = await w.ask("slow", steps=99, pause=0.2)
        assert endless["output"] == "'slow' of MCP server 'double' was still at work after 1 s"
