"""A tool call that runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf

import anyio
from msgspec import Struct

from bytebrew.base.errors import ToolError
from bytebrew.contract.tool import Tool
from bytebrew.store.confirmations import Confirmation

OVER = "The call is over: nothing can be asked for it"


class RunningCall(Struct, kw_only=True):
    """A tool call that runs, under the name that the model used, in a `scope` whose deadline is its time limit.

    `earlier` are questions from before a restart, `requests` what it waits for, each with the event of its end.
    """

    tool: Tool
    name: str
    scope: anyio.CancelScope
    earlier: list[Confirmation]
    holds: int = 0
    seconds_left: float = inf
    requests: dict[anyio.CancelScope, anyio.Event] = {}

    @contextmanager
    def request(self) -> Iterator[None]:
        """A request of the call, which ends with it; ToolError if that comes first."""
        with anyio.CancelScope() as scope:
            ended = self.requests[scope] = anyio.Event()
            try:
                yield
            finally:
                del self.requests[scope]
                ended.set()
        if scope.cancelled_caught:
            raise ToolError(OVER)

    async def close(self) -> None:
        """Ends the requests that the tool has left behind, before the turn goes on: what they use is the turn's."""
        with anyio.CancelScope(shield=True):
            for scope, ended in [*self.requests.items()]:
                scope.cancel()
                await ended.wait()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Pauses the time limit of the call; nested pauses count as one."""
        if not self.holds:
            self.seconds_left = self.scope.deadline - anyio.current_time()
            self.scope.deadline = inf
        self.holds += 1
        try:
            yield
        finally:
            self.holds -= 1
            if not self.holds:
                self.scope.deadline = anyio.current_time() + self.seconds_left
