"""The answers of a turn in Chat Completions: where each begins and ends, and that they are functions of its events."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from bytebrew_openai.chat.answers import Answer, Answers, Kept
from bytebrew_openai.chat.chunks import DONE, Chunks
from bytebrew_openai.chat.questions import verdict
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import to_builtins

from bytebrew import (
    ClientToolCalled,
    ConfirmationAsked,
    Done,
    Event,
    MessageDelta,
    MessageDone,
    MessageRestarted,
    Thinking,
    ToolFinished,
    ToolStarted,
    TurnEvent,
    Usage,
    project,
)
from bytebrew.contract.face import KEEP_ALIVE
from bytebrew.web import public_view
from bytebrew.web.faces.turn_events import TurnWaits
from tests.plugins.generated_turns import SESSION, TURN, StoredTurn, Turn, chunks_of, turns

LINK = "http://localhost/api/v1/approvals"
divided = turns().flatmap(lambda turn: st.tuples(st.just(turn), chunks_of(turn)))
"""Turns with their frames in chunks: drawn before a test runs, for a task that ends in a draw is never awaited."""
kinds = st.builds(Kept, link=st.just(LINK), as_tools=st.booleans(), whole=st.booleans())
DONE_EVENT = Done(session_id=SESSION, turn_id=TURN, usage=Usage(3, 4))


async def streamed(stored: StoredTurn, n: int) -> bytes:
    chunks = [chunk async for chunk in project(stored, Chunks(stored, n, usage=True))]
    return b"".join(chunk for chunk in chunks if chunk != KEEP_ALIVE)


def answers_to(events: Sequence[Event], *, public: bool = False, **kept: Any) -> list[Answer]:
    """The answers of these events."""
    fold, turn = Answers(Kept(link=LINK, **kept)), TurnWaits(public=public)
    for n, event in enumerate(events):
        waits = turn.waits_after(event)
        shown = public_view.typed(event) if public else event
        if shown is not None or waits:
            fold.add(TurnEvent(n, shown, waits, turn.waiting if waits else ()))
    return fold.all


def called(*calls: str) -> list[Event]:
    """Calls of the client's tool that come together."""
    ids: dict[str, Any] = {"session_id": SESSION, "turn_id": TURN, "expires_at": None}
    return [
        *(ToolStarted(tool="where", input={}, call_id=call_id) for call_id in calls),
        *(ClientToolCalled(tool="where", input={}, call_id=call_id, **ids) for call_id in calls),
    ]


def question(call_id: str, n: int = 1, **above: Any) -> ConfirmationAsked:
    return ConfirmationAsked(
        session_id=SESSION,
        turn_id=TURN,
        confirmation_id=f"conf_{n}",
        call_id=call_id,
        source="",
        tool="pay",
        risk="safe",
        input={"n": n},
        args_digest="",
        kind="confirm",
        expires_at=None,
        **above,
    )


def finished(call_id: str, output: str = "ok") -> ToolFinished:
    return ToolFinished(tool="where", output=output, call_id=call_id)


def said(*texts: str) -> list[Event]:
    return [*(MessageDelta(content=text) for text in texts)]


@settings(max_examples=80, deadline=None)
@given(divided=divided, public=st.booleans(), kept=kinds)
async def test_each_answer_of_a_turn_has_the_same_bytes_however_its_events_come(
    divided: tuple[Turn, list[bytes]], public: bool, kept: Kept
) -> None:
    turn, chunks_drawn = divided
    stored = StoredTurn(turn=turn, kept=to_builtins(kept), public=public)
    fold = Answers(kept)
    async for batch in stored.events():
        for one in batch:
            fold.add(one)
    again = StoredTurn(turn=turn, kept=to_builtins(kept), public=public, chunks=chunks_drawn)
    for n, answer in enumerate(fold.all):
        assert answer.ended
        body = await streamed(stored, n)
        assert await streamed(again, n) == body
        assert body.endswith(DONE) or answer.error is not None
        chunks = [json.loads(part[6:]) for part in body.decode().split("\n\n") if part and "[DONE]" not in part]
        choices = [choice for chunk in chunks for choice in chunk.get("choices", ())]
        content = "".join(choice["delta"].get("content") or "" for choice in choices)
        assert content == answer.streamed_text
        shown = [call["id"] for choice in choices for call in choice["delta"].get("tool_calls", ())]
        assert shown == [call.call_id for call in answer.calls]
        if answer.error is None:
            assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == [answer.finish]
    if not any(isinstance(event, MessageRestarted) for _, event in turn):
        whole = [event.content for _, event in turn if isinstance(event, MessageDone)]
        assert whole in ([], ["".join(piece for answer in fold.all for piece in answer.pieces)])


def test_an_answer_ends_once_all_open_calls_wait_and_the_next_begins_behind_all_their_results() -> None:
    events = [*said("a"), *called("c1", "c2"), finished("c2"), finished("c1"), *said("b"), DONE_EVENT]
    first, second = answers_to(events)
    assert (first.text, [call.call_id for call in first.calls], first.finish) == ("a", ["c1", "c2"], "tool_calls")
    assert first.results == {"c1": "ok", "c2": "ok"}
    assert (second.text, second.calls, second.finish, second.usage) == ("b", (), "stop", Usage(3, 4))
    assert first.usage == Usage()


def test_results_that_are_hidden_end_a_wait_as_well() -> None:
    events = [*called("c1", "c2"), finished("c2"), finished("c1"), *said("b"), *called("c3"), finished("c3")]
    first, second, third = answers_to([*events, *said("c"), DONE_EVENT], public=True)
    assert [len(one.calls) for one in (first, second, third)] == [2, 1, 0]
    assert (second.text, third.text) == ("b", "c")


@pytest.mark.parametrize("public", [False, True])
def test_a_question_beside_a_call_of_the_client_is_the_next_answer(public: bool) -> None:
    started, waits = called("c1")
    events = [started, ToolStarted(tool="pay", input={}, call_id="c2"), waits, question("c2"), finished("c1")]
    first, second, third = answers_to([*events, finished("c2"), *said("b"), DONE_EVENT], public=public)
    assert ([call.call_id for call in first.calls], first.questions) == (["c1"], ())
    assert (len(second.questions), second.finish, second.calls) == (1, "stop", ())
    assert ("pay" in second.text) is not public
    assert third.text == "b"


def test_an_approved_call_of_the_clients_tool_comes_behind_its_question() -> None:
    events = [called("c1")[0], question("c1"), called("c1")[1], finished("c1"), *said("b"), DONE_EVENT]
    for public in (False, True):
        asks, calls, ends = answers_to(events, public=public)
        assert (bool(asks.questions), [call.call_id for call in calls.calls], ends.text) == (True, ["c1"], "b")


def test_a_question_of_a_spawned_agent_waits_until_it_goes_on() -> None:
    above = {"agent": "inner", "parent_call_id": "s1"}
    spawn = ToolStarted(tool="spawn", input={}, call_id="s1")
    events = [spawn, question("x", 1, **above), question("y", 2, **above), finished("s1"), *said("b"), DONE_EVENT]
    first, second, third = answers_to(events)
    assert [one.questions[0].confirmation_id for one in (first, second)] == ["conf_1", "conf_2"]
    assert third.text == "b"
    as_calls = answers_to(events, as_tools=True)
    assert [call.call_id for one in as_calls for call in one.calls] == ["conf_1", "conf_2"]


def test_text_that_is_taken_back_stays_in_a_stream_and_not_in_the_answer() -> None:
    events = [Thinking(content="t"), *said("one ", "two"), MessageRestarted(content=""), *said("new"), DONE_EVENT]
    [answer] = answers_to(events)
    assert (answer.text, answer.streamed_text, answer.reasoning) == ("new", "one two\n\nnew", "")
    kept = [*said("step "), ToolStarted(tool="look", input={}, call_id="c"), finished("c")]
    [answer] = answers_to([*kept, *said("a"), MessageRestarted(content="step "), *said("b"), DONE_EVENT])
    assert (answer.text, answer.streamed_text) == ("step b", "step a\n\nb")


def test_a_structured_text_is_held_back_until_it_is_whole() -> None:
    events = [
        *said("hm"),
        MessageRestarted(content=""),
        *said('{"a"', ":1}"),
        MessageDone(content='{"a":1}'),
        DONE_EVENT,
    ]
    [answer] = answers_to([*events, DONE_EVENT], whole=True)
    assert (answer.streamed, answer.text) == (['{"a":1}'], '{"a":1}')
    [cancelled] = answers_to([*said('{"a"'), DONE_EVENT], whole=True)
    assert cancelled.streamed == ['{"a"']


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("approve", True),
        (" YES\n", True),
        ("ok", True),
        ("no", False),
        ("Reject", False),
        ("approve it", None),
        ("", None),
    ],
)
def test_a_verdict_is_a_word_alone(word: str, meaning: bool | None) -> None:
    assert verdict(word) is meaning
