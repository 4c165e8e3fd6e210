"""A chat as the messages that a page shows: what `useChat` has after the same streams."""

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from bytebrew import Conversations, FaceTurn, PrecedingTurn, Request

from .chats import kept, known_turn
from .projection import Chunk, UIMessageStream
from .resumed import settled, stored_events

MOST_TURNS = 1000


class Transcript(Struct, frozen=True):
    """The messages of a chat (UIMessage), oldest first, as `useChat` takes them."""

    messages: list[Chunk]


async def transcript(chats: Conversations, request: Request[Any], newest: FaceTurn | None) -> Transcript:
    """The messages of a chat up to a turn; without the answer of one that has not ended."""
    messages: list[Chunk] = []
    turn = newest
    while turn is not None and len(messages) < 2 * MOST_TURNS:
        messages += await _of_turn(turn)
        before = await known_turn(chats, request, kept(turn).get("before") or "")
        if before is None:  # the first, or the chat began elsewhere, or a session that the chat left was deleted
            for one in reversed(await turn.before() or ()):
                known = await known_turn(chats, request, one.id)
                messages += _texts(one) if known is None else await _of_turn(known)
        turn = before
    return Transcript(messages[: 2 * MOST_TURNS][::-1])


async def _of_turn(turn: FaceTurn) -> list[Chunk]:
    """The answer of a turn, if it has ended, and the message before it."""
    return [await _answer(turn), _question(turn)] if turn.last is not None else [_question(turn)]


def _texts(turn: PrecedingTurn) -> list[Chunk]:
    """The texts of a turn that cannot be read any more, newest first."""
    made: list[Chunk] = []
    for n, one in enumerate(turn.messages):
        if one.content and one.role in ("user", "assistant"):
            part = {"type": "text", "text": one.content}
            made.append({"id": f"{turn.id}-{n}", "role": one.role, "parts": [part]})
    return made[::-1]


def _question(turn: FaceTurn) -> Chunk:
    own = kept(turn)
    parts = own.get("parts") or [{"type": "text", "text": turn.message}]
    return {"id": own.get("message") or f"{turn.id}-user", "role": "user", "parts": parts}


async def _answer(turn: FaceTurn) -> Chunk:
    stream = UIMessageStream(turn, until=(turn.last or 0) + 1)
    return folded(chunk for one in settled(await stored_events(turn)) for chunk in stream.chunks(one))


def folded(chunks: Iterable[Chunk]) -> Chunk:
    """The message that chunks make."""
    message: Chunk = {"id": "", "role": "assistant", "parts": []}
    parts: list[Chunk] = message["parts"]
    texts: dict[str, Chunk] = {}
    calls: dict[str, Chunk] = {}
    for chunk in chunks:
        kind = chunk["type"]
        if "messageMetadata" in chunk:
            message["metadata"] = {**message.get("metadata", {}), **chunk["messageMetadata"]}
        if kind == "start":
            message["id"] = chunk["messageId"]
        elif kind == "start-step":
            parts.append({"type": "step-start"})
        elif kind in ("text-start", "reasoning-start"):
            texts[chunk["id"]] = {"type": kind.removesuffix("-start"), "text": "", "state": "done"}
            parts.append(texts[chunk["id"]])
        elif kind in ("text-delta", "reasoning-delta"):
            texts[chunk["id"]]["text"] += chunk["delta"]
        elif kind.startswith("data-") and not chunk.get("transient"):
            parts.append(chunk)
        elif kind.startswith("tool-"):
            _fold_call(parts, calls, chunk)
    return message


def _fold_call(parts: list[Chunk], calls: dict[str, Chunk], chunk: Chunk) -> None:
    kind, call_id = chunk["type"], chunk["toolCallId"]
    if kind == "tool-input-available":
        if call_id not in calls:
            calls[call_id] = {"type": f"tool-{chunk['toolName']}", "toolCallId": call_id}
            parts.append(calls[call_id])
        own = {"state": "input-available", "input": chunk["input"], "providerExecuted": chunk["providerExecuted"]}
    elif kind == "tool-approval-request":
        own = {"state": "approval-requested", "approval": {"id": chunk["approvalId"]}}
    elif kind == "tool-output-available":
        own = {"state": "output-available", "output": chunk["output"]}
    elif kind == "tool-output-error":
        own = {"state": "output-error", "errorText": chunk["errorText"]}
    else:
        own = {"state": "output-denied"}
    calls[call_id].update(own)
