"""Chats with real engines over a socket, by both clients."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from both import BOTH, WIPE, WIPING, Kind, calling, chat_of, scripted, wiped
from bytebrew import Capabilities, Http, ModelRequest, ProviderError, Usage
from bytebrew import MessageDelta as Delta
from bytebrew import ToolCall as Call
from bytebrew.testing import ScriptedProvider, providing, scripted_schema, served_engine, token
from bytebrew_client import (
    Answer,
    Attachment,
    Chat,
    Client,
    ClientToolCall,
    Confirmation,
    Conflict,
    Done,
    ErrorEvent,
    Forbidden,
    InputNeeded,
    Message,
    MessageDelta,
    Queued,
    Steered,
    StructuredOutput,
    ToolResult,
    TurnFailed,
    tool,
)


@BOTH
async def test_a_chat_is_its_events_and_its_text(kind: Kind) -> None:
    async with scripted(kind, [Delta(content="Hello "), Delta(content="there."), Usage(3, 2)]) as (call, _):
        chat = chat_of(call, "test", "Hi")
        events = await call.events(chat)
        answer: Answer = await call.run(chat.answer)
    assert [type(event) for event in events] == [MessageDelta, MessageDelta, Message, Done]
    assert [event.id for event in events] == ["1", "2", "3", "4"]
    assert (answer.text, answer.status, answer.finish_reason) == ("Hello there.", "completed", "stop")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (3, 2)
    assert events[-1] == Done(id="4", session_id=chat.session_id, turn_id=chat.turn_id, usage=answer.usage)
    assert answer.session_id == chat.session_id


@BOTH
async def test_a_reply_goes_on_in_the_session(kind: Kind) -> None:
    async with scripted(kind, [Delta(content="One.")], [Delta(content="Two.")]) as (call, model):
        first = chat_of(call, "test", "Hi")
        with pytest.raises(ValueError, match="no session yet"):
            first.reply("And?")
        assert await call.run(first.text) == "One."
        second = first.reply("And?")
        assert await call.run(second.text) == "Two."
    assert second.session_id == first.session_id
    assert [message.content for message in model.requests[-1].messages] == ["Hi", "One.", "And?"]


@BOTH
async def test_a_turn_that_fails_is_an_event_and_an_exception(kind: Kind) -> None:
    failing = [Delta(content="Well"), ProviderError("the vendor is out", code="model_bad_request")]
    async with scripted(kind, failing) as (call, _):
        chat = chat_of(call, "test", "Hi")
        events = await call.events(chat)
        assert isinstance(events[-1], ErrorEvent)
        with pytest.raises(TurnFailed, match="the vendor is out") as caught:
            await call.run(chat.text)
    assert (caught.value.code, caught.value.session_id) == ("model_bad_request", chat.session_id)
    assert caught.value.turn_id == chat.turn_id


@BOTH
@pytest.mark.parametrize(
    ("method", "options", "disks"),
    [
        ("approve", {}, ["sda"]),
        ("approve", {"input": {"disk": "sdb"}}, ["sdb"]),
        ("reject", {"reason": "not today"}, []),
    ],
)
async def test_a_question_is_answered_while_the_stream_is_read(
    kind: Kind, method: str, options: dict[str, Any], disks: list[str]
) -> None:
    wiped.clear()
    async with scripted(kind, *WIPING, plugins=(WIPE,), tools=("wipe",)) as (call, _):
        chat = chat_of(call, "test", "Wipe!")
        events = await call.events(
            chat,
            lambda event: getattr(chat, method)(event, **options) if isinstance(event, Confirmation) else None,
        )
        answer: Answer = await call.run(chat.answer)
    [result] = [event for event in events if isinstance(event, ToolResult)]
    assert (wiped, answer.text, answer.questions) == (disks, "As you say.", ())
    assert result.has_error is (not disks)
    assert disks or "not today" in result.output


@BOTH
async def test_an_answer_ends_where_a_person_must_answer_first_and_goes_on_behind_it(kind: Kind) -> None:
    wiped.clear()
    async with scripted(kind, *WIPING, plugins=(WIPE,), tools=("wipe",)) as (call, _):
        chat = chat_of(call, "test", "Wipe!")
        answer: Answer = await call.run(chat.answer)
        assert (answer.status, answer.text, wiped) == ("needs_input", "", [])
        [question] = answer.questions
        assert (question.tool, question.input) == ("wipe", {"disk": "sda"})
        [waiting] = (await call(lambda client: client.approvals.list())).data
        assert waiting.id == question.confirmation_id
        answered = await call.run(lambda: chat.approve(question))
        assert (answered.approved, answered.confirmation.tool) == (True, "wipe")
        assert (await call.run(lambda: chat.approve(question))).approved  # the same answer twice is one
        with pytest.raises(Conflict):
            await call.run(lambda: chat.reject(question))
        assert await call.run(chat.text) == "As you say."
    assert wiped == ["sda"]


@BOTH
async def test_a_text_says_that_a_person_must_answer_first(kind: Kind) -> None:
    async with scripted(kind, *WIPING, plugins=(WIPE,), tools=("wipe",)) as (call, _):
        chat = chat_of(call, "test", "Wipe!")
        with pytest.raises(InputNeeded) as caught:
            await call.run(chat.text)
        [waiting] = (await call(lambda client: client.approvals.list())).data
        assert caught.value.answer.questions[0].args_digest == waiting.args_digest
        await call(lambda client: client.approvals.reject(waiting, reason="no"))
        assert await call.run(chat.text) == "As you say."
        [rejected] = (await call(lambda client: client.approvals.list(status="rejected"))).data
    assert (rejected.verdict, rejected.reason) == ("reject", "no")


FORM = {
    "output_type": "form",
    "title": "Your order",
    "questions": [
        {"id": "size", "label": "Size", "type": "select", "options": [{"label": "S"}, {"label": "L"}]},
        {"id": "name", "label": "Your name"},
    ],
}


@BOTH
async def test_a_form_is_shown_and_answered(kind: Kind) -> None:
    script = ([Call("show_structured_output", FORM)], [Delta(content="Thank you.")])
    async with scripted(kind, *script, tools=("show_structured_output",)) as (call, model):
        chat = chat_of(call, "test", "Coffee!")
        answer: Answer = await call.run(chat.answer)
        assert answer.status == "needs_input"
        assert isinstance(answer.form, StructuredOutput)
        assert [one.value for one in answer.form.questions[0].options] == ["S", "L"]
        assert await call.run(chat.answer_form({"size": "L", "name": "Anna"}).text) == "Thank you."
    assert "Size (size): L" in model.requests[-1].messages[-1].content


@tool
def where_am_i(exact: bool = False) -> dict[str, Any]:
    """The place on the map."""
    return {"city": "Zürich", "exact": exact}


@tool(name="slow_place")
async def slowly(exact: bool) -> str:
    """The same, but slower."""
    await asyncio.sleep(0.01)
    return f"Zürich, {exact}"


def broken(code: int) -> None:
    """Fails."""
    raise LookupError(f"no {code}")


@BOTH
async def test_tools_run_here_when_the_model_calls_them(kind: Kind) -> None:
    calls = [Call("where_am_i", {"exact": True}), Call("slow_place", {"exact": False}), Call("broken", {"code": 7})]
    async with scripted(kind, calls, [Delta(content="In Zürich.")]) as (call, model):
        chat = chat_of(call, "test", "Where?", tools=[where_am_i, slowly, broken])
        assert await call.run(chat.text) == "In Zürich."
        answer: Answer = await call.run(chat.answer)
    assert [spec.name for spec in model.requests[0].tools] == ["where_am_i", "slow_place", "broken"]
    assert model.requests[0].tools[0].input_schema["properties"] == {"exact": {"type": "boolean"}}
    outputs = {one.tool: (one.output, one.has_error) for one in answer.tool_calls}
    assert outputs["where_am_i"] == ('{"city":"Zürich","exact":true}', False)
    assert outputs["slow_place"] == ("Zürich, False", False)
    assert outputs["broken"] == ("LookupError: no 7", True)


@BOTH
@pytest.mark.parametrize(
    ("input", "output"),
    [
        ({}, "ValueError: the parameter exact is missing"),
        ({"exact": "yes"}, 'ValueError: exact is no bool: "yes"'),
        ({"exact": True, "more": 1}, "ValueError: there is no parameter more; there are exact"),
    ],
)
async def test_a_model_reads_what_is_wrong_with_its_input(kind: Kind, input: dict[str, Any], output: str) -> None:
    async with scripted(kind, [Call("slow_place", input)], [Delta(content="Hm.")]) as (call, _):
        answer: Answer = await call.run(chat_of(call, "test", "Where?", tools=[slowly]).answer)
    [record] = answer.tool_calls
    assert (record.output, record.has_error) == (output, True)


@BOTH
@pytest.mark.parametrize("result", [object(), float("nan"), "x" * 2_000_000])
async def test_a_result_that_cannot_be_sent_is_a_failure_that_the_model_reads(kind: Kind, result: object) -> None:
    def fetch() -> object:
        """Fetches it."""
        return result

    async with scripted(kind, [Call("fetch", {})], [Delta(content="Hm.")]) as (call, _):
        answer: Answer = await call.run(chat_of(call, "test", "Go", tools=[fetch]).answer)
    [record] = answer.tool_calls
    assert record.has_error
    assert record.output.startswith(("The result is no JSON", "The result is too large"))


@BOTH
async def test_a_result_that_somebody_else_has_sent_counts(kind: Kind) -> None:
    def pick() -> str:
        """Picks one."""
        return "ours"

    async with scripted(kind, [Call("pick", {})], [Delta(content="Done.")]) as (call, _):
        chat = chat_of(call, "test", "Go", tools=[pick])
        await call.events(
            chat, lambda event: chat.send_result(event, "theirs") if isinstance(event, ClientToolCall) else None
        )
        [record] = (await call.run(chat.answer)).tool_calls
    assert (record.output, record.has_error) == ("theirs", False)


@BOTH
async def test_the_caller_may_answer_a_call_itself(kind: Kind) -> None:
    declaration = {"name": "pick", "description": "Picks", "input_schema": {"type": "object"}}
    async with scripted(kind, [Call("pick", {"n": 1})], [Delta(content="Done.")]) as (call, _):
        chat = chat_of(call, "test", "Go", tools=[declaration])
        await call.events(
            chat, lambda event: chat.send_result(event, {"ok": 1}) if isinstance(event, ClientToolCall) else None
        )
        [record] = (await call.run(chat.answer)).tool_calls
    assert record.output == '{"ok":1}'


@BOTH
async def test_a_schema_that_allows_no_tools_of_clients_refuses_them(kind: Kind) -> None:
    async with served_engine() as (_, http), calling(kind, str(http.base_url)) as call:
        with pytest.raises(Forbidden) as caught:
            await call.run(chat_of(call, "demo", "Where?", tools=[where_am_i]).text)
    assert caught.value.code == "client_tools_disabled"


class Seeing(ScriptedProvider):
    """A model that takes images."""

    capabilities = Capabilities(vision=True)


@BOTH
async def test_files_go_along_with_a_message(kind: Kind, tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"\x89PNG")
    files = [tmp_path / "cat.png", Attachment(media_type="image/png", url="https://example.com/dog.png")]
    seeing = Seeing([Delta(content="A cat.")])
    async with scripted(kind, seeing) as (call, model):
        await call.run(chat_of(call, "test", "What is it?", attachments=files).text)
    cat, dog = model.requests[0].messages[-1].attachments
    assert (cat.media_type, cat.data, cat.name) == ("image/png", "iVBORw==", "cat.png")
    assert dog.url == "https://example.com/dog.png"
    with pytest.raises(ValueError, match="media_type"):
        Attachment.file(tmp_path / "cat.unknown")


class Gate(ScriptedProvider):
    """Answers a message that has the word slow only once it may."""

    def __init__(self) -> None:
        super().__init__([Delta(content="Here now.")])
        self.running, self.free = asyncio.Event(), asyncio.Event()

    async def stream(self, request: ModelRequest, http: Http) -> Any:
        yield Delta(content="Well, ")
        if request.messages[-1].content == "slow":
            self.running.set()
            await self.free.wait()
        async for event in super().stream(request, http):
            yield event


@BOTH
async def test_a_message_steers_the_turn_that_runs(kind: Kind) -> None:
    gate = Gate()
    async with scripted(kind, gate) as (call, _):
        chat = chat_of(call, "test", "slow")
        assert isinstance((await call.events(chat, count=1))[0], MessageDelta)
        await gate.running.wait()
        steering = await call.run(lambda: chat.steer("in Paris, please"))
        assert steering.turn_id != chat.turn_id
        gate.free.set()
        events = await call.events(chat)
        assert await call.run(steering.text) == await call.run(chat.text)
    [steered] = [event for event in events if isinstance(event, Steered)]
    assert steered.turn_id == steering.turn_id
    assert "in Paris, please" in [message.content for message in gate.requests[-1].messages]


@BOTH
async def test_a_message_waits_behind_another_and_ends_with_its_own_turn(kind: Kind) -> None:
    gate = Gate()
    async with scripted(kind, gate) as (call, _):
        first = await call.run(chat_of(call, "test", "slow").send)
        await gate.running.wait()
        second = first.reply("mine")
        assert isinstance((await call.events(second, count=1))[0], Queued)
        gate.free.set()
        events = await call.events(second)
        assert await call.run(first.text) == "Well, Here now."
    assert isinstance(events[-1], Done)
    assert events[-1].turn_id == second.turn_id


@BOTH
async def test_a_turn_is_cancelled(kind: Kind) -> None:
    gate = Gate()
    async with scripted(kind, gate) as (call, _):
        chat = chat_of(call, "test", "slow")
        await call.events(chat, count=1)
        await gate.running.wait()
        await call.run(chat.cancel)
        answer: Answer = await call.run(chat.answer)
    assert (answer.status, answer.finish_reason, answer.text) == ("cancelled", "cancelled", "Well, ")


@BOTH
async def test_a_message_is_replaced_and_a_session_forked(kind: Kind) -> None:
    async with scripted(kind, [Delta(content="One.")], [Delta(content="Two.")], [Delta(content="Three.")]) as (
        call,
        model,
    ):
        chat = chat_of(call, "test", "In euros")
        await call.run(chat.text)
        edited = chat.edit("In dollars")
        assert await call.run(edited.text) == "Two."
        assert edited.session_id != chat.session_id
        assert [one.content for one in model.requests[-1].messages] == ["In dollars"]
        fork = await call(lambda client: client.sessions.fork(chat.session_id))
        assert fork.forked_from.session_id == chat.session_id
        following = chat_of(call, "test", "And?", session_id=fork.id)
        assert await call.run(following.text) == "Three."
    assert [one.content for one in model.requests[-1].messages] == ["In euros", "One.", "And?"]


@BOTH
async def test_a_visitor_in_the_public_view_has_an_answer_and_no_tools(kind: Kind) -> None:
    wiped.clear()
    async with (
        served_engine(WIPE, providing(ScriptedProvider(*WIPING))) as (running, http),
        calling(kind, str(http.base_url)) as call,
    ):
        await scripted_schema(running, tools=("wipe",))
        await http.patch("/api/v1/schemas/test", json={"view": "public"})
        async with calling(kind, str(http.base_url), await token(running, "chat")) as visitor:
            chat = chat_of(visitor, "test", "Wipe!")
            answer: Answer = await visitor.run(chat.answer)
            [question] = answer.questions
            assert (question.tool, question.input, answer.tool_calls) == ("", {}, ())
            with pytest.raises(Forbidden):
                await visitor.run(lambda: chat.approve(question))
            [waiting] = (await call(lambda client: client.approvals.list())).data
            await call(lambda client: client.approvals.approve(waiting))
            assert await visitor.run(chat.text) == "As you say."
    assert wiped == ["sda"]


def test_nothing_is_sent_before_it_is_wanted() -> None:
    with Client("http://127.0.0.1:1") as client:
        chat = client.chat("test", "Hi")
        assert isinstance(chat, Chat)
        assert (chat.session_id, chat.turn_id, chat.text_so_far) == ("", "", "")
