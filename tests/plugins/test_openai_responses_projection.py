"""The stream events of OpenAI's Responses, made of a turn's events."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from bytebrew_openai.responses.projection import ResponseProjection
from bytebrew_openai.responses.request import NewResponse, function_tools, repeated
from bytebrew_openai.responses.response import Kept, ResponseId
from bytebrew_openai.responses.stored_responses import folded, input_items, responses_of
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import to_builtins

from bytebrew import (
    ConfirmationAsked,
    Done,
    ErrorEvent,
    Event,
    MessageDelta,
    MessageDone,
    MessageRestarted,
    NotFound,
    Notice,
    Thinking,
    ToolFinished,
    ToolStarted,
    Usage,
)
from bytebrew.contract.events import ClientToolCalled, FinishReason
from tests.plugins.generated_turns import StoredTurn, Turn, turns

DIGITS = "01a22d0d8edc14d5b98802bb"
IDS: Any = {"session_id": "s", "turn_id": f"turn_{DIGITS}"}
LOCATE = {"type": "function", "name": "locate", "parameters": {"type": "object"}}


def kept(**body: Any) -> Any:
    """What is stored with a turn whose request had these fields."""
    request = NewResponse(**{"tools": [LOCATE], **body})
    return to_builtins(Kept(repeated=repeated(request, function_tools(request), None), input=[]))


def stored(*events: Event, public: bool = False, **body: Any) -> StoredTurn:
    turn: Turn = list(enumerate(events, 1))
    return StoredTurn(turn=turn, kept=kept(**body), public=public, id=f"turn_{DIGITS}")


def done(reason: FinishReason = "stop", **fields: Any) -> Done:
    return Done(**IDS, usage=Usage(input_tokens=3, output_tokens=4), finish_reason=reason, **fields)


def said(*pieces: str) -> list[Event]:
    return [MessageDelta(content=one) for one in pieces]


def client_call(call_id: str) -> list[Event]:
    asked = ClientToolCalled(**IDS, call_id=call_id, tool="locate", input={"n": 1}, expires_at=None)
    return [ToolStarted(tool="locate", input={"n": 1}, call_id=call_id), asked]


def question(call_id: str, tool: str = "pay") -> ConfirmationAsked:
    return ConfirmationAsked(
        **IDS,
        confirmation_id=f"conf_{call_id}",
        call_id=call_id,
        source="built-in",
        tool=tool,
        risk="safe",
        input={"n": 2},
        args_digest="d",
        kind="confirm",
        expires_at=None,
    )


async def stream(turn: StoredTurn, start: int = 0, after: int = -1) -> bytes:
    projection = ResponseProjection(turn, ResponseId(turn.id, start), after)
    made = [projection.begin()]
    async for batch in turn.events():
        made += [projection.frames(one) for one in batch]
        if projection.ended:
            break
    return b"".join(made)


def parsed(body: bytes) -> list[dict[str, Any]]:
    """The stream events; their names and numbers are checked."""
    found = []
    *frames, last, nothing = body.split(b"\n\n")
    assert (last, nothing) == (b"data: [DONE]", b"")
    for frame in frames:
        name, _, data = frame.decode().partition("\ndata: ")
        found.append(json.loads(data))
        assert name == f"event: {found[-1]['type']}"
    first = found[0]["sequence_number"] if found else 0
    assert [one["sequence_number"] for one in found] == [*range(first, first + len(found))]
    return found


async def events(*given: Event, start: int = 0, **more: Any) -> list[dict[str, Any]]:
    return parsed(await stream(stored(*given, **more), start))


def texts(response: dict[str, Any]) -> list[str]:
    return [part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"]]


async def test_an_answer_is_one_item_with_one_part_between_created_and_completed() -> None:
    shown = await events(*said("Hel", "lo"), MessageDone(content="Hello"), done())
    item = [
        *("output_item.added", "content_part.added", "output_text.delta", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done"),
    ]
    names = ["created", "in_progress", *item, "completed"]
    assert [one["type"] for one in shown] == [f"response.{name}" for name in names]
    assert [one["delta"] for one in shown if "delta" in one] == ["Hel", "lo"]
    response = shown[-1]["response"]
    assert (response["id"], response["status"]) == (f"resp_{DIGITS}", "completed")
    assert response["output"] == [shown[-2]["item"]]
    assert response["usage"]["total_tokens"] == 7
    assert texts(response) == ["Hello"]


async def test_reasoning_is_an_item_of_its_own_whose_summary_comes_in_pieces() -> None:
    shown = await events(Thinking(content="h"), Thinking(content="m"), *said("ok"), MessageDone(content="ok"), done())
    item, answer = shown[-1]["response"]["output"]
    assert item["summary"] == [{"type": "summary_text", "text": "hm"}]
    assert answer["content"][0]["text"] == "ok"
    assert [one["delta"] for one in shown if one["type"] == "response.reasoning_summary_text.delta"] == ["h", "m"]
    assert [one["output_index"] for one in shown if one["type"] == "response.output_item.added"] == [0, 1]


async def test_a_tool_of_the_engine_is_shown_once_it_has_ended() -> None:
    calls = [
        ToolStarted(tool="look", input={"n": 1}, call_id="c1"),
        ToolFinished(tool="look", output="blue", call_id="c1"),
        ToolStarted(tool="look", input={}, call_id="c2"),
        ToolFinished(tool="look", output="no", call_id="c2", has_error=True),
    ]
    shown = await events(*calls, MessageDone(content=""), done())
    good, bad = shown[-1]["response"]["output"]
    assert (good["type"], good["name"], good["arguments"], good["output"]) == ("mcp_call", "look", '{"n":1}', "blue")
    assert (good["status"], bad["status"], bad["output"]) == ("completed", "failed", None)
    assert bad["error"]["content"] == [{"type": "text", "text": "no"}]
    names = [one["type"].removeprefix("response.mcp_call") for one in shown if "mcp_call" in one["type"]]
    assert names[:4] == [".in_progress", "_arguments.delta", "_arguments.done", ".completed"]
    assert names[-1] == ".failed"


async def test_a_response_ends_where_the_client_must_answer_and_the_next_goes_on_behind_it() -> None:
    turn = stored(
        *said("look "),
        *client_call("c1"),
        ToolFinished(tool="locate", output="here", call_id="c1"),
        *said("So"),
        MessageDone(content="look So"),
        done(),
    )
    first = parsed(await stream(turn))[-1]["response"]
    assert (first["status"], first["usage"]) == ("completed", None)
    message, call = first["output"]
    assert message["content"][0]["text"] == "look "
    assert call == {
        "id": f"fc_{DIGITS}_3",
        "type": "function_call",
        "status": "completed",
        "call_id": "c1",
        "name": "locate",
        "arguments": '{"n":1}',
    }
    shown = parsed(await stream(turn, start=3))
    second = shown[-1]["response"]
    assert (second["id"], second["previous_response_id"]) == (f"resp_{DIGITS}_3", first["id"])
    assert (shown[0]["sequence_number"], texts(second)) == (0, ["So"])
    assert [one.response() for one in await responses_of(turn)] == [first, second]
    listed = await input_items(turn, ResponseId(turn.id, 3), Kept(repeated={}, input=[]))
    assert [(one["call_id"], one["output"]) for one in listed] == [("c1", "here")]


async def test_a_part_that_begins_behind_no_response_is_not_found() -> None:
    turn = stored(*said("look "), *client_call("c1"))
    for start in (1, 2, 4):
        with pytest.raises(NotFound):
            await folded(turn, ResponseId(turn.id, start))


async def test_a_question_to_a_person_ends_a_response_and_the_call_is_in_the_next() -> None:
    turn = stored(
        ToolStarted(tool="pay", input={"n": 2}, call_id="c1"),
        question("c1"),
        question("c1"),  # asked again after a restart
        ToolFinished(tool="pay", output="paid", call_id="c1"),
        *said("ok"),
        MessageDone(content="ok"),
        done(),
    )
    [asked] = parsed(await stream(turn))[-1]["response"]["output"]
    assert (asked["type"], asked["id"], asked["name"]) == ("mcp_approval_request", "conf_c1", "pay")
    assert json.loads(asked["arguments"]) == {"n": 2}
    call, answer = parsed(await stream(turn, start=2))[-1]["response"]["output"]
    assert (call["type"], call["approval_request_id"], call["output"]) == ("mcp_call", "conf_c1", "paid")
    assert answer["content"][0]["text"] == "ok"


async def test_the_public_view_waits_for_a_person_without_an_end() -> None:
    turn = stored(
        *said("one "),
        ToolStarted(tool="pay", input={"n": 2}, call_id="c1"),
        question("c1"),
        ToolFinished(tool="pay", output="paid", call_id="c1"),
        *said("two"),
        MessageDone(content="one two"),
        done(),
        public=True,
    )
    shown = parsed(await stream(turn))
    assert texts(shown[-1]["response"]) == ["one two"]
    assert shown[-1]["response"]["usage"]["total_tokens"] == 0
    assert b"pay" not in await stream(turn)


@pytest.mark.parametrize(
    ("kept_text", "pieces", "finals"),
    [("", ["other"], ["other"]), ("one ", ["two"], ["one ", "two"]), ("", [], [])],
)
async def test_what_no_longer_counts_is_closed_and_is_not_in_the_response(
    kept_text: str, pieces: Sequence[str], finals: Sequence[str]
) -> None:
    before: list[Event] = said("one ") if kept_text else []
    tool = [ToolStarted(tool="look", input={}, call_id="c"), ToolFinished(tool="look", output="x", call_id="c")]
    shown = await events(
        *before,
        *(tool if kept_text else []),
        Thinking(content="hm"),
        *said("wrong"),
        MessageRestarted(content=kept_text),
        *said(*pieces),
        MessageDone(content=kept_text + "".join(pieces)),
        done(),
    )
    ended = [one["item"] for one in shown if one["type"] == "response.output_item.done"]
    wrong = next(item for item in ended if item["type"] == "message" and item["content"][0]["text"] == "wrong")
    assert wrong["status"] == "incomplete"
    assert texts(shown[-1]["response"]) == [*finals]
    assert not [item for item in shown[-1]["response"]["output"] if item["type"] == "reasoning"]
    added = [one["output_index"] for one in shown if one["type"] == "response.output_item.added"]
    assert added == [*range(len(added))]


async def test_text_that_stays_and_was_in_one_item_with_what_does_not_comes_again() -> None:
    shown = await events(*said("one ", "wrong"), MessageRestarted(content="one "), *said("two"), done())
    assert texts(shown[-1]["response"]) == ["one two"]


@pytest.mark.parametrize(
    ("last", "name", "status", "incomplete"),
    [
        (done("max_tokens"), "incomplete", "incomplete", {"reason": "max_output_tokens"}),
        (done("cancelled", status="cancelled"), "incomplete", "cancelled", None),
        (ErrorEvent(**IDS, code="model_timeout", message="slow"), "failed", "failed", None),
    ],
)
async def test_the_end_of_a_turn_is_that_of_its_response(
    last: Event, name: str, status: str, incomplete: dict[str, str] | None
) -> None:
    shown = await events(*said("half"), last)
    response = shown[-1]["response"]
    assert (shown[-1]["type"], response["status"]) == (f"response.{name}", status)
    assert response["incomplete_details"] == incomplete
    assert response["output"][0]["status"] == "incomplete"
    assert (response["error"] or {}).get("code") == ("model_timeout" if status == "failed" else None)


@pytest.mark.parametrize(("reason", "status"), [("max_tokens", "incomplete"), ("stop", "completed")])
async def test_the_message_that_a_limit_cuts_off_is_incomplete(reason: FinishReason, status: str) -> None:
    shown = await events(*said("The first ", "three"), MessageDone(content="The first three"), done(reason))
    [ended] = [one["item"] for one in shown if one["type"] == "response.output_item.done"]
    assert ended["status"] == status
    assert shown[-1]["response"]["output"] == [ended]


async def test_in_the_background_a_response_is_queued_first() -> None:
    shown = await events(*said("a"), done(), background=True)
    assert [one["response"]["status"] for one in shown[:3]] == ["queued", "queued", "in_progress"]
    assert [one["type"] for one in shown[:3]] == ["response.created", "response.queued", "response.in_progress"]


async def test_notices_are_no_part_of_a_response() -> None:
    notice = Notice(code="tools_missing", message="gone")
    assert await stream(stored(notice, *said("a"), done())) != b""
    shown = await events(notice, done())
    assert [one["type"] for one in shown] == ["response.created", "response.in_progress", "response.completed"]


@settings(max_examples=60, deadline=None)
@given(turn=turns(), public=st.booleans(), background=st.booleans())
async def test_a_cursor_has_exactly_the_rest_and_the_stored_response_is_that_of_the_stream(
    turn: Turn, public: bool, background: bool
) -> None:
    one = StoredTurn(turn=turn, kept=kept(background=background), public=public, id=f"turn_{DIGITS}")
    responses = await responses_of(one)
    for made, start in zip(responses, [0, *(made.behind for made in responses)], strict=False):
        whole = await stream(one, start)
        shown = parsed(whole)
        assert json.loads(json.dumps(made.response())) == shown[-1]["response"]
        assert made.response()["status"] != "in_progress"
        ends = [whole.find(b"\n\n") + 2]
        while (more := whole.find(b"\n\n", ends[-1])) != -1:
            ends.append(more + 2)
        for number, end in enumerate(ends[:-1]):
            assert await stream(one, start, number) == whole[end:]
        assert await stream(one, start, len(shown) + 5) == b"data: [DONE]\n\n"
        added = [each["item"]["id"] for each in shown if each["type"] == "response.output_item.added"]
        assert len({*added}) == len(added)
        assert added == [each["item"]["id"] for each in shown if each["type"] == "response.output_item.done"]


@settings(max_examples=60, deadline=None)
@given(turn=turns())
async def test_the_text_of_all_responses_of_a_turn_is_the_answer(turn: Turn) -> None:
    one = StoredTurn(turn=turn, kept=kept(), id=f"turn_{DIGITS}")
    whole = [event.content for _, event in turn if isinstance(event, MessageDone)]
    if not whole or any(isinstance(event, MessageRestarted) and not event.content for _, event in turn):
        return  # the text of a response that has ended is not taken back
    assert "".join(text for made in await responses_of(one) for text in texts(made.response())) == whole[0]
