"""Chat over a real socket."""

from bytebrew.events import MessageDelta, Thinking
from bytebrew.messages import ToolCall, Usage
from bytebrew.testing import ScriptedProvider, chat, names, providing, scripted_schema, served_engine


async def test_a_turn_with_a_tool_call_streams_its_events_in_order() -> None:
    provider = ScriptedProvider(
        [Thinking(content="hm"), ToolCall("current_time", {}), Usage(3, 4)],
        [MessageDelta(content="It is "), MessageDelta(content="late."), Usage(5, 6)],
    )
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine, tools=("current_time",))
        events = await chat(client, "test", "What time is it?")
    assert names(events) == ["thinking", "tool_call", "tool_result", "message_delta", "message", "done"]
    assert [event.id for event in events] == [str(n) for n in range(1, len(events) + 1)]
    assert '"content":"It is late."' in events[-2].data
    assert '"input_tokens":8,"output_tokens":10' in events[-1].data
