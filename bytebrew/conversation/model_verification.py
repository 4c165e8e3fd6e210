"""Verifies a model: requests a short answer, then a tool call."""

import time
from contextlib import aclosing
from types import UnionType
from typing import Literal

from msgspec import Struct

from bytebrew.base.errors import ProviderError
from bytebrew.base.http_client.client import Http, UpstreamError
from bytebrew.base.masking import masked
from bytebrew.base.rolling_timeout import within
from bytebrew.contract.messages import Message, ModelRequest, ToolCall, ToolSpec
from bytebrew.contract.provider import ProviderEvent, refusal
from bytebrew.conversation.model_calls import BoundModel, stream_answer

PING_TOKENS = 64
"""Enough for a first token, even after thinking."""
QUESTION_TOKENS = 1024
_CALCULATOR = ToolSpec(
    "calculator",
    "Evaluates an arithmetic expression",
    {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
)


class Verification(Struct, frozen=True, kw_only=True):
    """What became of a ping and of a question that wants a tool; `response_time_ms` is to the ping's first token."""

    connectivity: Literal["ok", "error"]
    tool_calling: Literal["supported", "not_detected", "skipped"]
    response_time_ms: int
    model_name: str
    provider: str
    error: str | None


async def verify(model: BoundModel, http: Http, *, embeds: bool = False, seconds: float = 30) -> Verification:
    """Pings a model and requests a tool call, within a time limit; failures of the vendor are part of the result."""
    started = time.monotonic()
    tool_calling: Literal["supported", "not_detected", "skipped"] = "skipped"
    took, error = None, None
    try:
        with within(seconds):
            if embeds:
                await model.provider.embed(["ping"], model.base, http)
            else:
                await _first(model, http, ProviderEvent, "Reply with the word pong.", PING_TOKENS)
            took = time.monotonic() - started
            if not embeds and model.provider.capabilities.tools:
                question = "What is 1234 * 5678? Use the calculator."
                tool_calling = "not_detected"
                if await _first(model, http, ToolCall, question, QUESTION_TOKENS, _CALCULATOR):
                    tool_calling = "supported"
    except TimeoutError:
        error = f"No answer within {seconds:g} s"
    except (ProviderError, UpstreamError) as failure:
        message = failure.message if isinstance(failure, ProviderError) else refusal(failure).message
        error = masked(message, model.base.api_key)
    if took is None:
        error = f"connectivity check failed: {error}"
    return Verification(
        connectivity="error" if took is None else "ok",
        tool_calling=tool_calling,
        response_time_ms=round(1000 * (time.monotonic() - started if took is None else took)),
        model_name=model.base.model_name,
        provider=model.provider.type,
        error=error,
    )


async def _first(
    model: BoundModel, http: Http, wanted: type | UnionType, question: str, tokens: int, *tools: ToolSpec
) -> bool:
    """Whether the answer has an event of this type; stops reading at the first one."""
    messages = (Message("user", question),)
    request = ModelRequest(model_name="", base_url="", messages=messages, tools=tools, max_tokens=tokens)
    async with aclosing(stream_answer(model.provider, model.addressed(request), http, retries=0)) as events:
        async for event in events:
            if isinstance(event, wanted):
                return True
    return False
