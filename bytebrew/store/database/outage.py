"""Outages of a database that is a server: turns wait until it is back, requests are told at once."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import anyio

from bytebrew.base.errors import StorageError

PAUSE = 0.2
"""Seconds between two attempts to reach the database."""
patient: ContextVar[bool] = ContextVar("patient", default=False)
"""Whether the works of a task wait until the database is back, as those of turns do; others raise StorageError."""


@contextmanager
def waiting() -> Iterator[None]:
    """Makes the block patient, and the tasks that it starts."""
    token = patient.set(True)
    try:
        yield
    finally:
        patient.reset(token)


class Outage:
    """Whether the database is away, and who waits for it."""

    def __init__(self) -> None:
        self.fault: StorageError | None = None
        self._back = asyncio.Event()

    def begin(self, fault: StorageError) -> None:
        """The database is away."""
        if self.fault is None:
            self._back.clear()
        self.fault = fault

    def end(self) -> None:
        """The database is back."""
        self.fault = None
        self._back.set()

    async def passes(self, seconds: float) -> bool:
        """Whether the database is away; returns as soon as it is back, or after some seconds."""
        if self.fault is None:
            return False
        with anyio.move_on_after(seconds):
            await self._back.wait()
        return True

    async def over(self) -> None:
        """Returns once the database is there; raises its fault unless the caller is patient."""
        if self.fault is not None:
            if not patient.get():
                raise self.fault
            await self._back.wait()


def unknown_fault(error: BaseException) -> StorageError:
    """The fault of a database that has failed in a way of which no more is known."""
    fault = StorageError(f"The database has failed: {error}")
    fault.__cause__ = error
    return fault
