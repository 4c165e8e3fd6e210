"""Runs of AG-UI by events alone: each is what the specification says, and can be cut anywhere."""

from collections.abc import Iterator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
import pytest
from bytebrew_ag_ui.cursors import START, CursorText, cursor_text, read_cursor
from bytebrew_ag_ui.kept import Kept, SystemMessage
from bytebrew_ag_ui.run import Run
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bytebrew import (
    Done,
    Message,
    MessageDelta,
    MessageDone,
    PrecedingTurn,
    Thinking,
    ToolCall,
    ToolFinished,
    ToolStarted,
    TurnEvent,
    Usage,
)
from bytebrew.contract.events import MessageRestarted
from tests.plugins.ag_ui_thread import Thread, events_of
from tests.plugins.generated_turns import SESSION, TURN, StoredTurn, Turn, turns

EARLIER = "turn_0123456789abcdef01234567"
KEPT = Kept(thread="thread-1", version="1.0", message="question", tools=("locate",))
QUESTION = {"id": "question", "role": "user", "content": "What is it?"}
PLACE = st.integers(0, 10**6)
"""Where a stream is cut, modulo its length; drawn before a test, whose event loop would keep what a draw breaks off."""
some = settings(max_examples=80, deadline=None)


async def turn_events(turn: StoredTurn) -> list[TurnEvent]:
    async with aclosing(turn.events()) as batches:
        return [one async for batch in batches for one in batch]


def frames(run: Run, events: Sequence[TurnEvent]) -> Iterator[bytes]:
    """The frames of a run, one by one, up to its end."""
    for one in events:
        for part in run.frames(one).split(b"\n\n"):
            if part:
                yield part + b"\n\n"
        if run.ended:
            return


async def bodies(turn: StoredTurn, thread: Thread) -> list[list[bytes]]:
    """The frames of all runs of a turn, each of which answers all that the one before has ended with."""
    events, found, last = await turn_events(turn), list[list[bytes]](), turn.turn[-1][0]
    at, answers = START, list[str]()
    while at[0] < last:
        run = Run(turn, KEPT, f"run-{len(found) + 1}", behind=at, answers=answers)
        found.append(list(frames(run, events)))
        thread.take(b"".join(found[-1]))
        assert run.ended
        at, answers = read_cursor(thread.cursor) or START, [*run.open]
    return found


@some
@given(turn=turns(), public=st.booleans())
async def test_the_runs_of_a_turn_are_as_the_specification_has_them(turn: Turn, public: bool) -> None:
    thread = Thread(QUESTION)
    await bodies(StoredTurn(turn=turn, public=public), thread)
    assert thread.problems() == []
    assert thread.last["type"] == ("RUN_FINISHED" if isinstance(turn[-1][1], Done) else "RUN_ERROR")


def place_of(part: bytes) -> tuple[int, ...]:
    """The cursor of a frame."""
    [event] = events_of(part)
    place = read_cursor(event["metadata"]["bytebrew"]["cursor"])
    assert place
    return place


@some
@given(turn=turns(), public=st.booleans(), begins=PLACE, at=PLACE)
async def test_a_run_that_is_cut_at_any_frame_goes_on_behind_its_cursor_with_the_same_bytes(
    turn: Turn, public: bool, begins: int, at: int
) -> None:
    stored = StoredTurn(turn=turn, public=public)
    events = await turn_events(stored)
    first = list(frames(Run(stored, KEPT, "run-1"), events))
    behind = place_of(first[begins % (len(first) - 1)])
    whole = list(frames(Run(stored, KEPT, "run-2", behind=behind), events))
    places = [place_of(part) for part in whole]
    assert places == sorted({*places})
    cut = 1 + at % len(whole)
    rest = b"".join(frames(Run(stored, KEPT, "run-2", behind=behind, after=places[cut - 1]), events))
    assert rest == b"".join(whole[cut:])


@some
@given(turn=turns(), public=st.booleans(), at=PLACE, again_at=PLACE)
async def test_a_client_that_has_part_of_an_answer_gets_the_rest_in_another_run(
    turn: Turn, public: bool, at: int, again_at: int
) -> None:
    stored = StoredTurn(turn=turn, public=public)
    events, calm, broken = await turn_events(stored), Thread(QUESTION), Thread(QUESTION)
    whole = list(frames(Run(stored, KEPT, "run-1"), events))
    calm.take(b"".join(whole))
    cut = 1 + at % (len(whole) - 1)
    broken.take(b"".join(whole[:cut]))
    for n in (2, 3):  # it may break off again
        again = list(frames(Run(stored, KEPT, f"run-{n}", behind=read_cursor(broken.cursor) or START), events))
        part = again[: 1 + again_at % (len(again) - 1)] if n == 2 and len(again) > 1 else again
        broken.take(b"".join(part))
        if part is again:
            break
    assert broken.shown() == calm.shown()
    assert broken.state == calm.state
    assert broken.last | {"runId": ""} == calm.last | {"runId": ""}


async def test_a_call_comes_once_however_two_runs_in_a_row_break_off() -> None:
    turn = turn_of(
        ToolStarted(tool="look", input={"n": 1}, call_id="c1"),
        ToolFinished(tool="look", output="saw", call_id="c1"),
        MessageRestarted(content=""),
        DONE,
    )
    events, calm = await turn_events(turn), Thread(QUESTION)
    whole = list(frames(Run(turn, KEPT, "run-1"), events))
    calm.take(b"".join(whole))
    for cut in range(1, len(whole)):
        second = list(frames(Run(turn, KEPT, "run-2", behind=place_of(whole[cut - 1])), events))
        for again_cut in range(1, len(second) + 1):
            broken = Thread(QUESTION)
            broken.take(b"".join(whole[:cut] + second[:again_cut]))
            if again_cut < len(second):
                broken.take(b"".join(frames(Run(turn, KEPT, "run-3", behind=place_of(second[again_cut - 1])), events)))
            assert broken.shown() == calm.shown()


def test_a_cursor_is_read_as_it_is_written() -> None:
    for place in ((0, 1 << 31), (17, 1 << 31), (17, 2), (17, 0, 1)):
        assert read_cursor(msgspec.convert(cursor_text(place), CursorText)) == place
    for text in ("", "x", "1.2.3.4", "-1", "1.", "١", "9" * 11, "1\n", None, 17):
        assert read_cursor(text) is None
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(text, CursorText)
    assert (17, 0, 1) < (17, 0, 2) < (17, 1) < (17, 1 << 31) < (18, 1)


def turn_of(*events: Any) -> StoredTurn:
    return StoredTurn(turn=[(n + 1, event) for n, event in enumerate(events)])


DONE = Done(session_id=SESSION, turn_id=TURN, usage=Usage(3, 2))


async def test_text_that_no_longer_counts_is_taken_back_by_a_snapshot_of_all_messages() -> None:
    turn = turn_of(
        MessageDelta(content="First. "),
        ToolStarted(tool="look", input={"n": 1}, call_id="c1"),
        ToolFinished(tool="look", output="saw", call_id="c1"),
        Thinking(content="hm"),
        MessageDelta(content="wro"),
        MessageRestarted(content="First. "),
        MessageDelta(content="right"),
        MessageDone(content="First. right"),
        DONE,
    )
    before = PrecedingTurn(
        id=EARLIER,
        kept={"thread": "thread-1", "message": "older"},
        messages=(
            Message("user", "Hi"),
            Message("assistant", "", thinking="so", tool_calls=(ToolCall("look", {"n": 2}, "c0"),)),
            Message("tool", "seen", call_id="c0", tool="look"),
            Message("assistant", "Hello"),
        ),
    )
    system = SystemMessage(id="s", role="system", content="Be brief")
    older: list[dict[str, Any]] = [
        {"id": "s", "role": "system", "content": "Be brief"},
        {"id": "older", "role": "user", "content": "Hi"},
        {"id": f"{EARLIER}.1", "role": "reasoning", "content": "so"},
        {"id": f"{EARLIER}.2", "role": "assistant", "content": "", "toolCalls": []},
        {"id": f"{EARLIER}.c0", "role": "tool", "toolCallId": "c0", "content": "seen"},
        {"id": f"{EARLIER}.3", "role": "assistant", "content": "Hello"},
    ]
    ids = tuple(str(one["id"]) for one in older if one["role"] != "reasoning")
    kept = Kept(thread="thread-1", message="question", system=(system,), earlier=ids)
    run, thread = Run(turn, kept, "run-1"), Thread(*older, QUESTION)
    run.before = (before,)
    thread.take(b"".join(frames(run, await turn_events(turn))))
    assert thread.problems() == []
    assert [(one["id"], one["content"]) for one in thread.messages] == [
        ("s", "Be brief"),
        ("older", "Hi"),
        (f"{EARLIER}.1", "so"),
        (f"{EARLIER}.2", ""),
        (f"{EARLIER}.c0", "seen"),
        (f"{EARLIER}.3", "Hello"),
        ("question", "What is it?"),
        (f"{TURN}.1", "First. "),
        (f"{TURN}.c1", "saw"),
        (f"{TURN}.2", "hm"),
        (f"{TURN}.4", "right"),
    ]
    assert [call["id"] for one in thread.messages for call in one.get("toolCalls", ())] == ["c0", "c1"]


@pytest.mark.parametrize("ids", [(), ("older", "x"), (f"{EARLIER}.1", "older"), ("other", f"{EARLIER}.1")])
async def test_messages_that_the_client_may_know_by_other_ids_are_in_no_snapshot(ids: tuple[str, ...]) -> None:
    turn = turn_of(MessageDelta(content="wro"), MessageRestarted(content=""), MessageDelta(content="right"), DONE)
    messages = (Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "More"))
    run = Run(turn, Kept(thread="thread-1", message="question", earlier=ids), "run-1")
    run.before = (PrecedingTurn(id=EARLIER, kept={"thread": "thread-1", "message": "older"}, messages=messages[:2]),)
    made = events_of(b"".join(frames(run, await turn_events(turn))))
    assert ("MESSAGES_SNAPSHOT" in [one["type"] for one in made]) == (ids == ("older", "x"))


async def test_without_the_messages_before_a_client_is_told_which_text_no_longer_counts() -> None:
    turn = turn_of(MessageDelta(content="wro"), MessageRestarted(content=""), MessageDelta(content="right"), DONE)
    [restart] = [
        one
        for one in events_of(b"".join(frames(Run(turn, KEPT, "run-1"), await turn_events(turn))))
        if one["type"] == "CUSTOM"
    ]
    assert restart["name"] == "bytebrew.message_restart"
    assert restart["value"] == {"content": "", "messageIds": [f"{TURN}.1"]}


@pytest.mark.parametrize(("version", "outcome"), [("1.0", "cancelled"), ("", "success")])
async def test_a_run_that_was_cancelled_says_so_to_clients_that_know_it(version: str, outcome: str) -> None:
    turn = turn_of(MessageDelta(content="We"), replace(DONE, status="cancelled", finish_reason="cancelled"))
    [*_, end] = events_of(b"".join(frames(Run(turn, Kept(thread="t", version=version), "r"), await turn_events(turn))))
    assert end["outcome"] == {"type": outcome}
    assert end["metadata"]["bytebrew"]["finish_reason"] == "cancelled"


async def test_a_structured_answer_becomes_state_and_the_result_of_the_run() -> None:
    data = {"city": "Oslo", "a/b~c": 1}
    turn = turn_of(MessageDelta(content="{}"), MessageDone(content="{}", data=data), DONE)
    thread = Thread(QUESTION, state={"city": "?", "units": "metric"})
    thread.take(b"".join(frames(Run(turn, KEPT, "run-1"), await turn_events(turn))))
    assert thread.state == {"city": "Oslo", "units": "metric", "a/b~c": 1}
    assert thread.last["result"] == data
    assert thread.last["usage"][0]["totalTokens"] == 5
