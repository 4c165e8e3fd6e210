"""Recorded results in place of tools."""

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType

from msgspec.structs import replace

from bytebrew.base.errors import EngineError
from bytebrew.contract.messages import Message, ToolCall
from bytebrew.conversation.replay.comparison import canonical
from bytebrew.conversation.tools.tool_calls import ToolCalls, Toolkit
from bytebrew.conversation.turn import Turn


class Unrecorded(EngineError):
    """A candidate called a tool of which no result is recorded: its turn cannot go on."""

    code = "not_recorded"


class RecordedCalls:
    """Answers tool calls with the results of a recorded turn; runs none.

    A call gets the result of a recorded one with the same tool and arguments, or else of the next with the same tool.
    `matched` has the calls so far, each with the index of the recorded call.
    """

    def __init__(self, tools: ToolCalls, recorded: Sequence[Message]) -> None:
        self._tools = tools
        self.read_result = tools.read_result
        self.calls = [call for message in recorded for call in message.tool_calls]
        self._results = {message.call_id: message for message in recorded if message.role == "tool"}
        self.matched: list[tuple[ToolCall, int | None]] = []
        self._steps = 0
        steps = accumulate((message.role == "assistant" for message in recorded), initial=0)
        self._steers = deque((step, one) for step, one in zip(steps, recorded, strict=False) if one.role == "user")

    def take_steers(self, turn: Turn, *, ends: bool = False) -> list[Message]:
        """The messages that steered the recorded turn up to this step; the next ones if the turn `ends` otherwise."""
        if self._steps >= turn.agent.max_steps:
            return []
        through = max(self._steps, self._steers[0][0]) if ends and self._steers else self._steps
        found = []
        while self._steers and self._steers[0][0] <= through:
            found.append(self._steers.popleft()[1])
        return found

    async def toolkit(self, turn: Turn) -> Toolkit:
        """The tools of the candidate, which are described to its model and not run."""
        return await self._tools.toolkit(turn)

    async def run(
        self, turn: Turn, kit: Toolkit, calls: tuple[ToolCall, ...], states: Mapping[str, str] = MappingProxyType({})
    ) -> list[Message]:
        """The recorded results of the calls, in order, and what steered the turn; Unrecorded if one has none."""
        for call in calls:
            self.matched.append((call, self._match(call)))
        results = [self._result(call, at) for call, at in self.matched[len(self.matched) - len(calls) :]]
        if missing := [call.tool for call, result in zip(calls, results, strict=True) if result is None]:
            raise Unrecorded(f"No result of a call of '{missing[0]}' is recorded in this turn")
        self._steps += 1
        found = [result for result in results if result is not None]
        if any(result.ends_turn for result in found):
            return found
        return found + self.take_steers(turn, ends=not calls)

    def _match(self, call: ToolCall) -> int | None:
        used = {at for _, at in self.matched}
        free = [at for at, one in enumerate(self.calls) if at not in used and one.tool == call.tool]
        alike = (at for at in free if canonical(self.calls[at].input) == canonical(call.input))
        return next(alike, next(iter(free), None))

    def _result(self, call: ToolCall, at: int | None) -> Message | None:
        result = None if at is None else self._results.get(self.calls[at].call_id)
        return None if result is None else replace(result, call_id=call.call_id)
