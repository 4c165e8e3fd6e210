"""Tools: what a model is told of a typed function, and what one call comes to."""

import json
import logging
from typing import Annotated, Any, Literal

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from bytebrew import Call, MessageDelta, Outcome, Tool, ToolCall, ToolError, tool
from bytebrew.conversation.tools.tool_calls import run_tool
from bytebrew.testing import ScriptedProvider, events_of, plugin, providing, scripted_schema, served_engine

CALL = Call(call_id="call_1", session_id="session", turn_id="turn_1", schema="shop", agent="agent", subject="user:me")


class Place(Struct):
    """Somewhere."""

    city: str
    country: str = "DE"


@tool(timeout=5, idempotent=True)
async def forecast(
    place: Place,
    days: Annotated[int, Meta(ge=1, le=14, description="how far to look ahead")] = 1,
    unit: Literal["celsius", "fahrenheit"] = "celsius",
    call: Call = CALL,
) -> dict[str, Any]:
    """The weather to come.

    Rain included.
    """
    return {"city": place.city, "days": days, "unit": unit, "asked_by": call.subject}


@tool(confirm=True, risk="dangerous")
async def wipe(disk: str) -> str:
    """Erases a disk."""
    return f"{disk} is empty"


async def run(one: Tool | None, input: dict[str, Any], *, seconds: float = 5, limit: int = 1000) -> Outcome:
    wanted = ToolCall(one.name if one else "nothing", input, "call_1")
    return await run_tool(one, wanted, CALL, seconds=seconds, limit=limit)


def test_the_signature_is_what_the_model_is_told() -> None:
    spec = forecast.spec()
    assert (spec.name, spec.description) == ("forecast", "The weather to come.\n\nRain included.")
    assert (forecast.timeout, forecast.idempotent) == (5, True)
    assert spec.input_schema == {
        "type": "object",
        "properties": {
            "place": {"$ref": "#/$defs/Place"},
            "days": {
                "type": "integer",
                "minimum": 1,
                "maximum": 14,
                "description": "how far to look ahead",
                "default": 1,
            },
            "unit": {"enum": ["celsius", "fahrenheit"], "default": "celsius"},
        },
        "required": ["place"],
        "additionalProperties": False,
        "$defs": {
            "Place": {
                "title": "Place",
                "description": "Somewhere.",
                "type": "object",
                "properties": {"city": {"type": "string"}, "country": {"type": "string", "default": "DE"}},
                "required": ["city"],
            }
        },
    }


def test_a_tool_may_have_the_name_of_a_struct_that_it_takes() -> None:
    class Ticket(Struct):
        """A wish."""

        title: str

    async def make(ticket: Ticket) -> str:
        """Files a ticket."""
        return ticket.title

    make.__name__ = "Ticket"
    make.__annotations__["ticket"] = Ticket
    schema = tool(make).input_schema
    assert schema["required"] == ["ticket"]
    assert schema["properties"]["ticket"]["$ref"].removeprefix("#/$defs/") in schema["$defs"]


async def test_arguments_arrive_with_their_types_and_the_call_is_filled_in() -> None:
    outcome = await run(forecast, {"place": {"city": "Bonn"}, "days": "3"})
    assert not outcome.has_error
    assert msgspec.json.decode(outcome.output) == {
        "city": "Bonn",
        "days": 3,
        "unit": "celsius",
        "asked_by": "user:me",
    }


@pytest.mark.parametrize(
    ("input", "words"),
    [
        ({}, "missing required field `place`"),
        ({"place": {}}, "missing required field `city` - at `$.place`"),
        ({"place": {"city": "Bonn"}, "days": 15}, "`int` <= 14 - at `$.days`"),
        ({"place": {"city": "Bonn"}, "unit": "kelvin"}, "Invalid enum value 'kelvin' - at `$.unit`"),
        ({"place": {"city": "Bonn"}, "colour": "red"}, "unknown field `colour`"),
        ({"place": {"city": "Bonn"}, "call": {"subject": "user:other"}}, "unknown field `call`"),
    ],
)
async def test_the_model_is_told_which_argument_does_not_fit(input: dict[str, Any], words: str) -> None:
    outcome = await run(forecast, input)
    assert outcome.has_error
    assert words in outcome.output


async def test_the_model_is_told_that_its_arguments_were_no_json_and_that_a_tool_does_not_exist() -> None:
    wanted = ToolCall("forecast", {}, "call_1", malformed="{place: Bonn")
    told = await run_tool(forecast, wanted, CALL, seconds=5, limit=1000)
    assert told == Outcome("The arguments are not a JSON object: {place: Bonn", True)
    assert await run(None, {}) == Outcome("There is no tool named 'nothing'", True)


async def test_a_tool_that_takes_too_long_is_stopped() -> None:
    stopped = anyio.Event()

    @tool
    async def sleep() -> None:
        """Sleeps on."""
        try:
            await anyio.sleep_forever()
        finally:
            stopped.set()

    assert await run(sleep, {}, seconds=0.01) == Outcome("'sleep' did not finish within 0.01 s", True)
    assert stopped.is_set()


async def test_a_tools_own_time_limit_goes_before_the_engines() -> None:
    @tool(timeout=0.01)
    async def sleep() -> None:
        """Sleeps on."""
        await anyio.sleep_forever()

    assert await run(sleep, {}, seconds=60) == Outcome("'sleep' did not finish within 0.01 s", True)


@given(st.text(max_size=60), st.integers(0, 80))
def test_a_long_result_is_cut_between_characters(text: str, limit: int) -> None:
    @tool
    async def echo(text: str) -> str:
        """The same again."""
        return text

    outcome = anyio.run(lambda: run(echo, {"text": text}, limit=limit))
    size = len(text.encode())
    if size <= limit:
        assert outcome.output == text
    else:
        kept, _, mark = outcome.output.rpartition("\n")
        assert mark == f"[cut: {len(kept)} of {len(text)} characters; go on with read_result, call_id call_1]"
        assert outcome.whole == text
        assert text.startswith(kept)
        assert limit - 3 <= len(kept.encode()) <= limit


async def test_what_a_tool_raises_to_tell_the_model_is_told_and_cut_too() -> None:
    @tool
    async def refuse() -> str:
        """Never does it."""
        raise ToolError("try the other door " * 10)

    told = "try the o\n[cut: 9 of 190 characters; go on with read_result, call_id call_1]"
    assert await run(refuse, {}, limit=9) == Outcome(told, True, "try the other door " * 10)


@pytest.mark.parametrize("failure", [KeyError("password=hunter2"), TimeoutError("read timed out")])
async def test_a_fault_is_logged_with_its_trace_and_told_in_one_line(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    @tool
    async def broken() -> str:
        """Breaks."""
        raise failure

    assert await run(broken, {}) == Outcome("'broken' failed because of a fault of its own", True)
    record = next(record for record in caplog.records if record.levelno == logging.ERROR)
    assert record.getMessage() == "tool broken failed"
    assert record.exc_info
    assert record.exc_info[1] is failure


async def test_a_result_that_is_no_json_is_the_tools_fault() -> None:
    @tool
    async def strange() -> object:
        """Answers what nobody can read."""
        return object()

    assert (await run(strange, {})).has_error


@pytest.mark.parametrize(("result", "output"), [("as it is\n", "as it is\n"), (None, "null"), ([1, "ü"], '[1,"ü"]')])
async def test_text_stays_and_everything_else_becomes_json(result: Any, output: str) -> None:
    @tool
    async def answer() -> Any:
        """Answers."""
        return result

    assert await run(answer, {}) == Outcome(output, False)


def test_only_a_typed_async_function_is_a_tool() -> None:
    with pytest.raises(TypeError, match="must be an async function"):

        @tool  # type: ignore[arg-type]
        def blocking() -> str:
            return ""

    with pytest.raises(TypeError, match="annotate the parameter 'place'"):

        @tool
        async def untyped(place) -> str:  # type: ignore[no-untyped-def]
            return str(place)


def test_a_risk_that_is_none_is_refused_where_it_is_written() -> None:
    with pytest.raises(TypeError, match=r"wipe: a risk is one of safe, caution, dangerous, not 'deadly'"):
        tool(risk="deadly")(wipe.__wrapped__)  # type: ignore[call-overload]


async def test_a_tool_with_confirm_asks_a_person_though_the_agent_does_not_say_so() -> None:
    model = ScriptedProvider([ToolCall("wipe", {"disk": "sda"})], [MessageDelta(content="Done.")])
    wiping = plugin(register_tools=lambda register: register(wipe))
    async with served_engine(wiping, providing(model)) as (running, client):
        await scripted_schema(running, tools=("wipe",))
        [listed] = [one for one in (await client.get("/api/v1/tools/metadata")).json() if one["name"] == "wipe"]
        assert (listed["confirm"], listed["security_zone"]) == (True, "dangerous")
        body = {"message": "Wipe!"}
        async with client.stream("POST", "/api/v1/schemas/test/chat", json=body) as response:
            session = response.headers["x-session-id"]
            seen = []
            async for event in events_of(response):
                seen.append(event.event)
                if event.event == "confirmation":
                    assert json.loads(event.data)["risk"] == "dangerous"
                    [waiting] = (await client.get("/api/v1/approvals")).json()["data"]
                    assert (waiting["tool"], waiting["risk"]) == ("wipe", "dangerous")
                    answer = {"call_id": json.loads(event.data)["call_id"], "answers": ["no"]}
                    assert (await client.post(f"/api/v1/sessions/{session}/respond", json=answer)).is_success
    assert seen == ["tool_call", "confirmation", "tool_result", "message_delta", "message", "done"]
    assert "refused this call" in model.requests[-1].messages[-1].content
