"""Runs of tools: their time limits, failures and long outputs."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf

import anyio
import msgspec

from bytebrew.base.errors import ToolError
from bytebrew.base.rolling_timeout import uncancelled
from bytebrew.contract.messages import ToolCall
from bytebrew.contract.tool import Call, Outcome, Result, Tool
from bytebrew.store.confirmations import Confirmation

log = logging.getLogger(__name__)

OVER = "The call is over: nothing can be asked for it"
MOST_KEPT = 8 * 1024 * 1024
"""Limit in bytes of a tool's stored output."""


class RunningCall:
    """A tool call that runs, under the name that the model used; `earlier` are questions from before a restart."""

    def __init__(self, tool: Tool, name: str, scope: anyio.CancelScope, earlier: list[Confirmation]) -> None:
        self.tool = tool
        self.name = name
        self.earlier = earlier
        self._scope = scope
        self._holds = 0
        self._seconds_left = inf
        self._requests: dict[anyio.CancelScope, anyio.Event] = {}

    @contextmanager
    def request(self) -> Iterator[None]:
        """A request of the call, which ends with it; ToolError if that comes first."""
        with anyio.CancelScope() as scope:
            ended = self._requests[scope] = anyio.Event()
            try:
                yield
            finally:
                del self._requests[scope]
                ended.set()
        if scope.cancelled_caught:
            raise ToolError(OVER)

    async def close(self) -> None:
        """Ends the requests that the tool has left behind, before the turn goes on: what they use is the turn's."""
        with anyio.CancelScope(shield=True):
            for scope, ended in [*self._requests.items()]:
                scope.cancel()
                await ended.wait()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Pauses the time limit of the call; nested pauses count as one."""
        if not self._holds:
            self._seconds_left = self._scope.deadline - anyio.current_time()
            self._scope.deadline = inf
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            if not self._holds:
                self._scope.deadline = anyio.current_time() + self._seconds_left


async def run_tool(
    tool: Tool | None,
    call: ToolCall,
    caller: Call,
    *,
    seconds: float,
    limit: int,
    absent: str = "",
    running: dict[str, RunningCall] | None = None,
    earlier: Sequence[Confirmation] = (),
) -> Outcome:
    """Runs a tool; every failure is an outcome. `limit` is in bytes, `seconds` applies to tools without a timeout.

    `absent` is the result if there is no such tool. `running` has the call meanwhile, with the `earlier` questions of
    its source whose answers it has not taken.
    """
    if tool is None:
        return Outcome(absent or f"There is no tool named '{call.tool}'", True)
    if call.malformed is not None:
        return Outcome(f"The arguments are not a JSON object: {call.malformed[:200]}", True)
    if tool.timeout is not None:
        seconds = tool.timeout
    more: Result | None = None
    try:
        with uncancelled(), anyio.move_on_after(seconds) as scope:
            if running is not None:
                running[call.call_id] = RunningCall(tool, call.tool, scope, list(earlier))
            result = await tool.run(caller, call.input)
        if scope.cancelled_caught:
            return Outcome(f"'{call.tool}' did not finish within {seconds:g} s", True)
        if isinstance(result, Result):
            text, more = result.text, result
        else:
            text = result if isinstance(result, str) else msgspec.json.encode(result).decode()
    except ToolError as error:
        return capped(str(error), True, limit, call.call_id)._replace(events=error.events)
    except Exception:
        log.exception("tool %s failed", call.tool)
        return Outcome(f"'{call.tool}' failed because of a fault of its own", True)
    finally:
        if running is not None and (ended := running.pop(call.call_id, None)) is not None:
            await ended.close()
    outcome = capped(text, False, limit, call.call_id)
    if more is None:
        return outcome
    return outcome._replace(attachments=more.attachments, events=more.events, ends_turn=more.ends_turn)


def capped(text: str, has_error: bool, limit: int, call_id: str) -> Outcome:
    """An outcome of at most `limit` bytes; `whole` is what the model reads on with `read_result`."""
    raw = text.encode("utf-8", "replace")  # a lone surrogate cannot be stored
    if len(raw) <= limit:
        return Outcome(raw.decode(), has_error)
    beginning = raw[:limit].decode("utf-8", "ignore")  # the limit may lie within a character
    whole = raw[:MOST_KEPT].decode("utf-8", "ignore")
    rest = f"[cut: {len(beginning)} of {len(whole)} characters; go on with read_result, call_id {call_id}]"
    return Outcome(f"{beginning}\n{rest}", has_error, whole)
