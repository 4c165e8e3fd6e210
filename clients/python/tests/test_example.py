"""The conversation at the terminal, `examples/clients/chat.py`, with real engines."""

import asyncio
import os
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from bytebrew import MessageDelta, ProviderError, ToolCall, tool
from bytebrew.testing import ADMIN, ScriptedProvider, plugin, providing, scripted_schema, served_engine

EXAMPLE = Path(__file__).parents[3] / "examples" / "clients" / "chat.py"


class Printed(NamedTuple):
    """What a conversation printed, and what of it went to the standard error."""

    code: int
    output: str
    errors: str


async def run(url: str, *lines: str, schema: str = "test", token: str = ADMIN) -> Printed:
    """A conversation, of which these lines are typed."""
    command, pipe = [sys.executable, "-I", str(EXAMPLE), schema], asyncio.subprocess.PIPE
    environment = {**os.environ, "BYTEBREW_URL": url, "BYTEBREW_TOKEN": token}
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment)
    output, errors = await asyncio.wait_for(process.communicate("".join(f"{one}\n" for one in lines).encode()), 40)
    return Printed(process.returncode or 0, output.decode(), errors.decode())


@pytest.mark.parametrize(
    ("answer", "disks"), [("yes", ["sda"]), ("no", []), ("perhaps", []), ("{no JSON", []), ('{"disk": "sdb"}', ["sdb"])]
)
async def test_a_person_is_asked_before_a_call_and_the_answer_counts(answer: str, disks: list[str]) -> None:
    wiped: list[str] = []

    @tool(confirm=True)
    async def wipe(disk: str) -> str:
        """Erases a disk."""
        wiped.append(disk)
        return f"{disk} is empty"

    model = ScriptedProvider([ToolCall("wipe", {"disk": "sda"})], [MessageDelta(content="As you say.")])
    tools = plugin(register_tools=lambda register: register(wipe))
    async with served_engine(tools, providing(model)) as (running, http):
        await scripted_schema(running, tools=("wipe",))
        printed = await run(str(http.base_url), "Wipe!", answer)
    assert (printed.code, printed.errors, wiped) == (0, "", disks)
    assert "May it run?" in printed.output
    assert printed.output.rstrip().endswith("As you say.")


FORM = {
    "output_type": "form",
    "title": "Your order",
    "questions": [
        {"id": "size", "label": "Which size", "type": "select", "options": [{"label": "S"}, {"label": "L"}]},
        {
            "id": "extras",
            "label": "What with it",
            "type": "multiselect",
            "options": [{"label": "milk"}, {"label": "sugar"}],
        },
        {"id": "name", "label": "Your name"},
    ],
}
TABLE = {"output_type": "table", "title": "So far", "rows": [{"label": "Coffee", "value": 2}]}


async def test_a_form_is_filled_in_and_answers_as_the_next_message() -> None:
    model = ScriptedProvider(
        [ToolCall("show_structured_output", TABLE)],
        [ToolCall("show_structured_output", FORM)],
        [MessageDelta(content="Thank you.")],
        [MessageDelta(content="Bye.")],
    )
    async with served_engine(providing(model)) as (running, http):
        await scripted_schema(running, tools=("show_structured_output",))
        printed = await run(str(http.base_url), "Coffee!", "L", "milk, sugar", "Anna", "That is all")
    assert (printed.code, printed.errors) == (0, "")
    for text in ("So far", "Coffee: 2", "Your order", "Which size (S, L)", "Thank you."):
        assert text in printed.output
    assert printed.output.rstrip().endswith("Bye.")
    spoken = [message.content for message in model.requests[-1].messages if message.role == "user"]
    assert spoken[0] == "Coffee!"
    assert all(word in spoken[1] for word in ("L", "milk", "sugar", "Anna"))
    assert spoken[2] == "That is all"


async def test_a_turn_that_fails_says_why_and_the_conversation_goes_on() -> None:
    model = ScriptedProvider(
        [MessageDelta(content="Well"), ProviderError("the vendor is out", code="model_bad_request")],
        [MessageDelta(content="Here now.")],
    )
    async with served_engine(providing(model)) as (running, http):
        await scripted_schema(running)
        printed = await run(str(http.base_url), "Hi", "", "Again")
    assert printed.code == 0
    assert "[model_bad_request: the vendor is out]" in printed.output
    assert printed.output.rstrip().endswith("Here now.")


@pytest.mark.parametrize(
    ("schema", "token", "words"),
    [("nobodys", ADMIN, "not_found: "), ("demo", "bb_" + "0" * 64, "unauthorized: Invalid or expired API token")],
)
async def test_what_is_refused_is_shown_and_ends_the_conversation(schema: str, token: str, words: str) -> None:
    async with served_engine() as (_, http):
        printed = await run(str(http.base_url), "Hi", schema=schema, token=token)
    assert printed.code == 1
    assert words in printed.errors
    assert "Traceback" not in printed.errors
    assert token not in printed.errors
