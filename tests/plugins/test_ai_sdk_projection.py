"""The projection of turns into the AI SDK's chunks, on events made by hand and by chance."""

from collections.abc import AsyncGenerator, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest
from bytebrew_ai_sdk.projection import UIMessageStream, frame
from bytebrew_ai_sdk.resumed import resumed, settled
from bytebrew_ai_sdk.transcript import folded
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bytebrew import (
    KEEP_ALIVE,
    ClientToolCalled,
    ConfirmationAsked,
    Done,
    ErrorEvent,
    Event,
    FaceTurn,
    MessageDelta,
    MessageDone,
    MessageRestarted,
    Notice,
    Queued,
    Thinking,
    ToolFinished,
    ToolStarted,
    TurnEvent,
    Usage,
)

TURN = {"id": "turn_1", "session_id": "s", "created_at": "2026-11-30T12:00:00Z"}
DONE = Done(session_id="s", turn_id="turn_1", usage=Usage())


def turn(*batches: Sequence[TurnEvent]) -> FaceTurn:
    """A turn whose events come in these batches."""

    async def events(*, live: bool = True) -> AsyncGenerator[Sequence[TurnEvent], None]:
        for batch in batches:
            yield batch

    return cast(FaceTurn, SimpleNamespace(**TURN, events=events))


def numbered(*events: Event | None, waits: Sequence[int] = ()) -> list[TurnEvent]:
    return [TurnEvent(n, event, n in waits) for n, event in enumerate(events, 1)]


def chunks(events: Sequence[TurnEvent], **given: Any) -> list[dict[str, Any]]:
    """The chunks of a stream up to its end."""
    stream, made = UIMessageStream(turn(), **given), []
    for one in events:
        made += stream.chunks(one)
        if stream.ended:
            return made
    raise AssertionError("the stream has not ended")


def short(made: Sequence[dict[str, Any]]) -> list[str]:
    """The types of chunks, with the ids of calls."""
    return [" ".join(filter(None, (one["type"], one.get("toolCallId", "")))) for one in made]


def say(text: str) -> MessageDelta:
    return MessageDelta(content=text)


def call(call_id: str, tool: str = "pay") -> ToolStarted:
    return ToolStarted(tool=tool, input={"n": 1}, call_id=call_id)


def result(call_id: str, output: str = "ok", *, has_error: bool = False) -> ToolFinished:
    return ToolFinished(tool="pay", output=output, call_id=call_id, has_error=has_error)


def to_client(call_id: str) -> ClientToolCalled:
    return ClientToolCalled(
        session_id="s", turn_id="turn_1", call_id=call_id, tool="map", input={"n": 1}, expires_at=None
    )


def asked(call_id: str, confirmation_id: str, **given: Any) -> ConfirmationAsked:
    question = ConfirmationAsked(
        session_id="s",
        turn_id="turn_1",
        confirmation_id=confirmation_id,
        call_id=call_id,
        source="",
        tool="pay",
        risk="caution",
        input={"n": 1},
        args_digest="",
        kind="confirm",
        expires_at=None,
    )
    return replace(question, **given)


def test_the_outputs_of_tools_are_values_where_they_are_json_objects_or_lists() -> None:
    outputs = ['{"a":[1]}', "[1,2]", "[not json", "7", "text"]
    events = [one for n, text in enumerate(outputs) for one in (call(f"c{n}"), result(f"c{n}", text))]
    made = chunks(numbered(*events, DONE))
    assert [one["output"] for one in made if "output" in one] == [{"a": [1]}, [1, 2], "[not json", "7", "text"]


def test_a_refusal_of_a_person_is_denied_and_a_tool_that_says_the_same_has_failed() -> None:
    words = "A person refused this call: no"
    made = chunks(
        numbered(
            call("a"),
            asked("a", "q"),
            result("a", words, has_error=True),
            call("b"),
            result("b", words, has_error=True),
            DONE,
        )
    )
    assert "tool-output-denied a" in short(made)
    assert "tool-output-error b" in short(made)


def test_a_question_shows_invisible_characters_of_the_arguments() -> None:
    made = chunks(numbered(call("a"), asked("a", "q", input={"n": "[U+202E]"}), waits=[2]))
    assert [one["input"] for one in made if "input" in one] == [{"n": 1}, {"n": "[U+202E]"}]
    assert short(made)[-3:] == ["tool-approval-request a", "finish-step", "finish"]


def test_a_call_that_a_stop_interrupted_is_asked_about_again() -> None:
    events = numbered(
        call("a"), asked("a", "q1"), asked("a", "q2", kind="unknown_outcome"), result("a"), say("x"), DONE, waits=[2, 3]
    )
    first = chunks(events)
    assert first[-1]["type"] == "finish"
    second = chunks(events, answers=["q1"])
    assert short(second) == ["start", "tool-approval-request a", "finish"]
    assert "approve to run it again" in second[1]["reason"]
    third = chunks(events, answers=["q1", "q2"])
    assert short(third)[:2] == ["start", "tool-output-available a"]


def test_a_question_of_a_spawned_agent_has_a_part_of_its_own_that_is_closed_by_the_answer() -> None:
    nested = asked("deep", "q", agent="helper", parent_call_id="spawn")
    events = numbered(
        call("spawn", "spawn_helper"),
        nested,
        Thinking(content="x", agent="helper"),
        result("spawn"),
        say("x"),
        DONE,
        waits=[2],
    )
    first = chunks(events)
    assert short(first)[3:5] == ["tool-input-available q", "tool-approval-request q"]
    second = chunks(events, answers=["q"])
    assert short(second)[:3] == ["start", "tool-output-available q", "tool-output-available spawn"]
    replayed = chunks(events, until=3)
    assert short(replayed)[4:7] == ["tool-approval-request q", "tool-output-available q", "tool-output-available spawn"]


def test_the_page_learns_of_its_tools_where_the_response_ends_and_never_of_those_that_it_has_run() -> None:
    events = numbered(
        call("c", "map"),
        to_client("c"),
        call("e"),
        result("e"),
        result("c"),
        call("d", "map"),
        to_client("d"),
        waits=[4, 7],
    )
    runs = [one for one in chunks(events) if one.get("providerExecuted") is False]
    assert [one["toolCallId"] for one in runs] == ["c"]
    assert short(chunks(events))[-3:] == ["tool-input-available c", "finish-step", "finish"]
    replayed = [one for one in chunks(events, until=7) if one.get("providerExecuted") is False]
    assert [one["toolCallId"] for one in replayed] == ["d"]


def test_what_waits_in_a_queue_is_shown_and_not_kept_and_notices_are_kept() -> None:
    queued = TurnEvent(0, Queued(session_id="s", turn_id="turn_1", position=1, needs_input=False))
    made = chunks([queued, *numbered(Notice(code="tools_missing", message="none"), say("x"), DONE)])
    assert made[1] == {
        "type": "data-queued",
        "transient": True,
        "data": {"session_id": "s", "turn_id": "turn_1", "position": 1, "needs_input": False},
    }
    assert made[2]["type"] == "data-notice"
    assert [one["type"] for one in folded(made)["parts"]] == ["data-notice", "step-start", "text"]


@pytest.mark.parametrize(
    ("end", "last"),
    [
        (DONE, {"type": "finish", "finishReason": "stop"}),
        (replace(DONE, finish_reason="max_tokens"), {"type": "finish", "finishReason": "length"}),
        (replace(DONE, status="cancelled", finish_reason="cancelled"), {"type": "abort", "reason": "cancelled"}),
        (ErrorEvent(session_id="s", turn_id="t", code="c", message="no"), {"type": "error", "errorText": "no"}),
    ],
)
def test_a_stream_closes_its_parts_and_says_how_the_turn_ended(end: Event, last: dict[str, Any]) -> None:
    made = chunks(numbered(Thinking(content="a"), say("b"), end))
    assert made[-1] == last
    assert short(made)[-3:-1] == ["text-end", "finish-step"]


def test_text_that_no_longer_counts_is_another_part_in_a_stream_that_has_shown_it() -> None:
    made = chunks(numbered(say("a"), MessageRestarted(content=""), say("b"), DONE))
    assert [one["text"] for one in folded(made)["parts"] if one["type"] == "text"] == ["a", "b"]


async def read(stored: Sequence[TurnEvent], *later: Sequence[TurnEvent]) -> list[bytes]:
    """What a page gets that comes when these events are stored, in pieces as they are sent."""
    follows = turn(stored, *later)
    return [one async for one in resumed(follows, stored, UIMessageStream(follows))]


async def test_a_page_that_comes_after_a_restart_never_sees_what_the_model_does_not_say_again() -> None:
    first, second = (
        numbered(call("a"), result("a"), say("ST"), say("ALE"))[:4],
        TurnEvent(5, MessageRestarted(content="")),
    )
    ends = [TurnEvent(6, say("new")), TurnEvent(7, DONE)]
    for stored, *later in ([first, [second], ends], [[*first, second], ends], [[*first, second, *ends]]):
        body = b"".join(await read(stored, *later))
        assert b"ST" not in body
        assert body == b"".join(await read([*numbered(call("a"), result("a")), *ends]))


async def test_the_pieces_of_an_answer_wait_for_the_next_event_and_not_for_longer_than_a_keep_alive() -> None:
    stored = numbered(call("a"), result("a"), say("half"))
    more = [TurnEvent(4, say(" and half")), TurnEvent(5, DONE)]
    first, second = await read(stored, more)
    assert b"half" not in first
    assert b"half" in second
    _, second, third, _ = await read(stored, [], [], more)
    assert b"half" in second
    assert third == KEEP_ALIVE


pieces = st.lists(
    st.one_of(
        st.text("abé\u2028", min_size=1, max_size=3).map(say),
        st.text("xyz", min_size=1, max_size=3).map(lambda text: Thinking(content=text)),
        st.sampled_from(["c1", "c2", "c3"]),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(drawn=pieces, drawn_cuts=st.lists(st.integers(0, 30), min_size=1, max_size=4))
async def test_a_stream_that_is_resumed_anywhere_makes_the_message_of_one_that_was_not(
    drawn: Any, drawn_cuts: list[int]
) -> None:
    made: list[Event] = []
    for n, one in enumerate(drawn):
        made += [call(f"{one}-{n}"), result(f"{one}-{n}")] if isinstance(one, str) else [one]
    text = "".join(one.content for one in made if isinstance(one, MessageDelta))
    events = numbered(*made, MessageDone(content=text), DONE)
    whole = UIMessageStream(turn())
    undisturbed = b"".join(map(whole.frames, events))
    assert undisturbed == b"".join(map(frame, chunks(events))) + b"data: [DONE]\n\n"
    at, *cuts = sorted(min(one, len(events)) for one in drawn_cuts)
    bounds = [at, *cuts, len(events)]
    later = [events[a:b] for a, b in pairwise(bounds)]
    assert b"".join(one for one in await read(events[:at], *later) if one != KEEP_ALIVE) == undisturbed
    assert settled(events) == events
