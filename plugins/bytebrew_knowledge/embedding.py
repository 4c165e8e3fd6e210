"""Embeddings of texts, with retries."""

import asyncio
from collections.abc import Sequence

from bytebrew import Engine, ProviderError, Target

SECONDS = 60.0
LONGEST_WAIT = 60.0


async def embed(
    engine: Engine, target: Target, texts: Sequence[str], *, seconds: float = SECONDS, retries: int = 0
) -> list[list[float]]:
    """A vector for each text; transient failures are retried with exponential backoff. Raises ProviderError."""
    tries = 0
    while True:
        try:
            return await engine.models.embed(target, texts, seconds=seconds)
        except ProviderError as error:
            wait = 2.0**tries if error.retry_after is None else error.retry_after
            if not error.retry or tries >= retries or not wait <= LONGEST_WAIT:
                raise
        tries += 1
        await asyncio.sleep(wait)
