"""Tool calls: the tools of one turn by name, and how one call of a tool runs."""

import logging
from collections.abc import Callable, Iterable, Sequence

import anyio
import msgspec

from bytebrew.base.cancellation import uncancelled
from bytebrew.base.errors import ToolError
from bytebrew.contract.events import Notice
from bytebrew.contract.messages import ToolCall
from bytebrew.contract.tool import Call, Outcome, Result, Tool

log = logging.getLogger(__name__)

MOST_KEPT = 8 * 1024 * 1024
"""Bytes that are kept of a tool's output."""


def reserved_names(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Whether a name is one of these in any case; a pattern with `*` at its end stands for all that begin so."""
    folded = [pattern.casefold() for pattern in patterns]
    names = frozenset(folded)
    beginnings = tuple(pattern[:-1] for pattern in folded if pattern.endswith("*"))

    def is_reserved(name: str) -> bool:
        name = name.casefold()
        return name in names or name.startswith(beginnings)

    return is_reserved


class Kit:
    """The tools of one turn by the names that the model calls them by.

    `gates` are the names of tools that a person is asked about. A gate whose tool its source has no more covers every
    tool of that source, for it may go by another name now; one that names no tool at all covers all that others than
    the operator name, unless the name is `reserved` and so nobody else's. Such gates are `unmatched`.
    `missing` says which sources are away.
    """

    def __init__(
        self, tools: Iterable[Tool], gates: Sequence[str] = (), reserved: Callable[[str], bool] = lambda name: False
    ) -> None:
        self.tools: dict[str, Tool] = {}
        self.missing = ""
        self._reserved = reserved
        for tool in sorted(tools, key=lambda tool: tool.foreign):
            if tool.foreign and tool.name in self.tools:
                free = (name for name in tool.spare if name not in self.tools and not reserved(name))
                tool.name = next(free, tool.name)
            self.tools.setdefault(tool.name, tool)
        self._gated = {tool.name for tool in self.tools.values() if tool.confirm}
        known = [(tool, tool.names) for tool in self.tools.values()] if gates else []
        self.unmatched = [
            gate for gate in gates if not self._close(gate, [tool for tool, names in known if gate in names])
        ]
        self._gates = frozenset(gates)

    @property
    def offered(self) -> list[Tool]:
        """The tools that the model is told of."""
        return [tool for tool in self.tools.values() if not tool.away]

    def find(self, name: str) -> Tool | None:
        """The tool that a call means: the one of this name, or that its source alone calls so."""
        if (found := self.tools.get(name)) is not None or self._reserved(name):
            return found
        known = [tool for tool in self.tools.values() if tool.foreign and name in tool.names]
        if len({tool.source for tool in known}) > 1:  # one may be called so to get what is meant for another
            return None
        return next((tool for tool in known if not tool.away), next(iter(known), None))

    def asks(self, name: str) -> bool:
        """Whether a person is asked about a call of this name."""
        tool = self.find(name)
        return name in self._gates or (tool is not None and tool.name in self._gated)

    def absent(self, name: str) -> str:
        """What a model is told that calls a tool which is not there, where that may be since a source is away."""
        return f"No tool '{name}' can be reached at the moment. {self.missing}" if self.missing else ""

    def _close(self, gate: str, named: Sequence[Tool]) -> bool:
        """Has a person asked about what a gate covers that names these tools; whether they are there or away."""
        sources = {tool.source for tool in named if tool.gone}
        if not named and not self._reserved(gate):
            sources = {tool.source for tool in self.tools.values() if tool.foreign}
        self._gated |= {tool.name for tool in named}
        self._gated |= {tool.name for tool in self.tools.values() if tool.source in sources}
        return bool(named) and not sources


def unmatched(gates: Sequence[str]) -> Notice:
    """What is told of gates that match no tool, or one that its source has no more."""
    names = ", ".join(f"'{gate}'" for gate in gates)
    words = f"confirm_before names {names}, and the agent has no such tool"
    closed = "until that changes, a person is asked about every tool that may go by another name now"
    return Notice(code="gate_unmatched", message=f"{words}: {closed}", names=tuple(gates))


async def run_tool(
    tool: Tool | None, wanted: ToolCall, call: Call, *, seconds: float, limit: int, absent: str = ""
) -> Outcome:
    """Runs one call to its outcome, whatever happens in it; `limit` is in bytes, `seconds` the engine's own limit.

    `absent` is what the model is told where there is no such tool.
    """
    if tool is None:
        return Outcome(absent or f"There is no tool named '{wanted.tool}'", True)
    if wanted.malformed is not None:
        return Outcome(f"The arguments are not a JSON object: {wanted.malformed[:200]}", True)
    if tool.timeout is not None:
        seconds = tool.timeout
    more: Result | None = None
    try:
        with uncancelled(), anyio.move_on_after(seconds) as scope:
            result = await tool.run(call, wanted.input)
        if scope.cancelled_caught:
            return Outcome(f"'{wanted.tool}' did not finish within {seconds:g} s", True)
        if isinstance(result, Result):
            text, more = result.text, result
        else:
            text = result if isinstance(result, str) else msgspec.json.encode(result).decode()
    except ToolError as error:
        return _capped(str(error), True, limit, call.call_id)
    except Exception:
        log.exception("tool %s failed", wanted.tool)
        return Outcome(f"'{wanted.tool}' failed because of a fault of its own", True)
    outcome = _capped(text, False, limit, call.call_id)
    if more is None:
        return outcome
    return outcome._replace(attachments=more.attachments, events=more.events, ends_turn=more.ends_turn)


def _capped(text: str, has_error: bool, limit: int, call_id: str) -> Outcome:
    raw = text.encode("utf-8", "replace")
    if len(raw) <= limit:
        return Outcome(raw.decode(), has_error)
    shown = raw[:limit].decode("utf-8", "ignore")
    whole = raw[:MOST_KEPT].decode("utf-8", "ignore")
    rest = f"[cut: {len(shown)} of {len(whole)} characters; go on with read_result, call_id {call_id}]"
    return Outcome(f"{shown}\n{rest}", has_error, whole)
