"""The OpenAI chat completions wire, once; each vendor that speaks it is a small object."""

import re
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any, ClassVar, NamedTuple

import msgspec
from msgspec import Struct, field

from bytebrew import (
    Capabilities,
    Http,
    Message,
    MessageDelta,
    ModelRequest,
    Provider,
    ProviderError,
    ProviderEvent,
    Stop,
    Thinking,
    ToolCall,
    ToolSpec,
    UpstreamError,
    Usage,
    hookimpl,
    refusal,
)

_STOPS: dict[str, Any] = {
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "length": "max_tokens",
    "content_filter": "refusal",
}
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "api_error": 500,
    "internal_error": 500,
    "internal_server_error": 500,
    "server_error": 500,
    "overloaded_error": 503,
    "server_overloaded": 503,
    "service_unavailable": 503,
}
"""The HTTP status that an error in the middle of a stream would have had."""
_TOO_LONG = re.compile(
    r"context[ _](length|window|size)|maximum (prompt|input) length|(prompt|input) is too long", re.IGNORECASE
)


class _Function(Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _CallPiece(Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_CallPiece] | None = None


class _Choice(Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _PromptDetails(Struct):
    cached_tokens: int | None = None


class _CompletionDetails(Struct):
    reasoning_tokens: int | None = None


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None

    def tokens(self) -> Usage:
        prompt, completion = self.prompt_tokens_details, self.completion_tokens_details
        return Usage(
            self.prompt_tokens or 0,
            self.completion_tokens or 0,
            (prompt and prompt.cached_tokens) or 0,
            (completion and completion.reasoning_tokens) or 0,
        )


class _Chunk(Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


_chunk: Callable[[str], _Chunk] = msgspec.json.Decoder(_Chunk).decode


class ChatCompletions(Provider):
    """A vendor that speaks the OpenAI wire, and the plugin that registers it.

    A vendor states its `type` and `base_url`, and overrides what it does otherwise.
    """

    capabilities = Capabilities(thinking=True)
    stops: ClassVar[dict[str, Any]] = _STOPS

    @hookimpl
    def register_providers(self, register: Any) -> None:
        register(self)

    def url(self, request: ModelRequest) -> str:
        """Where the request goes."""
        return f"{request.base_url}/chat/completions"

    def headers(self, request: ModelRequest) -> dict[str, str]:
        """How the vendor knows who asks."""
        return {"Authorization": f"Bearer {request.api_key}"} if request.api_key else {}

    def body(self, request: ModelRequest) -> dict[str, Any]:
        """The request in the vendor's words."""
        system = [{"role": "system", "content": request.system}] if request.system else []
        options = {
            "tools": [_function(tool) for tool in request.tools] or None,
            "tool_choice": request.tool_choice if request.tools else None,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "max_tokens": request.max_tokens,
            "stop": request.stop_sequences or None,
        }
        return {
            "model": request.model_name,
            "messages": system + [self.message(message) for message in request.messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            **{name: value for name, value in options.items() if value is not None},
        }

    def message(self, message: Message) -> dict[str, Any]:
        """One entry of the conversation in the vendor's words."""
        if message.role == "tool":
            return {"role": "tool", "tool_call_id": message.call_id, "content": message.content}
        if not message.tool_calls:
            return {"role": message.role, "content": message.content}
        calls = [
            {
                "id": call.call_id,
                "type": "function",
                "function": {"name": call.tool, "arguments": msgspec.json.encode(call.input).decode()},
            }
            for call in message.tool_calls
        ]
        return {"role": message.role, "content": message.content or None, "tool_calls": calls}

    async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
        calls = _Calls()
        usage: _Usage | None = None
        reason = ""
        try:
            async with http.stream_events(
                "POST", self.url(request), headers=self.headers(request), json=self.body(request)
            ) as events:
                async for event in events:
                    if event.data == "[DONE]":
                        break
                    chunk = _read(event.data)
                    usage = chunk.usage or usage
                    if not chunk.choices:
                        continue
                    choice = chunk.choices[0]
                    reason = choice.finish_reason or reason
                    if (delta := choice.delta) is None:
                        continue
                    if thought := delta.reasoning_content or delta.reasoning:
                        yield Thinking(content=thought)
                    if text := delta.content or delta.refusal:
                        yield MessageDelta(content=text)
                    for piece in delta.tool_calls or ():
                        calls.add(piece)
        except UpstreamError as error:
            raise _refused(error) from error
        if not reason:
            raise ProviderError("The answer ended early, without a finish_reason", code="model_unavailable", retry=True)
        if reason == "error":
            raise ProviderError("The vendor ended its answer with the finish_reason 'error'")
        found = list(calls.whole())
        for call in found:
            yield call
        if usage:
            yield usage.tokens()
        stop = self.stops.get(reason, "end")
        yield Stop("tool_calls" if found and stop == "end" else stop)


def _function(tool: ToolSpec) -> dict[str, Any]:
    about = {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}
    return {"type": "function", "function": about}


class _Call(Struct):
    index: int
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    def whole(self) -> ToolCall:
        text = "".join(self.arguments)
        try:
            value = msgspec.json.decode(text) if text.strip() else {}
        except msgspec.DecodeError:
            value = None
        if isinstance(value, dict):
            return ToolCall(self.name, value, self.id)
        return ToolCall(self.name, {}, self.id, malformed=text)


class _Calls:
    """The tool calls of an answer, put together from their pieces."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []

    def add(self, piece: _CallPiece) -> None:
        function = piece.function or _Function()
        call = self._of(piece, bool(function.name))
        if call is None:
            call = _Call(piece.index or 0)
            self._calls.append(call)
        call.id = call.id or piece.id or ""
        call.name = call.name or function.name or ""
        if arguments := function.arguments:
            text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
            call.arguments.append(text)

    def _of(self, piece: _CallPiece, named: bool) -> _Call | None:
        """The call that a piece goes on with, or None where it begins one.

        Some vendors leave out the index, and some give every call the index 0; then a name with another id begins a
        call. An id without a name means nothing: some vendors make a new one for each piece.
        """
        for call in reversed(self._calls):
            if piece.index is None:
                same = piece.id == call.id if piece.id else not named
            else:
                same = piece.index == call.index and not (named and piece.id and call.id and piece.id != call.id)
            if same:
                return call
        return self._calls[-1] if self._calls and piece.index is None and not named else None

    def whole(self) -> Iterator[ToolCall]:
        """The calls in the order of their indexes."""
        return (call.whole() for call in sorted(self._calls, key=lambda call: call.index))


class _Fault(NamedTuple):
    """What an error body says: the vendor's words, its names for the error, and a status where the body has one."""

    words: str = ""
    names: tuple[str, ...] = ()
    status: int | None = None


def _read(data: str) -> _Chunk:
    try:
        chunk = _chunk(data)
    except msgspec.DecodeError as error:
        words = f"The vendor sent a chunk that cannot be read ({error}): {data[:200]}"
        raise ProviderError(words) from error
    if chunk.error:
        raise _broken_off(_fault({"error": chunk.error}))
    return chunk


def _refused(error: UpstreamError) -> ProviderError:
    try:
        fault = _fault(msgspec.json.decode(error.body))
    except msgspec.DecodeError:
        fault = _Fault()
    if error.status < 400 and fault.words:
        return _broken_off(fault)
    return _refined(refusal(error, fault.words), fault)


def _broken_off(fault: _Fault) -> ProviderError:
    words = fault.words[:1000] or "The vendor broke its answer off with an error"
    status = fault.status or next((_STATUS[name] for name in fault.names if name in _STATUS), None)
    if status is None:
        return _refined(ProviderError(words), fault)
    like = refusal(UpstreamError(status, b"", None))
    return _refined(ProviderError(words, code=like.code, retry=like.retry), fault)


def _refined(failure: ProviderError, fault: _Fault) -> ProviderError:
    if "insufficient_quota" in fault.names:
        failure.retry = False
    elif failure.code in ("model_bad_request", "model_error") and any(
        _TOO_LONG.search(text) for text in (fault.words, *fault.names)
    ):
        failure.code = "model_context_too_long"
    return failure


def _fault(said: Any) -> _Fault:
    """The fault in `{"error": {...}}`, `{"error": "text"}`, `{"message": ...}`, `{"detail": ...}` or a list of one."""
    if isinstance(said, list) and said:
        said = said[0]
    if not isinstance(said, dict):
        return _Fault()
    error = said.get("error")
    if isinstance(error, str):
        return _Fault(error)
    inner = error if isinstance(error, dict) else said
    words = inner.get("message") or inner.get("detail") or ""
    names = (inner.get("code"), inner.get("type"))
    return _Fault(
        words if isinstance(words, str) else msgspec.json.encode(words).decode(),
        tuple(name for name in names if isinstance(name, str)),
        next((name for name in names if isinstance(name, int) and 400 <= name < 600), None),
    )


class OpenAICompatible(ChatCompletions):
    """Any server that speaks the OpenAI wire; OpenAI's own where no base URL is given."""

    type = "openai_compatible"
    base_url = "https://api.openai.com/v1"

    def body(self, request: ModelRequest) -> dict[str, Any]:
        body = super().body(request)
        # OpenAI has renamed it, and its reasoning models refuse the old name, which other servers go by.
        if request.base_url == self.base_url and "max_tokens" in body:
            body["max_completion_tokens"] = body.pop("max_tokens")
        return body


openai_compatible = OpenAICompatible()
