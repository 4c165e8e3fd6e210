"""Vectors from a model of kind embedding."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bytebrew import EngineError, ProviderError, Target, UpstreamError, masked, refusal, within

if TYPE_CHECKING:
    from bytebrew import Engine

SECONDS = 60.0
LONGEST_WAIT = 60.0


async def embed(
    engine: "Engine", target: Target, texts: Sequence[str], *, seconds: float = SECONDS, retries: int = 0
) -> list[list[float]]:
    """A vector for each text; what may pass is tried again, with a growing wait. Raises ProviderError."""
    tries = 0
    while True:
        failure = await _tried(engine, target, texts, seconds)
        if isinstance(failure, list):
            return failure
        wait = 2.0**tries if failure.retry_after is None else failure.retry_after
        if not failure.retry or tries >= retries or not wait <= LONGEST_WAIT:
            raise failure
        tries += 1
        await asyncio.sleep(wait)


async def _tried(
    engine: "Engine", target: Target, texts: Sequence[str], seconds: float
) -> list[list[float]] | ProviderError:
    try:
        model = engine.models.bind(target)
    except EngineError as error:
        return ProviderError(error.message, code="model_bad_request")
    try:
        with within(seconds):
            return await model.provider.embed(texts, model.base, engine.http)
    except TimeoutError:
        return ProviderError(f"No embeddings within {seconds:g} s", code="model_timeout", retry=True)
    except (ProviderError, UpstreamError) as error:
        failure = refusal(error) if isinstance(error, UpstreamError) else error
        words = masked(failure.message, model.base.api_key)
        return ProviderError(words, code=failure.code, retry=failure.retry, retry_after=failure.retry_after)
