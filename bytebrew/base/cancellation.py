"""Cancellation of what is awaited, told from that of the task itself."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncancelled() -> Iterator[None]:
    """Makes a CancelledError a fault like others where what was awaited had been cancelled, and not the task itself."""
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise RuntimeError("something that was awaited had been cancelled") from error
