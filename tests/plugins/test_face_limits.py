"""What a caller of a face can make the engine do: time, and what is not counted."""

import time
from pathlib import Path

from bytebrew_openai.responses.input_items import read_input

from bytebrew import Message, earlier_turns
from tests.plugins.test_face_access import SPOKEN, world

SAID = "x" * 1000


def test_ten_thousand_messages_in_a_row_take_time_in_proportion() -> None:
    began = time.perf_counter()
    [turn] = earlier_turns([*(Message("user", SAID) for _ in range(10_000)), Message("assistant", "yes")])
    assert len(turn.message.content) == 10_000 * 1002 - 2
    said = read_input([{"role": "assistant", "content": SAID}] * 10_000)
    assert [len(one.content) for one in said.messages] == [10_000_000]
    assert time.perf_counter() - began < 5  # a minute where each message copies those before it


async def test_many_messages_that_no_run_has_had_yet_take_time_in_proportion(tmp_path: Path) -> None:
    async with world(tmp_path) as there:
        caller = await there.caller()
        first = SPOKEN["ag_ui"].say("talk", '[["hi"]]')
        assert (await first.sent(caller)).status_code == 200
        more = [{"id": str(n), "role": "user", "content": ""} for n in range(30_000)]
        last = {"id": "m2", "role": "user", "content": '[["later"]]'}
        body = {**first.body, "runId": "r2", "messages": [*first.body["messages"], *more, last]}
        began = time.perf_counter()
        answer = await caller.post(first.path, json=body)
        assert "later" in answer.text
        assert time.perf_counter() - began < 5
