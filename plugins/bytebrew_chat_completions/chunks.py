"""Chunks of streamed answers, and the assembly of tool calls from them."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import Struct, field

from bytebrew import Intake, ProviderError, ToolCall, Usage

from .vendor_errors import broken_off


class Function(Struct, gc=False):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class CallPiece(Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: Function | None = None


class Part(Struct, gc=False):
    """A part of structured content: text, or thinking."""

    text: str | None = None
    thinking: "list[Part] | None" = None


class Delta(Struct, gc=False):
    content: str | list[Part] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[dict[str, Any]] | None = None
    tool_calls: list[CallPiece] | None = None

    def thinking_and_text(self) -> tuple[str, str]:
        """The thinking and the text of the delta."""
        thought, content = self.reasoning_content or self.reasoning or "", self.content
        if isinstance(content, list):
            thoughts = [inner.text or "" for part in content for inner in part.thinking or ()]
            return thought + "".join(thoughts), "".join(part.text or "" for part in content)
        return thought, content or self.refusal or ""


class Choice(Struct, gc=False):
    delta: Delta | None = None
    finish_reason: str | None = None
    error: Any = None


class PromptDetails(Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None  # https://openrouter.ai/docs/features/prompt-caching


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
        written = (self.prompt_tokens_details and self.prompt_tokens_details.cache_write_tokens) or 0
        thinking = (self.completion_tokens_details and self.completion_tokens_details.reasoning_tokens) or 0
        # xAI does not include thinking in the completion: https://docs.x.ai/docs/guides/reasoning
        if thinking and self.total_tokens == prompt + completion + thinking:
            completion += thinking
        return Usage(prompt, completion, cached, thinking, written)


class Chunk(Struct, gc=False):
    """A chunk, or an error in its place: in `error`, or with vLLM in the chunk itself."""

    choices: list[Choice] | None = None
    usage: Counts | None = None
    error: Any = None
    message: Any = None
    code: Any = None
    type: Any = None


_chunk: Callable[[str], Chunk] = msgspec.json.Decoder(Chunk).decode


def read(data: str) -> Chunk:
    """Decodes a chunk; raises an error in it as ProviderError."""
    try:
        chunk = _chunk(data)
    except msgspec.DecodeError as error:
        message = f"The vendor sent a chunk that cannot be read ({error}): {data[:200]}"
        raise ProviderError(message, code="model_unavailable", retry=True) from error
    if fault := chunk.error or (chunk.choices and chunk.choices[0].error):
        raise broken_off(fault)
    if chunk.choices is None and chunk.message:
        raise broken_off({"message": chunk.message, "code": chunk.code, "type": chunk.type})
    return chunk


_REREAD_BYTES = 1024 * 1024
"""Constant part of the limit on characters that are parsed again."""


def joined(details: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The reasoning details of an answer, joined from deltas: a delta continues the previous one with its index."""
    whole: list[dict[str, Any]] = []
    texts: dict[str, list[str]] = {}
    for piece in details:
        last = whole[-1] if whole else {}
        if piece.get("index") is None or (last.get("index"), last.get("type")) != (piece["index"], piece.get("type")):
            last.update({name: "".join(pieces) for name, pieces in texts.items()})
            last, texts = {}, {}
            whole.append(last)
        for name, value in piece.items():
            if name in ("text", "summary", "data") and isinstance(value, str):
                last.setdefault(name, "")
                texts.setdefault(name, []).append(value)
            elif value is not None or name not in last:
                last[name] = value
    if whole:
        whole[-1].update({name: "".join(pieces) for name, pieces in texts.items()})
    return whole


class _Call(Struct):
    index: int
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    size: int = 0

    def whole(self, *, truncated: bool) -> ToolCall:
        text = "".join(self.arguments)
        try:
            value = msgspec.json.decode(text) if text.strip() else (None if truncated else {})
        except (msgspec.DecodeError, RecursionError):
            value = None
        if isinstance(value, dict):
            return ToolCall(self.name, value, self.id)
        return ToolCall(self.name, {}, self.id, malformed=text)


class Calls:
    """Assembles the tool calls of an answer from their deltas, in linear time.

    `reread` counts the characters of arguments that were parsed again.
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._calls: list[_Call] = []
        self._newest: dict[int, _Call] = {}  # by index
        self._named: dict[str, _Call] = {}  # by id
        self._received = self.reread = 0

    def add(self, piece: CallPiece) -> None:
        """Adds a delta; ProviderError above the limits of the answer."""
        function = piece.function or Function()
        call = self._of(piece, function.name or "", bool(function.arguments))
        if call is None:
            self._intake.call()
            call = _Call(piece.index or 0)
            self._calls.append(call)
            self._newest[call.index] = call
        kept = 0
        if not call.id and piece.id:
            call.id, kept = piece.id, len(piece.id)
            self._named[call.id] = call
        if not call.name and function.name:
            call.name, kept = function.name, kept + len(function.name)
        text = function.arguments or ""
        if not isinstance(text, str):
            text = msgspec.json.encode(text).decode()
        self._intake.take(kept + len(text))
        if text:
            self._received += len(text)
            call.size += len(text)
            call.arguments.append(text)

    def _of(self, piece: CallPiece, name: str, brings: bool) -> _Call | None:
        """The call that a delta continues, or None if it starts a new one.

        Some vendors omit the index, some use 0 for every call; then a name starts a new call if its id or the name
        differs, or if it has arguments while those of the call are complete. An id without a name is ignored: some
        vendors send a new one with each delta.
        """
        last = self._calls[-1] if self._calls else None
        if piece.index is not None:
            call = self._newest.get(piece.index)
            if call and name and piece.id and call.id and piece.id != call.id:
                named = self._named.get(piece.id)
                call = named if named and named.index == piece.index else None
        elif piece.id:
            call = self._named.get(piece.id)
        else:
            call = None if name else last
        if call is None:
            return last if piece.index is None and not name else None
        begins = name and call.name and (name != call.name or (brings and not piece.id and self._is_whole(call)))
        return None if begins else call

    def _is_whole(self, call: _Call) -> bool:
        """Whether a call's arguments are complete JSON.

        They are parsed again for each delta that repeats the name, up to four times the characters received.
        """
        if not call.arguments or not call.arguments[-1].rstrip().endswith("}"):
            return False
        if self.reread + call.size > 4 * self._received + _REREAD_BYTES:
            return False
        self.reread += call.size
        text = "".join(call.arguments)
        call.arguments = [text]
        try:
            return isinstance(msgspec.json.decode(text), dict)
        except (msgspec.DecodeError, RecursionError):
            return False

    def whole(self, *, truncated: bool) -> Iterator[ToolCall]:
        """The calls in order of their indexes; in a truncated answer, missing arguments make one malformed."""
        return (call.whole(truncated=truncated) for call in sorted(self._calls, key=lambda call: call.index))
