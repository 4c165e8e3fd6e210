"""A tool that is denied while a question about it waits: the approval of a call does not undo what came after it."""

import json

import pytest

from bytebrew import MessageDelta, ToolCall
from bytebrew.testing import events_of
from tests.plugins.test_mcp import PATH
from tests.plugins.test_mcp_gates import town


@pytest.mark.parametrize(
    ("denies", "ran"),
    [
        ({"deny_tools": ["delete"]}, False),
        ({"allow_tools": ["echo"]}, False),
        ({"agent_tools": {"test": []}}, False),
        ({"agent_tools": {"other": []}}, True),
    ],
)
async def test_a_call_that_was_approved_does_not_run_where_its_tool_was_denied_meanwhile(
    denies: dict[str, object], ran: bool
) -> None:
    async with town({"files": ("delete",)}) as t:
        await t.gate("delete")
        t.w.model.answers = [[ToolCall("delete", {}, "call_1")], [MessageDelta(content="Done.")]]
        url, output = "/api/v1/schemas/test/chat", ""
        async with t.w.client.stream("POST", url, json={"message": "Go on"}) as response:
            async for event in events_of(response):
                if event.event == "confirmation":
                    assert (await t.w.client.patch(f"{PATH}/files", json=denies)).is_success
                    body = {"call_id": "call_1", "answers": ["approve"]}
                    session = response.headers["x-session-id"]
                    assert (await t.w.client.post(f"/api/v1/sessions/{session}/respond", json=body)).is_success
                elif event.event == "tool_result":
                    output = json.loads(event.data)["output"]
        calls = [one for one in t.servers["files"].server.seen if one["message"].get("method") == "tools/call"]
        assert bool(calls) is ran
        assert ("is denied to the agent 'test'" in output) is not ran
