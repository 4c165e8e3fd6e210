"""The provider for chat completions: requests, streamed answers and embeddings."""

from base64 import b64decode
from collections.abc import AsyncGenerator, Sequence
from typing import Any, ClassVar, Literal

import msgspec
from msgspec import Struct

from bytebrew import (
    Attachment,
    Capabilities,
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
    ToolSpec,
    UpstreamError,
    hookimpl,
)

from .chunks import Calls, Counts, joined, read
from .vendor_errors import refused

_DETAIL = 200
"""Size counted for a reasoning detail in addition to its texts."""


class _Vector(Struct):
    embedding: list[float]
    index: int = 0


class _Vectors(Struct):
    data: list[_Vector]


class ChatCompletions(Provider):
    """A vendor with the chat completions API, and the plugin that registers it.

    A subclass sets `type` and `base_url`, and overrides differences. `stops` maps finish reasons, `failures` maps those
    that are failures to codes; `thought_field` and `limit_field` are the fields for thinking and the token limit.
    `formats` is the strongest `response_format` that the vendor documents.
    """

    capabilities = Capabilities(thinking=True, structured=True)
    stops: ClassVar[dict[str, Any]] = {
        "tool_calls": "tool_calls",
        "function_call": "tool_calls",
        "length": "max_tokens",
        "content_filter": "refusal",
    }
    failures: ClassVar[dict[str, str]] = {"error": "model_error"}
    thought_field: ClassVar[str] = ""
    limit_field: ClassVar[str] = "max_tokens"
    formats: ClassVar[Literal["json_schema", "json_object"]] = "json_schema"
    asks_for_usage: ClassVar[bool] = True

    @hookimpl
    def register_providers(self, register: Register[Provider]) -> None:
        register(self)

    def url(self, request: ModelRequest, path: str) -> str:
        """The URL of a request; `path` is `chat/completions` or `embeddings`."""
        return f"{request.base_url}/{path}"

    def headers(self, request: ModelRequest) -> dict[str, str]:
        """Headers for authentication."""
        return {"Authorization": f"Bearer {request.api_key}"} if request.api_key else {}

    def body(self, request: ModelRequest) -> dict[str, Any]:
        """The body of a request."""
        format, text = None, request.system
        if request.response_format is not None:
            format = self.format(request)
            if format is None or format["type"] != "json_schema" or not self.knows_schema(request):
                text = request.instructed_system
        system = [{"role": "system", "content": text}] if text else []
        options = {
            "stream_options": {"include_usage": True} if self.asks_for_usage else None,
            "tools": [_function(tool) for tool in request.tools] or None,
            "tool_choice": request.tool_choice if request.tools else None,
            "temperature": request.temperature,
            "top_p": request.top_p,
            self.limit_field: request.max_tokens,
            "stop": request.stop_sequences or None,
            "response_format": format,
        }
        messages = [self.message(message) for message in request.messages]
        # Some vendors reject assistant messages without content.
        sent = [one for one in messages if one["role"] != "assistant" or one["content"] or "tool_calls" in one]
        return {
            "model": request.model_name,
            "messages": system + sent,
            "stream": True,
            **{name: value for name, value in options.items() if value is not None},
        }

    def formats_with_tools(self, request: ModelRequest) -> bool:
        """Whether the vendor takes a response format beside tools that may be called."""
        return False

    def knows_schema(self, request: ModelRequest) -> bool:
        """Whether the vendor shows the schema to the model, and not only to its sampling."""
        return True

    def format(self, request: ModelRequest) -> dict[str, Any] | None:
        """The vendor's `response_format`; None while tools may be called that the vendor does not take beside it.

        The system text then has the schema, and the engine asks again, without tools, for an answer that is not valid.
        """
        format = request.response_format
        if format is None or (request.tools and request.tool_choice != "none" and not self.formats_with_tools(request)):
            return None
        if self.formats == "json_object":  # which is an object, whatever the schema says
            return {"type": "json_object"} if format.schema.get("type") == "object" else None
        fields = {"name": format.name, "description": format.description or None, "strict": format.strict}
        known = {name: value for name, value in fields.items() if value is not None}
        return {"type": "json_schema", "json_schema": known | {"schema": format.schema}}

    def message(self, message: Message) -> dict[str, Any]:
        """One message of the conversation."""
        if message.role == "tool":
            return {"role": "tool", "tool_call_id": self.call_id(message.call_id), "content": message.content}
        if message.attachments:
            texts = [{"type": "text", "text": message.content}] if message.content else []
            return {"role": message.role, "content": texts + [self.part(file) for file in message.attachments]}
        entry: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.tool_calls:
            entry["content"] = message.content or None
            entry["tool_calls"] = [
                {
                    "id": self.call_id(call.call_id),
                    "type": "function",
                    "function": {"name": call.tool, "arguments": msgspec.json.encode(call.input).decode()},
                }
                for call in message.tool_calls
            ]
        if self.thought_field and message.thinking:
            entry[self.thought_field] = message.thinking
        return entry

    def call_id(self, call_id: str) -> str:
        """A tool call's id in the vendor's format."""
        return call_id

    def part(self, file: Attachment) -> dict[str, Any]:
        """An attachment of a user's message; ProviderError for unsupported types."""
        if file.media_type.startswith("image/") and self.capabilities.vision:
            return {"type": "image_url", "image_url": {"url": address(file)}}
        if file.media_type == "application/pdf" and self.capabilities.documents:
            return self.document(file)
        if file.media_type.startswith("text/") and file.data:
            return {"type": "text", "text": b64decode(file.data).decode("utf-8", "replace")}
        raise self.unreadable(file)

    def document(self, file: Attachment) -> dict[str, Any]:
        """A PDF file."""
        if file.url:  # https://platform.openai.com/docs/guides/pdf-files: this API takes no URLs
            raise self.unreadable(file)
        return {"type": "file", "file": {"filename": file.name or "document.pdf", "file_data": address(file)}}

    def unreadable(self, file: Attachment) -> ProviderError:
        """The error for an attachment of an unsupported type."""
        how = "by its URL" if file.url else "attached"
        return ProviderError(f"{self.type} takes no {file.media_type} {how}", code="model_bad_request")

    async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
        intake = Intake(request.bounds)
        calls = Calls(intake)
        details: list[dict[str, Any]] = []
        counts: Counts | None = None
        reason = ""
        try:
            async with http.stream_events(
                "POST",
                self.url(request, "chat/completions"),
                headers=self.headers(request),
                json=self.body(request),
            ) as events:
                async for event in events:
                    if event.data == "[DONE]":
                        break
                    chunk = read(event.data)
                    counts = chunk.usage or counts
                    if not chunk.choices:
                        continue
                    choice = chunk.choices[0]
                    reason = choice.finish_reason or reason
                    if (delta := choice.delta) is None:
                        continue
                    thought, text = delta.thinking_and_text()
                    if thought:
                        yield Thinking(content=thought)
                    if text:
                        yield MessageDelta(content=text)
                    for detail in delta.reasoning_details or ():
                        intake.take(sum(len(value) for value in detail.values() if isinstance(value, str)) + _DETAIL)
                        details.append(detail)
                    for piece in delta.tool_calls or ():
                        calls.add(piece)
        except UpstreamError as error:
            raise refused(error) from error
        if not reason:
            raise ProviderError("The answer ended early, without a finish_reason", code="model_unavailable", retry=True)
        if code := self.failures.get(reason):
            message = f"The vendor ended its answer with the finish_reason '{reason}'"
            raise ProviderError(message, code=code, retry=code != "model_error")
        stop = self.stops.get(reason, "end")
        # Tool calls of a refused answer must not run.
        found = [] if stop == "refusal" else list(calls.whole(truncated=stop == "max_tokens"))
        for call in found:
            yield call
        if counts:
            yield counts.usage()
        kept = {"reasoning_details": joined(details)} if details else {}
        yield Stop("tool_calls" if found and stop == "end" else stop, kept)

    async def embed(self, texts: Sequence[str], request: ModelRequest, http: Http) -> list[list[float]]:
        if not self.capabilities.embeddings:
            return await super().embed(texts, request, http)
        try:
            answer = await http.fetch(
                "POST",
                self.url(request, "embeddings"),
                headers=self.headers(request),
                json={"model": request.model_name, "input": texts},
            )
            vectors = msgspec.json.decode(answer, type=_Vectors).data
        except UpstreamError as error:
            raise refused(error) from error
        except msgspec.DecodeError as error:
            raise ProviderError(f"The vendor sent embeddings that cannot be read ({error})") from error
        if len(vectors) != len(texts):
            raise ProviderError(f"The vendor sent {len(vectors)} embeddings for {len(texts)} texts")
        return [vector.embedding for vector in sorted(vectors, key=lambda vector: vector.index)]


def _function(tool: ToolSpec) -> dict[str, Any]:
    about = {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}
    return {"type": "function", "function": about}


def address(file: Attachment) -> str:
    return file.url or f"data:{file.media_type};base64,{file.data}"
