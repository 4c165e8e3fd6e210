"""The pieces that an answer on this wire comes in, and how tool calls are put together from them."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import Struct, field

from bytebrew import ProviderError, ToolCall, Usage

from .faults import broken_off


class Function(Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class CallPiece(Struct):
    index: int | None = None
    id: str | None = None
    function: Function | None = None


class Part(Struct):
    """A part of a content that is a list: text, or the parts of a thought."""

    text: str | None = None
    thinking: "list[Part] | None" = None


class Delta(Struct):
    content: str | list[Part] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[dict[str, Any]] | None = None
    tool_calls: list[CallPiece] | None = None

    def said(self) -> tuple[str, str]:
        """The thought and the text."""
        thought, content = self.reasoning_content or self.reasoning or "", self.content
        if isinstance(content, list):
            thoughts = [inner.text or "" for part in content for inner in part.thinking or ()]
            return thought + "".join(thoughts), "".join(part.text or "" for part in content)
        return thought, content or self.refusal or ""


class Choice(Struct):
    delta: Delta | None = None
    finish_reason: str | None = None
    error: Any = None


class PromptDetails(Struct):
    cached_tokens: int | None = None


class CompletionDetails(Struct):
    reasoning_tokens: int | None = None


class Counts(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_cache_hit_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None

    def usage(self) -> Usage:
        prompt, completion = self.prompt_tokens or 0, self.completion_tokens or 0
        cached = (self.prompt_tokens_details and self.prompt_tokens_details.cached_tokens) or 0
        cached = cached or self.prompt_cache_hit_tokens or 0  # DeepSeek's: api-docs.deepseek.com/guides/kv_cache
        thinking = (self.completion_tokens_details and self.completion_tokens_details.reasoning_tokens) or 0
        # xAI counts thinking beside the completion and not within it: https://docs.x.ai/docs/guides/reasoning
        if thinking and self.total_tokens == prompt + completion + thinking:
            completion += thinking
        return Usage(prompt, completion, cached, thinking)


class Chunk(Struct):
    """A chunk, or an error in its place: within `error`, or as vLLM has it, in the chunk itself."""

    choices: list[Choice] | None = None
    usage: Counts | None = None
    error: Any = None
    message: Any = None
    code: Any = None
    type: Any = None


_chunk: Callable[[str], Chunk] = msgspec.json.Decoder(Chunk).decode


def read(data: str) -> Chunk:
    """A chunk out of an event's data; raises the error in it as ProviderError."""
    try:
        chunk = _chunk(data)
    except msgspec.DecodeError as error:
        words = f"The vendor sent a chunk that cannot be read ({error}): {data[:200]}"
        raise ProviderError(words) from error
    if fault := chunk.error or (chunk.choices and chunk.choices[0].error):
        raise broken_off(fault)
    if chunk.choices is None and chunk.message:
        raise broken_off({"message": chunk.message, "code": chunk.code, "type": chunk.type})
    return chunk


def joined(details: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The details of a whole answer out of their pieces, each of which goes on with the one before of its index."""
    whole: list[dict[str, Any]] = []
    for piece in details:
        last = whole[-1] if whole else {}
        if piece.get("index") is None or (last.get("index"), last.get("type")) != (piece["index"], piece.get("type")):
            whole.append(dict(piece))
            continue
        for name, value in piece.items():
            if name in ("text", "summary", "data") and isinstance(value, str):
                last[name] = (last.get(name) or "") + value
            elif value is not None:
                last[name] = value
    return whole


class _Call(Struct):
    index: int
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    def is_whole(self) -> bool:
        """Whether its arguments are there to their end."""
        try:
            return isinstance(msgspec.json.decode("".join(self.arguments)), dict)
        except (msgspec.DecodeError, RecursionError):
            return False

    def whole(self, *, cut: bool) -> ToolCall:
        text = "".join(self.arguments)
        try:
            value = msgspec.json.decode(text) if text.strip() else (None if cut else {})
        except (msgspec.DecodeError, RecursionError):
            value = None
        if isinstance(value, dict):
            return ToolCall(self.name, value, self.id)
        return ToolCall(self.name, {}, self.id, malformed=text)


class Calls:
    """The tool calls of an answer, put together from their pieces."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []

    def add(self, piece: CallPiece) -> None:
        function = piece.function or Function()
        call = self._of(piece, function.name or "", bool(function.arguments))
        if call is None:
            call = _Call(piece.index or 0)
            self._calls.append(call)
        call.id = call.id or piece.id or ""
        call.name = call.name or function.name or ""
        if arguments := function.arguments:
            text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
            call.arguments.append(text)

    def _of(self, piece: CallPiece, name: str, brings: bool) -> _Call | None:
        """The call that a piece goes on with, or None where it begins one.

        Some vendors leave out the index, and some give every call the index 0; then a name begins a call where it
        comes with another id, is another name, or brings arguments to a call that has all of its own. An id without a
        name means nothing: some vendors make a new one for each piece.
        """
        for call in reversed(self._calls):
            if piece.index is None:
                same = piece.id == call.id if piece.id else not name
            else:
                same = piece.index == call.index and not (name and piece.id and call.id and piece.id != call.id)
            if same:
                other = name and call.name and (name != call.name or (brings and not piece.id and call.is_whole()))
                return None if other else call
        return self._calls[-1] if self._calls and piece.index is None and not name else None

    def whole(self, *, cut: bool) -> Iterator[ToolCall]:
        """The calls in the order of their indexes; in an answer that was `cut` off, one needs its arguments."""
        return (call.whole(cut=cut) for call in sorted(self._calls, key=lambda call: call.index))
