"""Providers: one class per vendor API."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import ClassVar, NamedTuple

from msgspec import Struct

from bytebrew.base.errors import ProviderError
from bytebrew.base.http_client.client import Http, UpstreamError
from bytebrew.contract.events import MessageDelta, Thinking
from bytebrew.contract.messages import Attachment, ModelRequest, Stop, ToolCall, Usage

ProviderEvent = Thinking | MessageDelta | ToolCall | Usage | Stop


class Capabilities(Struct, frozen=True, kw_only=True):
    """What a vendor's API supports; `vision` is images, `documents` other files in a user's message.

    `document_types` and `urls` are prefixes of media types: those of accepted files, and those that the vendor fetches
    by URL. A `structured` provider takes `response_format` of a request: it has the vendor enforce the format, or adds
    it to the system text (`instructed_system`). Other providers get it as a part of the system text.
    """

    tools: bool = True
    parallel_tools: bool = True
    thinking: bool = False
    vision: bool = False
    documents: bool = False
    embeddings: bool = False
    system_role: bool = True
    structured: bool = False
    document_types: tuple[str, ...] = ("application/pdf", "text/")
    urls: tuple[str, ...] = ("image/",)

    def carries(self, attachment: Attachment) -> bool:
        """Whether the vendor accepts the attachment."""
        kind = attachment.media_type
        seen = self.vision if kind.startswith("image/") else self.documents and kind.startswith(self.document_types)
        return seen and (not attachment.url or kind.startswith(self.urls))


class Provider:
    """A vendor's API: converts a ModelRequest into the vendor's format and the answer into events.

    `base_url` is the default of a model; `aliases` are other accepted names of the type; `needs` are the required
    fields of a model of this type, of `base_url`, `api_key` and `api_version`. `demo` marks a provider without a real
    model.
    """

    type: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    base_url: ClassVar[str] = ""
    needs: ClassVar[frozenset[str]] = frozenset()
    capabilities: ClassVar[Capabilities] = Capabilities()
    demo: ClassVar[bool] = False

    def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
        """The answer as an async generator: text and thinking as they arrive, complete tool calls, usage, one Stop.

        Raises ProviderError with the vendor's message, or does not catch UpstreamError. Closing it early closes the
        connection.
        """
        raise NotImplementedError

    async def embed(self, texts: Sequence[str], request: ModelRequest, http: Http) -> list[list[float]]:
        """A vector for each text, in order; uses only the request's model, URL and key. Raises as `stream`."""
        raise ProviderError(f"{self.type} makes no embeddings", code="model_bad_request")


def named(providers: Mapping[str, Provider], name: str) -> Provider | None:
    """The provider with this type or alias."""
    return providers.get(name) or next((one for one in providers.values() if name in one.aliases), None)


_CODES = {
    401: "model_auth",
    402: "model_rate_limited",  # no credit left: other vendors send 429
    403: "model_auth",
    408: "model_timeout",
    429: "model_rate_limited",
    503: "model_overloaded",
    504: "model_timeout",
    529: "model_overloaded",
}


def refusal(error: UpstreamError, message: str = "") -> ProviderError:
    """The ProviderError for an HTTP status; `message` is the vendor's, by default the beginning of the body."""
    status = error.status
    text = " ".join((message or error.body.decode("utf-8", "replace")).split())[:1000]
    if status < 400:
        return ProviderError(f"The vendor sent this in place of a stream of events: {text}")
    code = _CODES.get(status, "model_bad_request" if status < 500 else "model_unavailable")
    return ProviderError(
        f"HTTP {status}: {text}" if text else f"HTTP {status}",
        code=code,
        retry=status in (408, 409, 429) or status >= 500,
        retry_after=error.retry_after,
    )


class Fault(NamedTuple):
    """A vendor's error, in the engine's terms.

    `status` is the HTTP status, or the one that an error in the middle of a stream corresponds to. `code` is the
    engine's code if the vendor names the cause; `vague_code` applies only if the status is not specific. `retry` and
    `retry_after` override what the status implies.
    """

    message: str = ""
    status: int | None = None
    code: str = ""
    vague_code: str = ""
    retry: bool | None = None
    retry_after: float | None = None


def provider_error(fault: Fault, answer: UpstreamError | None = None) -> ProviderError:
    """The ProviderError for an error in the middle of a stream, or in an `answer` that is not a stream."""
    if answer is not None and (answer.status >= 400 or not fault.message):
        error = refusal(answer, fault.message)
    else:
        error = ProviderError(fault.message[:1000] or "The vendor broke its answer off with an error")
        if fault.status is not None:
            alike = refusal(UpstreamError(fault.status, b"", None))
            error.code, error.retry = alike.code, alike.retry
    vague = error.code in ("model_bad_request", "model_error")
    error.code = fault.code or (vague and fault.vague_code) or error.code
    error.retry = error.retry if fault.retry is None else fault.retry
    error.retry_after = error.retry_after if fault.retry_after is None else fault.retry_after
    return error


class Target(Struct, frozen=True, kw_only=True):
    """The address and the encrypted credential of a configured model."""

    name: str
    type: str
    model_name: str
    base_url: str = ""
    api_version: str = ""
    sealed_key: bytes = b""
    pricing_input: float | None = None
    pricing_output: float | None = None
    fallback: tuple[str, ...] = ()
    context_window: int | None = None
