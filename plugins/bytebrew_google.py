"""The Gemini API: streaming with tools, thoughts and their signatures, and embeddings."""

import re
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

import msgspec
from msgspec import Struct

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
    Register,
    Stop,
    Thinking,
    ToolCall,
    ToolSpec,
    UpstreamError,
    Usage,
    hookimpl,
    provider_error,
    refusal,
)

_STOPS: dict[str, Any] = {
    "MAX_TOKENS": "max_tokens",
    "SAFETY": "refusal",
    "RECITATION": "refusal",
    "LANGUAGE": "refusal",
    "BLOCKLIST": "refusal",
    "PROHIBITED_CONTENT": "refusal",
    "SPII": "refusal",
    "MODEL_ARMOR": "refusal",
    "IMAGE_SAFETY": "refusal",
    "IMAGE_PROHIBITED_CONTENT": "refusal",
    "IMAGE_RECITATION": "refusal",
}
_FAILURES = {
    "MALFORMED_FUNCTION_CALL": True,
    "MALFORMED_RESPONSE": True,
    "UNEXPECTED_TOOL_CALL": True,
    "OTHER": True,
    "IMAGE_OTHER": True,
    "NO_IMAGE": True,
    "TOO_MANY_TOOL_CALLS": False,
    "MISSING_THOUGHT_SIGNATURE": False,
}
"""Finish reasons that are failures, and whether a retry may succeed."""
_MODES = {"auto": "AUTO", "required": "ANY", "none": "NONE"}
_TOO_LONG = re.compile(r"exceeds the maximum number of tokens|context is too long", re.IGNORECASE)
# Models that do not think by default (2.0, lite, image, speech) reject requests for thoughts.
_THINKS = re.compile(r"gemini-(2\.5-(flash|pro)|[3-9]|(flash|pro)-latest)(?!.*(lite|image|tts|audio|live))")
# From Gemini 3 on, calls must be signed; this value exempts other models' calls (docs/thought-signatures).
_SIGNS = re.compile(r"gemini-(?![12])")
# docs/structured-output: older models than Gemini 3 refuse a format beside function calling
_FORMATS_WITH_TOOLS = re.compile(r"gemini-(?![12])")
_UNSIGNED = {"thoughtSignature": "skip_thought_signature_validator"}
_BATCH = 100  # limit of batchEmbedContents


class _Called(Struct):
    name: str = ""
    args: Any = None
    id: str = ""

    def whole(self) -> ToolCall:
        if self.args is None or isinstance(self.args, dict):
            return ToolCall(self.name, self.args or {}, self.id)
        text = self.args if isinstance(self.args, str) else msgspec.json.encode(self.args).decode()
        return ToolCall(self.name, {}, self.id, malformed=text)


class _Part(Struct, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: _Called | None = None


class _Content(Struct):
    parts: list[_Part] | None = None


class _Candidate(Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None


class _Feedback(Struct, rename="camel"):
    block_reason: str | None = None


class _Usage(Struct, rename="camel"):
    prompt_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    cached_content_token_count: int | None = None

    def tokens(self) -> Usage:
        thoughts = self.thoughts_token_count or 0
        return Usage(
            self.prompt_token_count or 0,
            (self.candidates_token_count or 0) + thoughts,  # candidates do not include thoughts
            self.cached_content_token_count or 0,
            thoughts,
        )


class _Violation(Struct, rename="camel"):
    quota_id: str = ""


class _Detail(Struct, rename="camel"):
    reason: str = ""
    retry_delay: str = ""
    violations: list[_Violation] = []


class _Error(Struct):
    code: int = 500
    message: str = ""
    details: list[_Detail] = []

    def fault(self) -> Fault:
        """The fault; a wrong key has the status 400, and a daily quota is not retried."""
        delays = [match for detail in self.details if (match := re.fullmatch(r"(\d+(\.\d+)?)s", detail.retry_delay))]
        spent = any("PerDay" in violation.quota_id for detail in self.details for violation in detail.violations)
        return Fault(
            self.message,
            max(self.code, 400),
            code="model_auth" if any(detail.reason == "API_KEY_INVALID" for detail in self.details) else "",
            vague_code="model_context_too_long" if _TOO_LONG.search(self.message) else "",
            retry=False if spent else None,
            retry_after=float(delays[-1][1]) if delays else None,
        )


class _Refusal(Struct):
    error: _Error


class _Chunk(Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: _Usage | None = None
    error: _Error | None = None


class _Embedding(Struct):
    values: list[float]


class _Embeddings(Struct):
    embeddings: list[_Embedding] = []


_chunk: Callable[[str], _Chunk] = msgspec.json.Decoder(_Chunk).decode
_refusal: Callable[[bytes], _Refusal | list[_Refusal]] = msgspec.json.Decoder(_Refusal | list[_Refusal]).decode
_embeddings: Callable[[bytes], _Embeddings] = msgspec.json.Decoder(_Embeddings).decode


class Google(Provider):
    """The Gemini API with a key of Google AI Studio."""

    type = "google"
    base_url = "https://generativelanguage.googleapis.com/v1beta"
    needs = frozenset({"api_key"})
    capabilities = Capabilities(
        thinking=True, vision=True, documents=True, embeddings=True, document_types=("",), urls=("",), structured=True
    )

    async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
        url = f"{request.base_url}/{_model(request)}:streamGenerateContent?alt=sse"
        calls: list[ToolCall] = []
        parts = _Parts()
        intake = Intake(request.bounds)
        usage: _Usage | None = None
        reason = detail = ""
        try:
            async with http.stream_events("POST", url, headers=_headers(request), json=_body(request)) as events:
                async for event in events:
                    chunk = _read(event.data)
                    usage = chunk.usage_metadata or usage
                    if chunk.prompt_feedback and chunk.prompt_feedback.block_reason:
                        reason = "SAFETY"
                    if not chunk.candidates:
                        continue
                    candidate = chunk.candidates[0]
                    reason = candidate.finish_reason or reason
                    detail = candidate.finish_message or detail
                    for part in (candidate.content and candidate.content.parts) or ():
                        if size := parts.add(part):
                            intake.take(size)
                        if part.function_call:
                            intake.call()
                            intake.take(len(event.data))
                            calls.append(part.function_call.whole())
                        elif part.text:
                            yield Thinking(content=part.text) if part.thought else MessageDelta(content=part.text)
        except UpstreamError as error:
            raise _refused(error) from error
        if not reason:
            raise ProviderError("The answer ended early, without a finishReason", code="model_unavailable", retry=True)
        if reason in _FAILURES:
            message = f"The vendor ended its answer with the finishReason {reason}: {detail}".removesuffix(": ")
            raise ProviderError(message[:1000], retry=_FAILURES[reason])
        stop = _STOPS.get(reason, "end")
        if stop == "refusal":  # tool calls of a refused answer must not run
            calls, parts = [], _Parts()
        for call in calls:
            yield call
        if usage:
            yield usage.tokens()
        kept = parts.whole()
        signed = any("thoughtSignature" in part for part in kept)
        yield Stop("tool_calls" if calls and stop == "end" else stop, {"gemini": kept} if signed else {})

    async def embed(self, texts: Sequence[str], request: ModelRequest, http: Http) -> list[list[float]]:
        model = _model(request)
        requests = [{"model": model, "content": {"parts": [{"text": text}]}} for text in texts]
        vectors: list[list[float]] = []
        for at in range(0, len(requests), _BATCH):
            batch = {"requests": requests[at : at + _BATCH]}
            url = f"{request.base_url}/{model}:batchEmbedContents"
            try:
                answer = _embeddings(await http.fetch("POST", url, headers=_headers(request), json=batch))
            except UpstreamError as error:
                raise _refused(error) from error
            except msgspec.DecodeError as error:
                raise ProviderError(f"The vendor sent embeddings that cannot be read: {error}") from error
            vectors += [embedding.values for embedding in answer.embeddings]
        if len(vectors) != len(texts):
            raise ProviderError(f"The vendor sent {len(vectors)} embeddings for {len(texts)} texts")
        return vectors


google = Google()


@hookimpl
def register_providers(register: Register[Provider]) -> None:
    register(google)


def _model(request: ModelRequest) -> str:
    """The resource name of the model, which the user may have written with its prefix."""
    return request.model_name if "/" in request.model_name else f"models/{request.model_name}"


def _headers(request: ModelRequest) -> dict[str, str]:
    return {"x-goog-api-key": request.api_key} if request.api_key else {}


def _body(request: ModelRequest) -> dict[str, Any]:
    tools, text = request.tools, request.system
    format = request.response_format
    if format and tools and not _FORMATS_WITH_TOOLS.search(request.model_name):
        if request.tool_choice == "none":
            tools = ()
        else:  # the engine asks again, without tools, for an answer that is not valid
            format, text = None, request.instructed_system
    config = {
        "responseMimeType": "application/json" if format else None,
        "responseJsonSchema": format.schema if format else None,
        "temperature": request.temperature,
        "topP": request.top_p,
        "maxOutputTokens": request.max_tokens,
        "stopSequences": request.stop_sequences or None,
        "thinkingConfig": {"includeThoughts": True} if _THINKS.search(request.model_name) else None,
    }
    settings = {name: value for name, value in config.items() if value is not None}
    fields = {
        "systemInstruction": {"parts": [{"text": text}]} if text else None,
        "tools": [{"functionDeclarations": [_function(tool) for tool in tools]}] if tools else None,
        "toolConfig": {"functionCallingConfig": {"mode": _MODES[request.tool_choice]}} if tools else None,
        "generationConfig": settings or None,
    }
    return {
        "contents": _contents(request.messages, bool(_SIGNS.search(request.model_name))),
        **{name: value for name, value in fields.items() if value is not None},
    }


def _function(tool: ToolSpec) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.input_schema}


def _contents(messages: Iterable[Message], signs: bool) -> list[dict[str, Any]]:
    """The conversation; results of one step's calls share one content."""
    contents: list[dict[str, Any]] = []
    for role, run in groupby(messages, key=lambda message: message.role):
        if role == "tool":
            contents.append({"role": "user", "parts": [_result(message) for message in run]})
        elif role == "user":
            contents += [{"role": "user", "parts": _user_parts(message)} for message in run]
        else:
            answers = [_answered(message, signs) for message in run]
            contents += [{"role": "model", "parts": parts} for parts in answers if parts]
    return contents


def _user_parts(message: Message) -> list[dict[str, Any]]:
    parts = [_attached(attachment) for attachment in message.attachments]
    return [*parts, {"text": message.content}] if message.content or not parts else parts


def _attached(attachment: Attachment) -> dict[str, Any]:
    if attachment.url:
        return {"fileData": {"mimeType": attachment.media_type, "fileUri": attachment.url}}
    return {"inlineData": {"mimeType": attachment.media_type, "data": attachment.data}}


def _result(message: Message) -> dict[str, Any]:
    response = {"error" if message.has_error else "output": message.content}
    return {"functionResponse": {"id": message.call_id, "name": message.tool, "response": response}}


def _answered(message: Message, signs: bool) -> list[dict[str, Any]]:
    """The parts of a model's answer; signed ones are sent back unchanged."""
    calls: list[dict[str, Any]] = [
        {"functionCall": {"id": call.call_id, "name": call.tool, "args": call.input}} for call in message.tool_calls
    ]
    if kept := message.vendor.get("gemini"):
        left = iter(calls)
        return [part | next(left) if "functionCall" in part else part for part in kept]
    if calls and signs:
        calls[0] |= _UNSIGNED
    return ([{"text": message.content}] if message.content else []) + calls


class _Parts:
    """Parts of an answer to send back: joined unsigned text, places of calls, and signed thoughts."""

    def __init__(self) -> None:
        self._parts: list[dict[str, Any]] = []
        self._text: list[str] = []

    def add(self, part: _Part) -> int:
        """Adds a part; returns the number of stored characters."""
        signature = {"thoughtSignature": part.thought_signature} if part.thought_signature else {}
        text = part.text or ""
        if part.function_call:
            self._join()
            self._parts.append({"functionCall": None, **signature})
            return len(part.thought_signature or "")
        if signature:
            self._join()
            self._parts.append({"text": text, **({"thought": True} if part.thought else {}), **signature})
            return len(text) + len(part.thought_signature or "")
        if not text or part.thought:
            return 0
        self._text.append(text)
        return len(text)

    def whole(self) -> list[dict[str, Any]]:
        """All parts."""
        self._join()
        return self._parts

    def _join(self) -> None:
        if self._text:
            self._parts.append({"text": "".join(self._text)})
            self._text = []


def _read(data: str) -> _Chunk:
    try:
        chunk = _chunk(data)
    except msgspec.DecodeError as error:
        message = f"The vendor sent a chunk that cannot be read ({error}): {data[:200]}"
        raise ProviderError(message, code="model_unavailable", retry=True) from error
    if chunk.error:
        raise provider_error(chunk.error.fault())
    return chunk


def _refused(answer: UpstreamError) -> ProviderError:
    try:
        refused = _refusal(answer.body)
        error = (refused[0] if isinstance(refused, list) else refused).error
    except (msgspec.DecodeError, IndexError, RecursionError):
        return refusal(answer)
    return provider_error(error.fault(), answer if answer.status >= 400 else None)
