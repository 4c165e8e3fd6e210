"""Providers: what an author writes, and how a model's answer is streamed with retries."""

import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import ClassVar

import anyio
from msgspec import Struct

from bytebrew.errors import ProviderError
from bytebrew.events import MessageDelta, Thinking
from bytebrew.http import Http, UpstreamError
from bytebrew.messages import ModelRequest, Stop, ToolCall, Usage

ProviderEvent = Thinking | MessageDelta | ToolCall | Usage | Stop

LONGEST_WAIT = 60.0
"""Seconds: a vendor that asks for a longer wait than this is not waited for."""


class Capabilities(Struct, frozen=True, kw_only=True):
    """What a vendor's API can carry; `vision` is images, `documents` PDF files in a user's message."""

    tools: bool = True
    parallel_tools: bool = True
    thinking: bool = False
    vision: bool = False
    documents: bool = False
    embeddings: bool = False
    system_role: bool = True


class Provider:
    """A vendor's API: turns a ModelRequest into the vendor's words and the answer into events.

    `base_url` is used where a model names none; `aliases` are other names of the type that are read; `needs` are the
    fields that a model of this type must have, of `base_url`, `api_key` and `api_version`.
    """

    type: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    base_url: ClassVar[str] = ""
    needs: ClassVar[frozenset[str]] = frozenset()
    capabilities: ClassVar[Capabilities] = Capabilities()

    def stream(self, request: ModelRequest, http: Http) -> AsyncGenerator[ProviderEvent, None]:
        """The answer as an async generator: text and thinking as they come, whole tool calls, usage, then one Stop.

        Raises ProviderError in the vendor's words, or lets UpstreamError through. Being closed early closes the
        connection.
        """
        raise NotImplementedError

    async def embed(self, texts: Sequence[str], request: ModelRequest, http: Http) -> list[list[float]]:
        """A vector for each text, in order; only the request's model, address and key count. Raises as `stream`."""
        raise ProviderError(f"{self.type} makes no embeddings", code="model_bad_request")


async def stream_answer(
    provider: Provider, request: ModelRequest, http: Http, *, retries: int
) -> AsyncGenerator[ProviderEvent, None]:
    """A provider's events; failures before the first one are tried again, with backoff and jitter."""
    tries = 0
    while True:
        begun = False
        stopped = False
        try:
            async with aclosing(provider.stream(request, http)) as events:
                async for event in events:
                    begun = True
                    stopped = stopped or type(event) is Stop
                    yield event
            if stopped:
                return
            raise ProviderError(f"{provider.type} ended its answer without saying why", code="model_unavailable")
        except UpstreamError as error:
            failure = refusal(error)
        except ProviderError as error:
            failure = error
        wait = failure.retry_after
        if wait is None:
            wait = min(8.0, 0.5 * 2**tries) * random.uniform(0.5, 1.0)  # noqa: S311
        if begun or not failure.retry or tries >= retries or not wait <= LONGEST_WAIT:
            raise _without_key(failure, request.api_key) from failure.__cause__
        tries += 1
        await anyio.sleep(wait)


def refusal(error: UpstreamError, words: str = "") -> ProviderError:
    """The ProviderError for an HTTP status; `words` are the vendor's, or else the body's beginning."""
    status = error.status
    text = " ".join((words or error.body.decode("utf-8", "replace")).split())[:1000]
    if status < 400:
        return ProviderError(f"The vendor sent this in place of a stream of events: {text}")
    code = {401: "model_auth", 403: "model_auth", 408: "model_timeout", 429: "model_rate_limited"}.get(status)
    if code is None:
        code = (
            "model_bad_request" if status < 500 else "model_overloaded" if status in (503, 529) else "model_unavailable"
        )
    return ProviderError(
        f"HTTP {status}: {text}" if text else f"HTTP {status}",
        code=code,
        retry=status in (408, 409, 429) or status >= 500,
        retry_after=error.retry_after,
    )


def _without_key(error: ProviderError, key: str) -> ProviderError:
    if not key or key not in error.message:
        return error
    message = error.message.replace(key, "***")
    return ProviderError(message, code=error.code, retry=error.retry, retry_after=error.retry_after)
