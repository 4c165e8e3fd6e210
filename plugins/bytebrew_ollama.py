"""Ollama's native API, local, remote or at ollama.com."""

from base64 import b64decode
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
from msgspec import Struct

from bytebrew import (
    Bounds,
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


class _Function(Struct):
    name: str = ""
    arguments: Any = None


class _Call(Struct):
    function: _Function
    id: str = ""

    def whole(self) -> ToolCall:
        name, arguments = self.function.name, self.function.arguments
        if arguments is None:
            arguments = {}
        if isinstance(arguments, dict):
            return ToolCall(name, arguments, self.id)
        return ToolCall(name, {}, self.id, malformed=_text(arguments))


class _Answer(Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Line(Struct):
    message: _Answer | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    error: Any = None


class _Vectors(Struct):
    embeddings: list[list[float]]


_line: Callable[[bytes], _Line] = msgspec.json.Decoder(_Line).decode


class Ollama(Provider):
    """Ollama, and the plugin that registers it; a base URL may end in `/api` or `/v1`."""

    # https://docs.ollama.com/api/chat, /capabilities/thinking and /capabilities/structured-outputs
    type = "ollama"
    base_url = "http://localhost:11434"
    capabilities = Capabilities(thinking=True, vision=True, embeddings=True, urls=(), structured=True)

    @hookimpl
    def register_providers(self, register: Register[Provider]) -> None:
        register(self)

    async def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
        called = False
        last: _Line | None = None
        try:
            async with (
                http.stream("POST", _url(request, "chat"), headers=_headers(request), json=_body(request)) as pieces,
                aclosing(_lines(pieces, request.bounds)) as lines,
            ):
                async for line in lines:
                    if message := line.message:
                        if message.thinking:
                            yield Thinking(content=message.thinking)
                        if message.content:
                            yield MessageDelta(content=message.content)
                        for call in message.tool_calls or ():
                            called = True
                            yield call.whole()
                    if line.done:
                        last = line
                        break
        except UpstreamError as error:
            raise _refused(error, request) from error
        if last is None:
            raise ProviderError("The answer ended early, without a last line", code="model_unavailable", retry=True)
        if last.done_reason in ("load", "unload"):
            problem = f"Ollama did no more than {last.done_reason} the model"
            raise ProviderError(problem, code="model_unavailable", retry=True)
        if last.prompt_eval_count is not None or last.eval_count is not None:
            yield Usage(last.prompt_eval_count or 0, last.eval_count or 0)
        if last.done_reason == "length":
            yield Stop("max_tokens")
        else:
            yield Stop("tool_calls" if called else "end")

    async def embed(self, texts: Sequence[str], request: ModelRequest, http: Http) -> list[list[float]]:
        body = {"model": request.model_name, "input": texts}
        try:
            answer = await http.fetch("POST", _url(request, "embed"), headers=_headers(request), json=body)
            vectors = msgspec.json.decode(answer, type=_Vectors).embeddings
        except UpstreamError as error:
            raise _refused(error, request) from error
        except msgspec.DecodeError as error:
            raise ProviderError(f"Ollama sent embeddings that cannot be read ({error})") from error
        if len(vectors) != len(texts):
            raise ProviderError(f"Ollama sent {len(vectors)} embeddings for {len(texts)} texts")
        return vectors


def _url(request: ModelRequest, path: str) -> str:
    origin = request.base_url.removesuffix("/api").removesuffix("/v1")
    return f"{origin}/api/{path}"


def _headers(request: ModelRequest) -> dict[str, str]:
    return {"Authorization": f"Bearer {request.api_key}"} if request.api_key else {}


def _body(request: ModelRequest) -> dict[str, Any]:
    """The request's body; thinking is on by default if the model supports it, and tool_choice only supports "none".

    A format keeps the model from calling tools (https://github.com/ollama/ollama/issues/8095), and the model does not
    see it. So the system text has it too, and alone while there are tools, or at ollama.com, which has none.
    """
    tools = () if request.tool_choice == "none" else request.tools
    options = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "num_predict": request.max_tokens,
        "num_ctx": request.context_size,  # otherwise prompts are silently truncated to 4096 tokens
        "stop": request.stop_sequences or None,
    }
    fields: dict[str, Any] = {
        "tools": [{"type": "function", "function": _function(tool)} for tool in tools],
        "options": {name: value for name, value in options.items() if value is not None},
    }
    format = request.response_format
    if format and not tools and not _in_cloud(request):
        fields["format"] = format.schema
    text = request.instructed_system if format else request.system
    system = [{"role": "system", "content": text}] if text else []
    return {
        "model": request.model_name,
        "messages": system + [_message(message) for message in request.messages],
        "stream": True,
        **{name: value for name, value in fields.items() if value},
    }


def _in_cloud(request: ModelRequest) -> bool:
    return request.model_name.endswith("-cloud") or request.base_url.startswith("https://ollama.com")


def _message(message: Message) -> dict[str, Any]:
    # Ids: https://github.com/ollama/ollama/blob/main/api/types.go; older servers ignore them.
    if message.role == "tool":
        return {
            "role": "tool",
            "tool_name": message.tool,
            "tool_call_id": message.call_id,
            "content": message.content,
        }
    texts, images = _attached(message)
    calls = [
        {"id": call.call_id, "function": {"name": call.tool, "arguments": call.input}} for call in message.tool_calls
    ]
    fields = {"thinking": message.thinking, "images": images, "tool_calls": calls}
    content = "\n\n".join([message.content, *texts] if message.content else texts)
    return {"role": message.role, "content": content, **{name: value for name, value in fields.items() if value}}


def _attached(message: Message) -> tuple[list[str], list[str]]:
    """The text attachments of a message, and its images in base64; Ollama fetches no URLs."""
    texts, images = [], []
    for file in message.attachments:
        if file.media_type.startswith("image/") and file.data:
            images.append(file.data)
        elif file.media_type.startswith("text/") and file.data:
            texts.append(b64decode(file.data).decode("utf-8", "replace"))
        else:
            how = "by its URL" if file.url else "attached"
            raise ProviderError(f"ollama takes no {file.media_type} {how}", code="model_bad_request")
    return texts, images


def _function(tool: ToolSpec) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}


async def _lines(pieces: AsyncIterator[bytes], bounds: Bounds) -> AsyncGenerator[_Line, None]:
    """The lines of a stream of NDJSON; only a line feed ends a line."""
    intake = Intake(bounds)
    rest = bytearray()  # extended in place: a long line may arrive in many chunks
    async for piece in pieces:
        first, *more = piece.split(b"\n")
        rest += first
        if len(rest) > bounds.answer_bytes:
            raise bounds.too_long()
        if more:
            lines, rest = [bytes(rest), *more[:-1]], bytearray(more[-1])
            for line in filter(bytes.strip, lines):
                read = _read(line)
                if read.message and read.message.tool_calls:
                    intake.take(len(line))
                yield read
    if rest.endswith(b"}"):  # a complete last line without line feed; any other rest was truncated
        yield _read(bytes(rest))


def _read(line: bytes) -> _Line:
    try:
        read = _line(line)
    except msgspec.DecodeError as error:
        message = f"Ollama sent a line that cannot be read ({error}): {line[:200].decode('utf-8', 'replace')}"
        raise ProviderError(message, code="model_unavailable", retry=True) from error
    if read.error:
        # https://docs.ollama.com/api/errors: before the stream its status would be 500
        raise _refined(provider_error(Fault(_text(read.error), 500)))
    return read


def _refused(error: UpstreamError, request: ModelRequest) -> ProviderError:
    try:
        body = msgspec.json.decode(error.body)
    except (msgspec.DecodeError, RecursionError):
        body = None
    message = _text(body["error"]) if isinstance(body, dict) and body.get("error") else ""
    if isinstance(body, dict) and body.get("signin_url"):
        message += f"; run `ollama signin` where Ollama runs, or open {body['signin_url']}"
    if error.status == 404 and "not found" in message:
        # https://docs.ollama.com/api/pull: pulls of a model share their progress
        message += (
            f". Run `ollama pull {request.model_name}` where Ollama runs: it fetches the model, or shows how far a pull"
            " that is under way has come"
        )
    return _refined(refusal(error, message))


def _refined(failure: ProviderError) -> ProviderError:
    if "context length" in failure.message or "context size" in failure.message:
        failure.code, failure.retry = "model_context_too_long", False
    return failure


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


ollama = Ollama()
