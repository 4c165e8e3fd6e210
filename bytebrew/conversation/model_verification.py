"""Verifies a model: requests a short answer, then a tool call."""

import time
from contextlib import aclosing
from types import UnionType
from typing import Literal

from msgspec import Struct

from bytebrew.base.errors import ProviderError
from bytebrew.base.formats import now
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


class VerificationStep(Struct, frozen=True, kw_only=True):
    """A step of a verification: the vendor is reached, takes the key, answers, and calls a tool.

    `ok` is null for a step that was not tried or of which nothing is known; `ms` is the time from the request, and
    `message` what went wrong, in the vendor's words where it said something.
    """

    name: Literal["reached", "key", "answers", "tool_call"]
    ok: bool | None = None
    ms: int | None = None
    message: str = ""


class Verification(Struct, frozen=True, kw_only=True):
    """What became of a ping and of a question that wants a tool; `response_time_ms` is to the ping's first token."""

    connectivity: Literal["ok", "error"]
    tool_calling: Literal["supported", "not_detected", "skipped"]
    response_time_ms: int
    model_name: str
    provider: str
    error: str | None
    at: str
    steps: tuple[VerificationStep, ...]


class _Course:
    """How far a verification has come, with the seconds that its parts took."""

    def __init__(self) -> None:
        self.reached: float | None = None
        self.answered: float | None = None
        self.called: float | None = None
        self.tool_calling: Literal["supported", "not_detected", "skipped"] = "skipped"
        self.code, self.message = "", ""
        self._started = time.monotonic()

    @property
    def took(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._started

    def responded(self) -> None:
        """The vendor has begun to respond."""
        self.reached = self.took if self.reached is None else self.reached

    def steps(self) -> tuple[VerificationStep, ...]:
        """Each step with what is known of it; the one that failed has the message."""
        answered, reached = self.answered is not None, self.reached is not None
        denied = self.code == "model_auth"
        failed = "" if answered else "key" if denied else "answers" if reached else "reached"
        key = False if failed == "key" else True if answered else None
        refused = bool(self.code) or self.tool_calling == "not_detected"
        called = True if self.called is not None else False if answered and refused else None
        return (
            self._step("reached", reached or answered, self.reached, failed),
            self._step("key", key, None, failed),
            self._step("answers", answered or (False if failed == "answers" else None), self.answered, failed),
            self._step("tool_call", called, self.called, "tool_call" if answered else failed),
        )

    def _step(
        self, name: Literal["reached", "key", "answers", "tool_call"], ok: bool | None, took: float | None, failed: str
    ) -> VerificationStep:
        ms = None if took is None else round(1000 * took)
        return VerificationStep(name=name, ok=ok, ms=ms, message=self.message if name == failed else "")


async def verify(model: BoundModel, http: Http, *, embeds: bool = False, seconds: float = 30) -> Verification:
    """Pings a model and requests a tool call, within a time limit; failures of the vendor are part of the result."""
    course = _Course()
    http = http.watched(course.responded)
    try:
        with within(seconds):
            if embeds:
                await model.provider.embed(["ping"], model.base, http)
            else:
                await _first(model, http, ProviderEvent, "Reply with the word pong.", PING_TOKENS)
            course.answered = course.took
            if not embeds and model.provider.capabilities.tools:
                question = "What is 1234 * 5678? Use the calculator."
                course.tool_calling = "not_detected"
                if await _first(model, http, ToolCall, question, QUESTION_TOKENS, _CALCULATOR):
                    course.tool_calling = "supported"
                    course.called = course.took - course.answered
    except TimeoutError:
        course.code, course.message = "model_timeout", f"No answer within {seconds:g} s"
    except (ProviderError, UpstreamError) as failure:
        refused = failure if isinstance(failure, ProviderError) else refusal(failure)
        course.code, course.message = refused.code, masked(refused.message, model.base.api_key)
    error = course.message or None
    if course.answered is None:
        error = f"connectivity check failed: {error}"
    return Verification(
        connectivity="error" if course.answered is None else "ok",
        tool_calling=course.tool_calling,
        response_time_ms=round(1000 * (course.took if course.answered is None else course.answered)),
        model_name=model.base.model_name,
        provider=model.provider.type,
        error=error,
        at=now(),
        steps=course.steps(),
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
