"""The Anthropic Messages API, with thinking sent back unchanged and prompt caching."""

import re
from base64 import b64decode
from collections.abc import AsyncGenerator, Callable
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Struct, field
from msgspec.json import encode

from bytebrew import (
    Attachment,
    Capabilities,
    Fault,
    Http,
    Intake,
    Message,
    MessageDelta,
    ModelRequest,
    Provider,
    ProviderError,
    ProviderEvent,
    Stop,
    Thinking,
    ToolCall,
    UpstreamError,
    Usage,
    provider_error,
)

from .formats import output_format

_MAX_TOKENS = 32_000
"""Output limit that every model since Claude 4 supports; the API requires a limit."""
_CHOICES = {"auto": "auto", "required": "any", "none": "none"}
_STOPS: dict[str, Any] = {
    "tool_use": "tool_calls",
    "max_tokens": "max_tokens",
    "model_context_window_exceeded": "max_tokens",
    "stop_sequence": "stop_sequence",
    "refusal": "refusal",
}
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""HTTP status by error type, for errors in the middle of a stream."""
_TOO_LONG = re.compile(r"(prompt|input) is too long|context (length|window|size|limit)", re.IGNORECASE)
_SAMPLED = re.compile(r"claude-(instant|[1-3]\b|4-|(opus|sonnet|haiku)-4(?!-[7-9]\b))")
"""Claude models that accept a temperature; those after 4.6 reject it."""
_THINKS = re.compile(r"claude-((opus|sonnet|haiku|fable|mythos)-[5-9]|mythos-preview)")
"""Claude models that think by default; for others thinking would cost more."""
_THINKING = ("thinking", "redacted_thinking")
_BLOCK = 1000
"""Minimum size counted for a content block."""


class _Tokens(Struct):
    thinking_tokens: int | None = None


class _Usage(Struct):
    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: _Tokens | None = None

    def update(self, later: "_Usage") -> None:
        for name in self.__struct_fields__:
            if (value := getattr(later, name)) is not None:
                setattr(self, name, value)

    def tokens(self) -> Usage:
        cached, written = self.cache_read_input_tokens or 0, self.cache_creation_input_tokens or 0
        return Usage(
            (self.input_tokens or 0) + written + cached,
            self.output_tokens or 0,
            cached,
            (self.output_tokens_details and self.output_tokens_details.thinking_tokens) or 0,
            written,
        )


class _Piece(Struct):
    """The start or a delta of a content block, or a delta of the message."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Any = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Begun(Struct):
    usage: _Usage | None = None


class _Error(Struct):
    type: str | None = None
    message: str | None = None

    def fault(self) -> Fault:
        too_long = "model_context_too_long"
        return Fault(
            self.message or "",
            _STATUS.get(self.type or ""),
            code=too_long if self.type == "request_too_large" else "",
            vague_code=too_long if _TOO_LONG.search(self.message or "") else "",
        )


class _Event(Struct):
    type: str = ""
    index: int = 0
    message: _Begun | None = None
    content_block: _Piece | None = None
    delta: _Piece | None = None
    usage: _Usage | None = None
    error: _Error | None = None


class _Refusal(Struct):
    error: _Error


_event: Callable[[str], _Event] = msgspec.json.Decoder(_Event).decode


class Anthropic(Provider):
    """Anthropic, or any server with its Messages API; a base URL may end in /v1 or not."""

    type = "anthropic"
    base_url = "https://api.anthropic.com"
    capabilities = Capabilities(
        thinking=True, vision=True, documents=True, urls=("image/", "application/pdf"), structured=True
    )

    async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
        url = f"{request.base_url.removesuffix('/v1')}/v1/messages"
        headers = {"anthropic-version": "2023-06-01"} | ({"x-api-key": request.api_key} if request.api_key else {})
        body, prefix = _conversation(request)
        blocks: dict[int, _Block] = {}
        intake = Intake(request.bounds)
        usage = _Usage()
        reason = ""
        try:
            async with http.stream_events("POST", url, headers=headers, json=body) as events:
                async for event in events:
                    chunk = _read(event.data)
                    if chunk.type == "message_stop":
                        break
                    if counted := chunk.usage or (chunk.message and chunk.message.usage):
                        usage.update(counted)
                    if chunk.content_block:
                        intake.take(max(_BLOCK, len(event.data)))  # the whole block is stored
                        if chunk.content_block.type == "tool_use":
                            intake.call()
                        blocks[chunk.index] = _Block(chunk.content_block)
                    if (piece := chunk.content_block or chunk.delta) is None:
                        continue
                    reason = piece.stop_reason or reason
                    if (block := blocks.get(chunk.index)) and (size := block.add(piece)):
                        intake.take(size)
                    if piece.thinking:
                        yield Thinking(content=piece.thinking)
                    if piece.text:
                        yield MessageDelta(content=piece.text)
        except UpstreamError as error:
            raise _refused(error) from error
        if not reason:
            raise ProviderError("The answer ended early, without a stop_reason", code="model_unavailable", retry=True)
        stop = _STOPS.get(reason, "end")
        # Content before a refusal must be discarded: build-with-claude/refusals-and-fallback
        answer = [] if stop == "refusal" else [blocks[index] for index in sorted(blocks)]
        calls = [block.call(truncated=stop == "max_tokens") for block in answer if block.start.type == "tool_use"]
        for call in calls:
            yield call
        yield usage.tokens()
        yield Stop("tool_calls" if calls and stop == "end" else stop, _kept(answer, prefix))


# Answers


class _Block(Struct):
    """A content block, assembled from its deltas."""

    start: _Piece
    pieces: list[str] = field(default_factory=list)
    signature: str = ""

    def add(self, piece: _Piece) -> int:
        """Adds a delta; returns the number of stored characters."""
        text = piece.text or piece.thinking or piece.partial_json or ""
        if text:
            self.pieces.append(text)
        self.signature = piece.signature or self.signature
        return len(text) + len(piece.signature or "")

    def call(self, *, truncated: bool) -> ToolCall:
        """The tool call; in a truncated answer, missing arguments make it malformed."""
        name, call_id, text = self.start.name or "", self.start.id or "", "".join(self.pieces)
        try:
            value = msgspec.json.decode(text) if text.strip() else self.start.input or (None if truncated else {})
        except (msgspec.DecodeError, RecursionError):
            value = None
        if isinstance(value, dict):
            return ToolCall(name, value, call_id)
        return ToolCall(name, {}, call_id, malformed=text)

    def sent_back(self) -> list[dict[str, Any]]:
        """The block as it is sent back; tool calls are in the message, so only their positions are stored here."""
        kind, text = self.start.type, "".join(self.pieces)
        if kind == "thinking":
            return [{"type": kind, "thinking": text, "signature": self.signature}]
        if kind == "redacted_thinking":
            return [{"type": kind, "data": self.start.data or ""}]
        if kind == "tool_use":
            return [{"type": kind}]
        return _text(text) if kind == "text" else []


def _kept(answer: list[_Block], prefix: str) -> dict[str, Any]:
    """The data with which `_conversation` sends thinking back in its position; empty without thinking."""
    blocks = [kept for block in answer for kept in block.sent_back()]
    while blocks and blocks[-1]["type"] in _THINKING:  # the API rejects answers that end in thinking
        blocks.pop()
    thought = any(block["type"] in _THINKING for block in blocks)
    return {"anthropic": {"prefix": prefix, "blocks": blocks}} if thought else {}


def _read(data: str) -> _Event:
    try:
        event = _event(data)
    except msgspec.DecodeError as error:
        message = f"The vendor sent an event that cannot be read ({error}): {data[:200]}"
        raise ProviderError(message, code="model_unavailable", retry=True) from error
    if event.type == "error" or event.error:
        raise provider_error((event.error or _Error()).fault())
    return event


# Requests


def _conversation(request: ModelRequest) -> tuple[dict[str, Any], str]:
    """The request's body, and a digest of everything before its answer.

    Newer models reject thinking after a changed prefix, for instance after a long tool result was trimmed
    (https://platform.claude.com/docs/en/build-with-claude/preserved-thinking): it is sent back only after an equal one.
    """
    format = output_format(request) if request.response_format else None
    system = _text(request.instructed_system if request.response_format and not format else request.system)
    tools = [
        {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema}
        for tool in request.tools
    ]
    before = sha256(encode((system, tools)))
    turns: list[dict[str, Any]] = []
    for message in request.messages:
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _content(message)
        if message.vendor.get("anthropic", {}).get("prefix") != before.hexdigest():
            blocks = [block for block in blocks if block["type"] not in _THINKING]
        before.update(encode((role, blocks)))
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    # The cache holds tools, system prompt and messages, in this order, up to each cache_control.
    for part in (system or tools, turns[-1]["content"] if turns else []):
        if part:
            part[-1] = {**part[-1], "cache_control": {"type": "ephemeral"}}
    sampled = "claude" not in request.model_name or _SAMPLED.search(request.model_name)
    # Only makes thinking visible for these models; a forced tool call excludes thinking:
    # https://platform.claude.com/docs/en/build-with-claude/thinking
    shows = _THINKS.search(request.model_name) and request.tool_choice != "required"
    options = {
        "system": system or None,
        "thinking": {"type": "adaptive", "display": "summarized"} if shows else None,
        "tools": tools or None,
        "tool_choice": {"type": _CHOICES[request.tool_choice]} if tools else None,
        "temperature": request.temperature if sampled else None,
        "top_p": request.top_p if sampled and request.temperature is None else None,  # Claude 4 rejects both together
        "stop_sequences": request.stop_sequences or None,
        "output_config": {"format": format} if format else None,
    }
    body = {
        "model": request.model_name,
        "max_tokens": request.max_tokens or _MAX_TOKENS,
        "messages": turns,
        "stream": True,
        **{name: value for name, value in options.items() if value is not None},
    }
    return body, before.hexdigest()


def _content(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        return [_result(message)]
    if message.role == "user":
        return [*map(_attached, message.attachments), *_text(message.content)]
    uses = [
        {"type": "tool_use", "id": _id(call.call_id), "name": call.tool, "input": call.input}
        for call in message.tool_calls
    ]
    if not (kept := message.vendor.get("anthropic")):
        return [*_text(message.content), *uses]
    next_use = iter(uses)
    return [next(next_use) if block["type"] == "tool_use" else block for block in kept["blocks"]]


def _result(message: Message) -> dict[str, Any]:
    result: dict[str, Any] = {"type": "tool_result", "tool_use_id": _id(message.call_id)}
    if message.content.strip():
        result["content"] = message.content
    if message.has_error:  # the API rejects an error without content
        result = {"content": "The tool failed"} | result | {"is_error": True}
    return result


def _text(text: str) -> list[dict[str, Any]]:
    """A text block; none for blank text, which the API rejects."""
    return [{"type": "text", "text": text}] if text.strip() else []


def _id(call_id: str) -> str:
    """The id of a call in characters that this API accepts, in case another vendor made it."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", call_id)


def _attached(attachment: Attachment) -> dict[str, Any]:
    media_type, data, url = attachment.media_type, attachment.data, attachment.url
    source = {"type": "url", "url": url} if url else {"type": "base64", "media_type": media_type, "data": data}
    if media_type.startswith("image/"):
        return {"type": "image", "source": source}
    if media_type.startswith("text/") and not url:
        try:
            text = b64decode(data).decode("utf-8", "replace")
        except ValueError as error:
            message = f"The attachment '{attachment.name}' is not base64: {error}"
            raise ProviderError(message, code="model_bad_request") from error
        source = {"type": "text", "media_type": "text/plain", "data": text}
    elif media_type != "application/pdf":
        place = " at a URL" if url else ""
        message = f"anthropic reads images, PDF files and texts in the message, not {media_type}{place}"
        raise ProviderError(message, code="model_bad_request")
    return {"type": "document", "source": source} | ({"title": attachment.name} if attachment.name else {})


# Errors


def _refused(answer: UpstreamError) -> ProviderError:
    try:
        error = msgspec.json.decode(answer.body, type=_Refusal).error
    except (msgspec.DecodeError, RecursionError):
        error = _Error()
    return provider_error(error.fault(), answer)
