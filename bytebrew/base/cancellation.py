"""Distinguishes the cancellation of an awaited operation from that of the task."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncancelled() -> Iterator[None]:
    """Turns a CancelledError into an ordinary error if only the awaited operation was cancelled, not the task."""
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise RuntimeError("something that was awaited had been cancelled") from error
