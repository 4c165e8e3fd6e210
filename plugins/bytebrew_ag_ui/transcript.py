"""The messages of a conversation as a client has them, for a snapshot that takes text back."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import to_builtins

from bytebrew import FaceTurn, Message, PrecedingTurn

from .kept import Kept, kept_of, turn_of

Shown = dict[str, Any]


class Transcript:
    """Follows the frames of a turn as a client does."""

    def __init__(self, turn: FaceTurn, kept: Kept) -> None:
        self._turn, self._kept = turn, kept
        self._own: list[Shown] = []  # with content as a list of pieces
        self._open: dict[str, list[str]] = {}  # pieces of what grows, by the id of the message or call

    def add(self, id: str, piece: str) -> None:
        """Adds a piece to the text of a message."""
        self._open[id].append(piece)

    def take(self, frame: Shown) -> None:
        """Takes the next frame."""
        match frame["type"]:
            case "TEXT_MESSAGE_CONTENT" | "REASONING_MESSAGE_CONTENT":
                self.add(frame["messageId"], frame["delta"])
            case "TEXT_MESSAGE_START":
                self._begin(frame["messageId"], "assistant")
            case "REASONING_MESSAGE_START":
                self._begin(frame["messageId"], "reasoning")
            case "TOOL_CALL_START":
                if frame["parentMessageId"] not in self._open:
                    self._begin(frame["parentMessageId"], "assistant")
                above = next(one for one in self._own if one["id"] == frame["parentMessageId"])
                above.setdefault("toolCalls", []).append(_call(frame["toolCallId"], frame["toolCallName"], ""))
            case "TOOL_CALL_ARGS":
                for one in self._own:
                    for call in one.get("toolCalls", ()):
                        if call["id"] == frame["toolCallId"]:
                            call["function"]["arguments"] = frame["delta"]
            case "TOOL_CALL_RESULT":
                result = {"toolCallId": frame["toolCallId"], "content": [frame["content"]]}
                self._own.append({"id": frame["messageId"], "role": "tool"} | result)

    def _begin(self, id: str, role: str) -> None:
        pieces: list[str] = []
        self._open[id] = pieces
        self._own.append({"id": id, "role": role, "content": pieces})

    def back_to(self, content: str) -> list[str]:
        """Drops the text beyond `content`, and the reasoning since the last result; the ids of what has lost any."""
        results = [n for n, one in enumerate(self._own) if one["role"] == "tool"]
        lost: list[str] = []
        for n, one in enumerate(self._own):
            text = "".join(one["content"])
            if one["role"] == "tool" or (one["role"] == "reasoning" and n < max(results, default=0)):
                continue
            if one["role"] == "assistant" and content.startswith(text):
                content = content.removeprefix(text)
            else:
                one["content"].clear()
                lost.append(one["id"])
        self._own = [one for one in self._own if one["id"] not in lost or "toolCalls" in one]
        return lost

    def messages(self, before: Iterable[PrecedingTurn]) -> list[Shown] | None:
        """All messages of the conversation by the ids that the client knows them by, up to the last frame.

        None if these are not known: a client would put messages that it does not know behind all others. Reasoning is
        left out, which keeps that of the client as it is.
        """
        known = {one.id: to_builtins(one) for one in self._kept.system}
        earlier = [pair for turn in before for pair in _earlier(turn)]
        ids = [id for id in self._kept.earlier if id not in known]
        if len(ids) != len(earlier) or not all(map(_fits, ids, earlier)):
            return None
        known |= {id: one | {"id": id} for id, (_, one) in zip(ids, earlier, strict=True)}
        found = [known[id] for id in self._kept.earlier]
        if self._kept.message:
            found.append({"id": self._kept.message, "role": "user", "content": self._turn.message})
        own = [one | {"content": "".join(one["content"])} for one in self._own if one["role"] != "reasoning"]
        return found + own


def _fits(id: str, pair: tuple[PrecedingTurn, Shown]) -> bool:
    """Whether an id may be that of a message of an earlier turn."""
    turn, message = pair
    kept = kept_of(turn)
    if turn_of(id):
        return turn_of(id) == turn.id and message["role"] != "user"
    return message["role"] != "user" or kept is None or kept.message == id


def _earlier(turn: PrecedingTurn) -> Iterator[tuple[PrecedingTurn, Shown]]:
    """The messages of a turn as a run shows them."""
    kept = kept_of(turn)
    said: Shown = {}  # texts that follow one another are one message
    for message in turn.messages:
        if message.role == "assistant" and not message.tool_calls and message.broken_off != "invalid":
            said = {"role": "assistant", "content": said.get("content", "") + message.content}
            continue
        if message.role == "assistant":
            if message.broken_off != "invalid":
                yield (
                    turn,
                    {"role": "assistant", "content": said.get("content", "") + message.content} | _calls(message),
                )
                said = {}
            continue
        if said.get("content"):
            yield turn, said
        said = {}
        if message.role == "tool":
            yield turn, {"role": "tool", "toolCallId": message.call_id, "content": message.content}
        elif kept is None or not kept.form:
            yield turn, {"role": "user", "content": _content(message)}
    if said.get("content"):
        yield turn, said


def _content(message: Message) -> Any:
    if not message.attachments:
        return message.content
    parts: list[Shown] = [{"type": "text", "text": message.content}]
    for one in message.attachments:
        kind = one.media_type.partition("/")[0]
        source: Shown = {"type": "url", "value": one.url} if one.url else {"type": "data", "value": one.data}
        shown = kind if kind in ("image", "audio", "video") else "document"
        parts.append({"type": shown, "source": source | {"mimeType": one.media_type}})
    return parts


def _calls(message: Message) -> Shown:
    if not message.tool_calls:
        return {}
    made = [
        _call(one.call_id, one.tool, one.malformed or msgspec.json.encode(one.input).decode())
        for one in message.tool_calls
    ]
    return {"toolCalls": made}


def _call(id: str, tool: str, arguments: str) -> Shown:
    return {"id": id, "type": "function", "function": {"name": tool, "arguments": arguments}}
