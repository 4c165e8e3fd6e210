"""A vendor that means harm: what it sends ends the turn in an `error` that says so, and little of it is taken in."""

import json
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest
from bytebrew_chat_completions.chunks import CallPiece, Calls, Function, joined

from bytebrew.base.errors import ProviderError
from bytebrew.base.http_client.answer_limits import Bounds, Intake
from bytebrew.base.http_client.client import WHOLE, Http
from bytebrew.base.http_client.replies import FRAMING
from bytebrew.base.settings import Core
from bytebrew.testing import chat, served_engine
from tests.hostile_vendor import Hostile, hostile_vendor
from tests.lines import lines

ANSWER, EVENTS = 65536, 1000
SETTINGS = {
    "BYTEBREW_ANSWER_BYTES": str(ANSWER),
    "BYTEBREW_TURN_EVENTS": str(EVENTS),
    "BYTEBREW_STEP_TOOL_CALLS": "16",
    "BYTEBREW_PROVIDER_RETRIES": "0",
}
UNREAD = 16 * 1024 * 1024
"""What may lie in the buffers of two sockets, sent and not read."""
BYTES = f"The model's answer is longer than {ANSWER} bytes; BYTEBREW_ANSWER_BYTES is the limit"
CALLS = "The model asked for more than 16 tool calls at once; BYTEBREW_STEP_TOOL_CALLS is the limit"
LINE = f"The vendor's stream is malformed: a line of the event stream is longer than {ANSWER} bytes"
OPENAI = {
    "text": BYTES,
    "thoughts": BYTES,
    "letters": f"The turn has more than {EVENTS} events; BYTEBREW_TURN_EVENTS is the limit",
    "pieces": LINE,
    "calls": CALLS,
    "arguments": BYTES,
    "names": BYTES,
    "nothing": BYTES,
    "ids": BYTES,
    "long names": BYTES,
    "details": BYTES,
    "event": LINE,
    "comments": BYTES,
    "empty": BYTES,
    "bomb": LINE,
    "packed events": f"The turn has more than {EVENTS} events; BYTEBREW_TURN_EVENTS is the limit",
    "header": "does not speak HTTP: a header is too long",
    "headers": "does not speak HTTP: its answer is malformed",
    "refusal": "HTTP 400: xxxx",
}
OTHERS = {
    "anthropic text": BYTES,
    "anthropic blocks": BYTES,
    "anthropic calls": CALLS,
    "anthropic arguments": BYTES,
    "anthropic inputs": BYTES,
    "anthropic signatures": BYTES,
    "anthropic data": BYTES,
    "google text": BYTES,
    "google signatures": BYTES,
    "google calls": CALLS,
    "google arguments": CALLS,
    "ollama text": BYTES,
    "ollama line": BYTES,
    "ollama calls": CALLS,
    "ollama arguments": CALLS,
}
TYPES = {"anthropic": "anthropic", "google": "google", "ollama": "ollama"}


async def attacked(client: httpx.AsyncClient, vendor: Hostile, name: str) -> list[tuple[str, dict[str, Any]]]:
    """The events of a turn whose model is at the hostile vendor."""
    type_ = TYPES.get(name.split()[0], "openai_compatible")
    model = {
        "name": "m",
        "type": type_,
        "model_name": "gemini-3",
        "base_url": vendor.base_url(name),
        "api_key": "sk-hostile",
    }
    assert (await client.post("/api/v1/models", json=model)).status_code == 201
    await client.post("/api/v1/agents", json={"name": "a", "model": "m"})
    schema = {"name": "s", "entry_agent": "a", "chat_enabled": True}
    assert (await client.post("/api/v1/schemas", json=schema)).status_code == 201
    return [(event.event, json.loads(event.data)) for event in await chat(client, "s", "hello")]


@pytest.mark.parametrize(("name", "words"), (OPENAI | OTHERS).items(), ids=OPENAI | OTHERS)
async def test_what_does_not_end_ends_the_turn_in_words(name: str, words: str) -> None:
    async with hostile_vendor() as vendor, served_engine(settings=SETTINGS) as (_, client):
        with anyio.fail_after(60):
            *events, (last, error) = await attacked(client, vendor, name)
    assert last == "error"
    assert words in error["message"]
    assert sum(len(data.get("content", "")) for _, data in events) <= ANSWER
    assert len(events) <= EVENTS + 1
    assert vendor.requests == 1
    assert vendor.sent <= FRAMING * ANSWER + UNREAD


async def test_vectors_without_an_end_are_not_taken_in() -> None:
    async with hostile_vendor() as vendor:
        http = Http(Core(answer_bytes=ANSWER))
        try:
            with pytest.raises(ProviderError, match="longer than"):
                await http.fetch("POST", vendor.base_url("vectors"))
        finally:
            await http.aclose()
    assert vendor.sent <= WHOLE * ANSWER + UNREAD


async def test_an_event_full_of_the_beginnings_of_calls_ends_the_turn_at_the_first_too_many() -> None:
    async with hostile_vendor() as vendor, served_engine() as (_, client):
        *_, (last, error) = await attacked(client, vendor, "pieces")
    assert (last, error["code"]) == ("error", "model_answer_too_long")
    assert "more than 128 tool calls" in error["message"]


def put_together(pieces: list[CallPiece]) -> None:
    calls = Calls(Intake(Bounds(tool_calls=10**6, answer_bytes=10**9)))
    for piece in pieces:
        calls.add(piece)
    list(calls.whole(truncated=False))


@pytest.mark.parametrize(
    "piece",
    [
        lambda n: CallPiece(id=f"c{n}", function=Function("f")),
        lambda n: CallPiece(index=n, id=f"c{n}", function=Function("f", "{}")),
        lambda n: CallPiece(index=0, id=f"c{n}", function=Function("f")),
        lambda n: CallPiece(index=0, function=Function("f", "}")),
        lambda n: CallPiece(id=f"c{n}", function=Function(None, "x")),
    ],
    ids=["ids", "indexes", "one index", "one name", "no name"],
)
def test_each_piece_of_the_tool_calls_costs_the_same_however_many_there_are(piece: Callable[[int], CallPiece]) -> None:
    few = lines(lambda: put_together([piece(n) for n in range(500)]))
    many = lines(lambda: put_together([piece(n) for n in range(2000)]))
    assert many < 4.2 * few


def test_arguments_are_not_read_anew_for_every_piece_that_repeats_a_name() -> None:
    calls = Calls(Intake(Bounds(answer_bytes=10**9)))
    calls.add(CallPiece(index=0, function=Function("f", '{"a": "' + "x" * 1_000_000)))
    for _ in range(1000):
        calls.add(CallPiece(index=0, function=Function("f", "}")))
    assert calls.reread < 6 * 1024 * 1024


def test_pieces_of_details_are_joined_once() -> None:
    pieces = [{"type": "reasoning.text", "index": 0, "text": "x" * 100}] * 100_000
    [whole] = joined(pieces)
    assert len(whole["text"]) == 10**7


def test_a_bound_is_kept_to_the_byte() -> None:
    intake = Intake(Bounds(answer_bytes=100))
    intake.take(84)
    with pytest.raises(ProviderError, match="longer than 100 bytes"):
        intake.take(0)
