"""The agent loop: steps, tools, limits, and what the model is shown."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from msgspec.json import encode

from bytebrew.base.errors import ProviderError, StorageError, ToolError
from bytebrew.contract.connection import Connection
from bytebrew.contract.entities import Agent
from bytebrew.contract.events import MessageDelta, Thinking
from bytebrew.contract.messages import Attachment, ModelRequest, Stop, ToolCall, Usage
from bytebrew.contract.provider import Capabilities
from bytebrew.contract.tool import Call, Result, Tool, Toolset, tool
from bytebrew.store import turns
from bytebrew.store.messages import tokens
from bytebrew.testing import ScriptedProvider, chat, names, plugin, providing, scripted_schema, served_engine


def say(text: str) -> list[MessageDelta]:
    return [MessageDelta(content=text)]


@tool
async def double(n: int) -> int:
    """Twice the number."""
    return 2 * n


@tool
async def fail() -> str:
    """Fails."""
    raise ToolError("the printer is on fire")


@tool
async def whoami(call: Call) -> dict[str, str]:
    """What the tool is told of its call."""
    return {"agent": call.agent, "session": call.session_id, "turn": call.turn_id, "subject": call.subject}


@tool(timeout=0.02)
async def sleepy() -> str:
    """Sleeps too long."""
    await anyio.sleep(10)
    return "never"


def tools(*given: Any) -> tuple[str, object]:
    def register_tools(register: Any) -> None:
        for one in given:
            register(one)

    return "tools", plugin(register_tools=register_tools)[1]


def datas(events: list[Any], name: str) -> list[dict[str, Any]]:
    return [json.loads(event.data) for event in events if event.event == name]


async def test_the_model_is_shown_the_message_and_each_result_behind_its_call() -> None:
    provider = ScriptedProvider([*say("let me see "), ToolCall("double", {"n": 21}, "c1")], say("42"))
    async with served_engine(providing(provider), tools(double)) as (engine, client):
        await scripted_schema(engine, tools=("double",), system="Be brief.", temperature=0.5, stop_sequences=("END",))
        events = await chat(client, "test", "double 21")
    first, second = provider.requests
    assert first.system.startswith("Be brief.")
    assert "data from outside" in first.system
    assert (first.temperature, first.stop_sequences) == (0.5, ("END",))
    assert [spec.name for spec in first.tools] == ["double"]
    assert [message.role for message in second.messages] == ["user", "assistant", "tool"]
    assert second.messages[2].content == "42"
    assert second.messages[2].call_id == second.messages[1].tool_calls[0].call_id == "c1"
    assert datas(events, "message") == [{"content": "let me see 42", "role": "assistant"}]
    assert datas(events, "tool_call") == [{"tool": "double", "input": {"n": 21}, "call_id": "c1"}]
    assert datas(events, "tool_result") == [{"tool": "double", "output": "42", "call_id": "c1", "has_error": False}]


async def test_a_call_that_cannot_run_is_told_to_the_model_and_not_raised() -> None:
    calls = [
        ToolCall("nothing", {}),
        ToolCall("double", {"n": "many"}),
        ToolCall("double", {}, malformed="{n:"),
        ToolCall("fail", {}),
        ToolCall("sleepy", {}),
    ]
    provider = ScriptedProvider(calls, say("sorry"))
    async with served_engine(providing(provider), tools(double, fail, sleepy)) as (engine, client):
        await scripted_schema(engine, tools=("double", "fail", "sleepy"))
        events = await chat(client, "test", "go")
    results = datas(events, "tool_result")
    assert [result["has_error"] for result in results] == [True] * 5
    for result, words in zip(
        results, ("no tool named 'nothing'", "$.n", "not a JSON object", "printer is on fire", "0.02 s"), strict=True
    ):
        assert words in result["output"]
    assert len({result["call_id"] for result in results}) == 5
    assert names(events)[-1] == "done"


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"n": value}
    return value


def deepest() -> int:
    """How deep JSON may be nested here: some Pythons count calls from their bottom, newer ones those of C alone."""
    high = 2
    while fits(high):
        high *= 2
    low = high // 2
    while low < high - 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def fits(depth: int) -> bool:
    """Whether JSON may be nested so deep here."""
    try:
        encode(nested(depth))
    except RecursionError:
        return False
    return True


DEEPEST = deepest()


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (nested(99), "are nested deeper than 99 levels"),
        (nested(500), "are nested deeper than 99 levels"),
        (nested(DEEPEST - 30), "are nested deeper than 99 levels"),
        (nested(2 * DEEPEST), "JSON cannot hold"),
        ({"n": "\ud800"}, "JSON cannot hold"),
    ],
    ids=["too deep", "deep", "deeper", "deepest", "surrogate"],
)
async def test_arguments_that_json_cannot_hold_are_told_to_the_model(odd: dict[str, Any], words: str) -> None:
    provider = ScriptedProvider([ToolCall("double", odd)], say("sorry"))
    async with served_engine(providing(provider), tools(double)) as (engine, client):
        await scripted_schema(engine, tools=("double",))
        events = await chat(client, "test", "go")
    [result] = datas(events, "tool_result")
    assert result["output"] == f"The arguments are not a JSON object: arguments that {words}"
    assert names(events)[-1] == "done"


async def test_arguments_as_deep_as_they_may_be_are_asked_about_and_sent_back() -> None:
    seen: list[Any] = []

    @tool
    async def keep(n: Any) -> str:
        """Keeps it."""
        seen.append(n)
        return "kept"

    provider = ScriptedProvider([ToolCall("keep", nested(98), "call_1")], say("ok"))
    async with served_engine(providing(provider), tools(keep)) as (engine, client):
        await scripted_schema(engine, tools=("keep",), confirm_before=("keep",))
        asked = await client.post("/api/v1/schemas/test/chat", json={"message": "go", "stream": False})
        [question] = asked.json()["questions"]
        body = {"call_id": "call_1", "answers": ["approve"], "input": question["input"]}
        session = f"/api/v1/sessions/{asked.headers['x-session-id']}"
        [row] = (await client.get("/api/v1/approvals")).json()["data"]
        assert row | question == row
        assert (await client.post(f"{session}/respond", json=body)).status_code == 200
        while not seen:
            await anyio.sleep(0.01)
    assert seen == [nested(97)]


async def test_a_tool_that_the_agent_does_not_list_does_not_run() -> None:
    provider = ScriptedProvider([ToolCall("double", {"n": 1})], say("ok"))
    async with served_engine(providing(provider), tools(double)) as (engine, client):
        await scripted_schema(engine)
        events = await chat(client, "test", "go")
    assert "no tool named" in datas(events, "tool_result")[0]["output"]


async def test_a_tool_is_told_whom_it_serves() -> None:
    provider = ScriptedProvider([ToolCall("whoami", {})], say("ok"))
    async with served_engine(providing(provider), tools(whoami)) as (engine, client):
        await scripted_schema(engine, tools=("whoami",))
        events = await chat(client, "test", "go")
    told = json.loads(datas(events, "tool_result")[0]["output"])
    [done] = datas(events, "done")
    assert (told["agent"], told["session"], told["turn"]) == ("test", done["session_id"], done["turn_id"])
    assert told["subject"].startswith("token:")


@pytest.mark.parametrize(("mode", "order"), [("sequential", ["slow", "quick"]), ("parallel", ["quick", "slow"])])
async def test_calls_of_one_step_run_as_the_agent_says(mode: str, order: list[str]) -> None:
    quick_done = anyio.Event()

    @tool
    async def slow() -> str:
        """Waits for the other one where they run side by side."""
        with anyio.move_on_after(30 if mode == "parallel" else 0.01):
            await quick_done.wait()
        return "slow"

    @tool
    async def quick() -> str:
        """Is quick."""
        quick_done.set()
        return "quick"

    provider = ScriptedProvider([ToolCall("slow", {}), ToolCall("quick", {})], say("ok"))
    async with served_engine(providing(provider), tools(slow, quick)) as (engine, client):
        await scripted_schema(engine, tools=("slow", "quick"), tool_execution=mode)
        events = await chat(client, "test", "go")
    assert [call["tool"] for call in datas(events, "tool_call")] == ["slow", "quick"]
    assert [result["tool"] for result in datas(events, "tool_result")] == order
    assert [message.content for message in provider.requests[1].messages[2:]] == ["slow", "quick"]


async def test_repeated_call_ids_of_a_vendor_are_told_apart() -> None:
    provider = ScriptedProvider([ToolCall("double", {"n": 1}, "0")], [ToolCall("double", {"n": 2}, "0")], say("ok"))
    async with served_engine(providing(provider), tools(double)) as (engine, client):
        await scripted_schema(engine, tools=("double",))
        events = await chat(client, "test", "go")
    assert len({call["call_id"] for call in datas(events, "tool_call")}) == 2
    assert [result["output"] for result in datas(events, "tool_result")] == ["2", "4"]


async def test_call_ids_that_a_vendor_repeats_in_another_turn_are_told_apart() -> None:
    call = [ToolCall("double", {"n": 1}, "functions.double:0")]
    provider = ScriptedProvider(call, say("ok"), call, say("ok"))
    async with served_engine(providing(provider), tools(double)) as (engine, client):
        await scripted_schema(engine, tools=("double",))
        [done] = datas(await chat(client, "test", "go"), "done")
        await chat(client, "test", "again", session_id=done["session_id"])
    made = [call.call_id for message in provider.requests[-1].messages for call in message.tool_calls]
    assert len(made) == len(set(made)) == 2


async def test_a_turn_ends_at_max_steps_with_an_error() -> None:
    provider = ScriptedProvider([ToolCall("double", {"n": 1})])
    async with served_engine(providing(provider), tools(double)) as (engine, client):
        await scripted_schema(engine, tools=("double",), max_steps=3)
        events = await chat(client, "test", "go")
    assert len(provider.requests) == 3
    assert names(events) == [*["tool_call", "tool_result"] * 3, "error"]
    assert datas(events, "error")[0]["code"] == "max_steps_reached"


async def test_a_turn_ends_at_max_turn_duration_with_an_error() -> None:
    provider = ScriptedProvider([*say("half "), 30.0, *say("never")])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine, max_turn_duration=1)
        events = await chat(client, "test", "go")
        assert provider.cancelled == 1
        answer = await client.post("/api/v1/schemas/test/chat", json={"message": "go", "stream": False})
    assert names(events) == ["message_delta", "error"]
    assert datas(events, "error")[0]["code"] == "turn_timeout"
    assert answer.status_code == 504
    assert answer.json()["error"] == "turn_timeout"


async def test_a_vendors_failure_is_the_last_event_in_the_vendors_words() -> None:
    failure = ProviderError("HTTP 401: no such key", code="model_auth")
    async with served_engine(providing(ScriptedProvider([*say("x"), failure]))) as (engine, client):
        await scripted_schema(engine)
        events = await chat(client, "test", "go")
        answer = await client.post("/api/v1/schemas/test/chat", json={"message": "go", "stream": False})
    assert names(events) == ["message_delta", "error"]
    [error] = datas(events, "error")
    assert (error["code"], error["message"]) == ("model_auth", "HTTP 401: no such key")
    assert answer.status_code == 502
    assert answer.json()["message"] == "HTTP 401: no such key"


async def test_what_the_file_does_not_take_is_told_as_such_where_calls_run_side_by_side(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(conn: Connection, *given: Any) -> None:
        raise StorageError("The disk is full")

    monkeypatch.setattr(turns, "tool_finished", full)
    provider = ScriptedProvider([ToolCall("double", {"n": 1}), ToolCall("double", {"n": 2})])
    async with served_engine(providing(provider), tools(double)) as (engine, client):
        await scripted_schema(engine, tools=("double",), tool_execution="parallel")
        events = await chat(client, "test", "go")
    [error] = datas(events, "error")
    assert (error["code"], error["message"]) == ("storage", "The disk is full")


async def cancelled_elsewhere() -> str:
    """Waits for what somebody else has cancelled."""
    shared = asyncio.get_running_loop().create_future()
    shared.cancel()
    await shared
    return "never"


async def test_what_somebody_else_has_cancelled_is_a_tools_fault_and_cancels_no_turn() -> None:
    provider = ScriptedProvider([ToolCall("cancelled_elsewhere", {})], say("ok"))
    async with served_engine(providing(provider), tools(tool(cancelled_elsewhere))) as (engine, client):
        await scripted_schema(engine, tools=("cancelled_elsewhere",))
        events = await chat(client, "test", "go")
    assert datas(events, "tool_result")[0]["output"] == "'cancelled_elsewhere' failed because of a fault of its own"
    assert names(events)[-1] == "done"


async def test_what_somebody_else_has_cancelled_ends_no_turn_but_the_one_that_meets_it() -> None:
    class Shared(Toolset):
        async def tools(self, agent: Agent) -> Sequence[Tool]:
            await cancelled_elsewhere()
            return ()

    def register_toolsets(register: Any, engine: Any) -> None:
        register(Shared())

    async def turn_started(turn: Any) -> None:
        await cancelled_elsewhere()

    for observer in (plugin(register_toolsets=register_toolsets), plugin(turn_started=turn_started)):
        provider = ScriptedProvider(say("ok"))
        async with served_engine(providing(provider), observer) as (engine, client):
            await scripted_schema(engine)
            for _ in range(2):
                with anyio.fail_after(5):
                    assert names(await chat(client, "test", "go"))[-1] in ("done", "error")


async def test_a_failure_of_ours_is_logged_with_a_trace_and_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async with served_engine(providing(ScriptedProvider([RuntimeError("secret detail")]))) as (engine, client):
        await scripted_schema(engine)
        events = await chat(client, "test", "go")
    [error] = datas(events, "error")
    assert error["code"] == "internal_error"
    assert "secret detail" not in error["message"]
    assert "RuntimeError: secret detail" in caplog.text


async def test_an_answer_that_was_cut_before_its_first_word_says_so() -> None:
    provider = ScriptedProvider([Thinking(content="long"), Stop("max_tokens")])
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        events = await chat(client, "test", "go")
    assert datas(events, "error")[0]["code"] == "model_max_tokens"


async def test_an_answer_that_was_refused_halfway_is_a_failure_and_nothing_of_it_goes_back() -> None:
    provider = ScriptedProvider([MessageDelta(content="First, take"), Stop("refusal")], say("ok"))
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine)
        events = await chat(client, "test", "go")
        [session] = (await client.get("/api/v1/sessions")).json()["data"]
        await chat(client, "test", "again", session_id=session["id"])
    assert names(events) == ["message_delta", "error"]
    assert datas(events, "error")[0]["code"] == "model_refusal"
    assert [message.content for message in provider.requests[-1].messages] == ["go", "again"]


async def test_tokens_add_up_over_the_steps_of_a_turn_and_the_turns_of_a_session() -> None:
    provider = ScriptedProvider(
        [ToolCall("double", {"n": 1}), Usage(10, 1, 5, 0, 3)], [*say("ok"), Usage(20, 2, 0, 1, 4)]
    )
    async with served_engine(providing(provider), tools(double)) as (engine, client):
        await scripted_schema(engine, tools=("double",))
        events = await chat(client, "test", "go")
        [done] = datas(events, "done")
        await chat(client, "test", "again", session_id=done["session_id"])
        session = (await client.get(f"/api/v1/sessions/{done['session_id']}")).json()
    unpriced = {"cost_usd": None}
    assert done["usage"] == {
        "input_tokens": 30,
        "output_tokens": 3,
        "cached_tokens": 5,
        "thinking_tokens": 1,
        "cache_write_tokens": 7,
        **unpriced,
    }
    assert session["usage"] == {
        "input_tokens": 50,
        "output_tokens": 5,
        "cached_tokens": 5,
        "thinking_tokens": 2,
        "cache_write_tokens": 11,
        **unpriced,
    }


async def test_what_a_vendor_wants_back_is_shown_to_it_again() -> None:
    signed = Stop("tool_calls", vendor={"signature": "s1"})
    provider = ScriptedProvider([Thinking(content="deep"), ToolCall("double", {"n": 1}), signed], say("ok"))
    async with served_engine(providing(provider), tools(double)) as (engine, client):
        await scripted_schema(engine, tools=("double",))
        events = await chat(client, "test", "go")
        await chat(client, "test", "on", session_id=datas(events, "done")[0]["session_id"])
    for request in provider.requests[1:]:
        assert request.messages[1].vendor == {"signature": "s1"}
        assert request.messages[1].thinking == "deep"


async def converse(client: httpx.AsyncClient, count: int, session_id: str | None = None) -> str:
    for n in range(count):
        given = {"session_id": session_id} if session_id else {}
        events = await chat(client, "test", f"question {n} " + "x" * 400, **given)
        session_id = datas(events, "done")[0]["session_id"]
    assert session_id is not None
    return session_id


def size(request: ModelRequest) -> int:
    return sum(len(message.content) for message in request.messages) + len(request.system)


class Summariser(ScriptedProvider):
    """Answers at length, and sums up when that is asked for."""

    def __init__(self) -> None:
        super().__init__(say("answer " + "y" * 400))
        self.summaries: list[ModelRequest] = []
        self.words = "SUMMARY"

    def stream(self, request: ModelRequest, http: Any) -> Any:
        if request.system.startswith("Summarise"):
            self.summaries.append(request)
            words = f"{self.words} {len(self.summaries)}" if self.words else ""
            return ScriptedProvider(say(words)).stream(request, http)
        return super().stream(request, http)


async def test_a_long_session_stays_within_the_context_and_its_beginning_is_summarised_once() -> None:
    provider = Summariser()
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine, max_context_size=1000)
        session_id = await converse(client, 12)
        assert provider.summaries
        made = len(provider.summaries)
        assert made < 12
        last = provider.requests[-1]
        assert f"SUMMARY {made}" in last.system
        assert all(size(request) <= 4 * 1100 for request in provider.requests)
        await engine.db.read(lambda conn: conn.execute("select 1 from summaries").fetchone()[0])
        messages = (await client.get(f"/api/v1/sessions/{session_id}")).json()["messages"]
    assert len(messages) == 24
    asked = "\n".join(request.messages[0].content for request in provider.summaries)
    assert "question 0 " in asked
    covered = [n for n in range(12) if f"user: question {n} " in asked]
    shown = [n for n in range(12) if any(f"question {n} " in message.content for message in last.messages)]
    assert covered + shown == list(range(12))


async def test_a_summary_outlives_a_turn_that_is_longer_than_the_context() -> None:
    provider = Summariser()
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine, max_context_size=1000)
        session_id = await converse(client, 8)
        made = len(provider.summaries)
        await chat(client, "test", "long " + "x" * 20_000, session_id=session_id)
        await converse(client, 1, session_id)
    assert made
    [asked] = provider.summaries[-1].messages
    assert asked.content.startswith(f"Summary so far: SUMMARY {len(provider.summaries) - 1}\n\n")


async def test_a_summary_of_nothing_does_not_take_the_place_of_one() -> None:
    provider = Summariser()
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine, max_context_size=1000)
        session_id = await converse(client, 8)
        made = len(provider.summaries)
        provider.words = ""
        await converse(client, 5, session_id)
    assert len(provider.summaries) > made > 0
    assert f"SUMMARY {made}" in provider.requests[-1].system


async def test_what_is_attached_to_a_message_takes_its_place_in_the_context() -> None:
    class Sighted(Summariser):
        capabilities = Capabilities(vision=True)

    provider = Sighted()
    image = {"media_type": "image/png", "data": "AAAA"}
    async with served_engine(providing(provider)) as (engine, client):
        await scripted_schema(engine, max_context_size=4000)
        session_id = await converse(client, 12)
        assert not provider.summaries
        await chat(client, "test", "look", session_id=session_id, attachments=[image] * 3)
    assert sum(tokens(message) for message in provider.requests[-1].messages) <= 4000


async def test_the_context_never_begins_in_the_middle_of_a_turn() -> None:
    provider = Summariser()
    async with served_engine(providing(provider), tools(double)) as (engine, client):
        await scripted_schema(engine, max_context_size=1000, tools=("double",))
        provider.answers = [[ToolCall("double", {"n": n})] if n % 2 == 0 else say("z" * 300) for n in range(40)]
        await converse(client, 15)
    for request in provider.requests:
        assert request.messages[0].role == "user"
        for before, message in zip(request.messages, request.messages[1:], strict=False):
            if message.role == "tool":
                assert message.call_id in {call.call_id for call in before.tool_calls}


async def test_old_tool_results_of_a_turn_make_room_for_new_ones() -> None:
    @tool
    async def big(n: int) -> str:
        """A long text."""
        return f"{n}" * 2000

    provider = ScriptedProvider(*([ToolCall("big", {"n": n})] for n in range(5)), say("ok"))
    async with served_engine(providing(provider), tools(big)) as (engine, client):
        await scripted_schema(engine, tools=("big",), max_context_size=1200)
        events = await chat(client, "test", "go")
    assert names(events)[-1] == "done"
    results = [message.content for message in provider.requests[-1].messages if message.role == "tool"]
    assert results[-1] == "4" * 2000
    assert results[0] == "[left out to fit the context: 2000 characters]"
    assert size(provider.requests[-1]) <= 4 * 1400


class Seeing(ScriptedProvider):
    """A model that sees."""

    capabilities = Capabilities(vision=True)


@tool
async def snap(name: str) -> Result:
    """A picture."""
    return Result(text=f"Here is {name}", attachments=(Attachment("image/png", "AAAA", name=name),))


SNAPS = [ToolCall("snap", {"name": "a.png"}, "c1"), ToolCall("snap", {"name": "b.png"}, "c2")]


async def test_what_tools_bring_to_look_at_stands_behind_their_results_and_in_the_session() -> None:
    provider = Seeing(SNAPS, say("nice"), say("again"))
    async with served_engine(providing(provider), tools(snap)) as (engine, client):
        await scripted_schema(engine, tools=("snap",), tool_execution="parallel")
        done = datas(await chat(client, "test", "look"), "done")[0]
        await chat(client, "test", "and?", session_id=done["session_id"])
        page = (await client.get(f"/api/v1/sessions/{done['session_id']}/messages")).json()
    _, second, third = provider.requests
    for request in (second, third):
        assert [message.role for message in request.messages[:5]] == ["user", "assistant", "tool", "tool", "user"]
        assert [one.name for one in request.messages[4].attachments] == ["a.png", "b.png"]
        assert not any(message.attachments for message in request.messages[:4])
    shown = [(entry["role"], [one["name"] for one in entry.get("attachments", ())]) for entry in page]
    assert shown[:5] == [("user", []), ("assistant", []), ("tool", ["a.png"]), ("tool", ["b.png"]), ("assistant", [])]


async def test_a_model_that_sees_nothing_is_shown_the_results_alone() -> None:
    provider = ScriptedProvider(SNAPS, say("nice"))
    async with served_engine(providing(provider), tools(snap)) as (engine, client):
        await scripted_schema(engine, tools=("snap",))
        await chat(client, "test", "look")
    assert [message.role for message in provider.requests[1].messages] == ["user", "assistant", "tool", "tool"]
    assert not any(message.attachments for message in provider.requests[1].messages)


async def test_what_a_tool_brought_to_look_at_is_there_after_a_restart(tmp_path: Path) -> None:
    never = Seeing(SNAPS[:1], [*say("I s"), 60.0])
    async with served_engine(providing(never), tools(snap), data=tmp_path) as (engine, client):
        await scripted_schema(engine, tools=("snap",))
        async with client.stream("POST", "/api/v1/schemas/test/chat", json={"message": "look"}) as stream:
            async for line in stream.aiter_lines():
                if '"I s"' in line:
                    break
            session_id = stream.headers["x-session-id"]
    provider = Seeing(say("I see"))
    async with served_engine(providing(provider), tools(snap), data=tmp_path) as (_, client):
        with anyio.fail_after(10):
            while (await client.get(f"/api/v1/sessions/{session_id}")).json()["status"] != "completed":
                await anyio.sleep(0.01)
    [request] = provider.requests
    assert [message.role for message in request.messages] == ["user", "assistant", "tool", "user"]
    assert [one.name for one in request.messages[3].attachments] == ["a.png"]
