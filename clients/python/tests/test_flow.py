"""The flows by themselves: commands are answered by hand."""

from typing import Any

import pytest

from bytebrew_client import ConnectionLost, MessageDelta, Unauthorized
from bytebrew_client.flow import Close, Open, Read, Reply, Request, Send, Sleep, call
from bytebrew_client.turn import EventFlow

STREAM = Reply(200, {"content-type": "text/event-stream"}, b"")


def frame(number: int, text: str) -> bytes:
    return b'id: %d\nevent: message_delta\ndata: {"content": "%s"}\n\n' % (number, text.encode())


def next_event(flow: EventFlow, *results: Any) -> tuple[Any, list[Any]]:
    """The next event, where commands have these results; and the commands."""
    waiting, commands = [*results], []
    running = flow.next_event()
    try:
        command = next(running)
        while True:
            commands.append(command)
            result = None if isinstance(command, Close | Sleep) else waiting.pop(0)
            command = running.throw(result) if isinstance(result, Exception) else running.send(result)
    except StopIteration as end:
        assert not waiting
        return end.value, commands


def test_an_error_of_the_stream_drops_what_came_behind_it_and_the_next_connection_has_it() -> None:
    flow = EventFlow(Request("GET", "sessions/a/events"), 10, "")
    error = b'event: error\ndata: {"code": "draining", "message": "The engine stops"}\n\n'
    first, _ = next_event(flow, STREAM, frame(1, "a") + error + frame(2, "lost"))
    assert first == MessageDelta(id="1", content="a")
    second, commands = next_event(flow, STREAM, frame(2, "b"))
    assert second == MessageDelta(id="2", content="b")
    [again] = [command for command in commands if isinstance(command, Open)]
    assert again.request.headers["last-event-id"] == "1"


def test_a_frame_that_is_broken_off_is_read_whole_from_the_next_connection() -> None:
    flow = EventFlow(Request("GET", "sessions/a/events"), 10, "7")
    event, commands = next_event(
        flow, STREAM, frame(8, "whole")[:-5], ConnectionLost("gone"), STREAM, frame(8, "whole")
    )
    assert event == MessageDelta(id="8", content="whole")
    assert [type(command) for command in commands] == [Open, Read, Read, Close, Sleep, Open, Read]


def test_an_event_that_is_no_json_is_asked_for_again() -> None:
    flow = EventFlow(Request("GET", "sessions/a/events"), 10, "")
    event, _ = next_event(flow, STREAM, b"id: 1\nevent: message_delta\ndata: {\n\n", STREAM, frame(1, "a"))
    assert event == MessageDelta(id="1", content="a")


def test_what_the_last_attempt_says_is_raised() -> None:
    running = call(Request("GET", "sessions"), 10)
    assert isinstance(next(running), Send)
    assert isinstance(running.throw(ConnectionLost("gone")), Sleep)
    assert isinstance(next(running), Send)
    with pytest.raises(Unauthorized):
        running.send(Reply(401, {}, b"{}"))
