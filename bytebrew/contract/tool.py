"""Tools: what an author writes, and how one call of a tool runs."""

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple, get_args, get_type_hints, overload
from urllib.parse import quote

import anyio
import msgspec
from msgspec import Struct

from bytebrew.base.errors import ToolError
from bytebrew.contract.connection import Connection
from bytebrew.contract.entities import Agent
from bytebrew.contract.events import Event, Notice, Risk
from bytebrew.contract.messages import Attachment, ToolCall, ToolSpec

log = logging.getLogger(__name__)

MOST_KEPT = 8 * 1024 * 1024
"""Bytes that are kept of a tool's output."""


class Call(Struct, frozen=True, kw_only=True):
    """What a tool is told of the call that it serves; `subject` is whom the turn is for.

    `headers` are those of the chat request, in lower case and in memory alone: of them a tool passes on what its
    operator has named.
    """

    call_id: str
    session_id: str
    turn_id: str
    schema: str
    agent: str
    subject: str
    headers: Mapping[str, str] = {}

    @property
    def key(self) -> str:
        """`turn_id:call_id`, printable ASCII: the same whenever this call is run again, and of no other call.

        The turn is in it since many vendors number the calls of each conversation anew.
        """
        return f"{self.turn_id}:{quote(self.call_id, safe=':')}"


class Result(Struct, frozen=True, kw_only=True):
    """A tool's result with what else comes of it.

    `attachments` are shown to models that can see them, `events` to the client; with `ends_turn` the model is not
    called again: its text so far is the answer.
    """

    text: str
    attachments: tuple[Attachment, ...] = ()
    events: tuple[Event, ...] = ()
    ends_turn: bool = False


class SpawnLimits(Struct, frozen=True, kw_only=True):
    """How many levels below the root a turn may lie, and how many a turn may spawn, itself and with all below it."""

    depth: int
    children: int
    total: int


class Tool:
    """Something that a model may run.

    `timeout` is in seconds, None being the engine's own limit. `idempotent` says that a call whose outcome is unknown
    after a crash may simply run again, `confirm` that a person is asked before every call. `risk` and `source` are what
    operators are told of it.

    A tool is one of its source, by the name that it has there: `names` are all by which `confirm_before` may name it. A
    `foreign` one is named by others than the operator, as an MCP server names its tools: where its name is taken it has
    the first of `spare` that is not. What is `away` is not offered to the model, which is told these words when it
    calls it all the same; it is `gone` where its source is there and has it no more.

    `events` are the kinds of events that its results bring along: the API document has them.
    """

    name: str
    description: str
    input_schema: dict[str, Any]
    timeout: float | None = None
    idempotent: bool = False
    confirm: bool = False
    risk: Risk = "safe"
    source: str = "built-in"
    foreign: bool = False
    away: str = ""
    gone: bool = False
    events: tuple[type[Event], ...] = ()

    @property
    def spare(self) -> tuple[str, ...]:
        """Further names for the model, the best first."""
        return ()

    @property
    def names(self) -> frozenset[str]:
        """The names by which it is known: the model's, and its own within its source."""
        return frozenset((self.name, f"{self.source}/{self.name}"))

    async def run(self, call: Call, input: dict[str, Any]) -> Any:
        """The result: text or a Result as it is, anything else as JSON.

        Raises ToolError to tell the model what went wrong.
        """
        raise NotImplementedError

    def spec(self) -> ToolSpec:
        """The tool as a model is told of it."""
        return ToolSpec(self.name, self.description, self.input_schema)


class Toolset:
    """A source of tools that depend on the agent.

    `lists` are those of the agent's lists (`tools`, `can_spawn`, `mcp_servers`, `capabilities`) that name this source's
    tools: where all of them are empty it is not asked; `tools` counts only while it names something that no plugin
    registers. `reserves` are the names that its tools may have, with `*` at the end for all that begin so: no tool from
    outside has one of them, in any agent.
    """

    lists: ClassVar[tuple[str, ...]] = ()
    reserves: ClassVar[tuple[str, ...]] = ()
    events: ClassVar[tuple[type[Event], ...]] = ()

    async def all(self) -> Sequence[Tool]:
        """Every tool from here, for people to look at."""
        return ()

    async def ready(self, agent: Agent) -> AsyncIterator[Notice]:
        """Waits for what the agent's tools from here need, as long as that is worth it; says what for, and what lacks.

        What is said of missing tools (`tools_missing`) the model is told too.
        """
        nothing: tuple[Notice, ...] = ()
        for notice in nothing:
            yield notice

    async def tools(self, agent: Agent) -> Sequence[Tool]:
        """The tools that this agent has from here."""
        raise NotImplementedError

    def has(self, conn: Connection, name: str) -> bool:
        """Whether there may be a tool of this name from here for an agent that has it in `tools`.

        Where no source has one, who saves the agent is warned. One that is asked about `tools` and does not say may.
        """
        return not self.lists or "tools" in self.lists

    def knows(self, conn: Connection, agent: Agent, gate: str) -> bool:
        """Whether a name in the agent's `confirm_before` is that of a tool that it has from here, or once had."""
        return not self.reserves or gate in self.reserves

    def missing(self, conn: Connection, agent: Agent) -> Iterable[str]:
        """What the agent names of this source and the source does not have, a sentence each: its `warnings`."""
        return ()


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


class FunctionTool(Tool):
    """A typed async function as a tool; its arguments are checked against its signature."""

    def __init__(
        self,
        function: Callable[..., Awaitable[Any]],
        *,
        timeout: float | None,
        idempotent: bool,
        confirm: bool = False,
        risk: Risk = "safe",
    ) -> None:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"{function.__qualname__} must be an async function to be a tool")
        if risk not in get_args(Risk):
            raise TypeError(f"{function.__qualname__}: a risk is one of {', '.join(get_args(Risk))}, not {risk!r}")
        hints = get_type_hints(function, include_extras=True)
        parameters = inspect.signature(function).parameters.values()
        fields: list[Any] = []
        for parameter in parameters:
            if parameter.name not in hints:
                raise TypeError(f"{function.__qualname__}: annotate the parameter '{parameter.name}'")
            if hints[parameter.name] is Call:
                continue
            default = () if parameter.default is parameter.empty else (parameter.default,)
            fields.append((parameter.name, hints[parameter.name], *default))
        self.name = function.__name__
        self.description = inspect.getdoc(function) or ""
        self.timeout = timeout
        self.idempotent = idempotent
        self.confirm = confirm
        self.risk = risk
        self.__wrapped__ = function
        self._call_parameter = next((p.name for p in parameters if hints[p.name] is Call), None)
        self._arguments = msgspec.defstruct(function.__name__, fields, kw_only=True, forbid_unknown_fields=True)
        self.input_schema = input_schema(self._arguments)

    async def run(self, call: Call, input: dict[str, Any]) -> Any:
        try:
            arguments = msgspec.convert(input, self._arguments, strict=False)
        except msgspec.ValidationError as error:
            raise ToolError(f"The arguments do not fit: {error}") from error
        given = {name: getattr(arguments, name) for name in self._arguments.__struct_fields__}
        if self._call_parameter is not None:
            given[self._call_parameter] = call
        return await self.__wrapped__(**given)


@overload
def tool(function: Callable[..., Awaitable[Any]]) -> FunctionTool: ...


@overload
def tool(
    *, timeout: float | None = None, idempotent: bool = False, confirm: bool = False, risk: Risk = "safe"
) -> Callable[[Callable[..., Awaitable[Any]]], FunctionTool]: ...


def tool(
    function: Callable[..., Awaitable[Any]] | None = None,
    *,
    timeout: float | None = None,
    idempotent: bool = False,
    confirm: bool = False,
    risk: Risk = "safe",
) -> FunctionTool | Callable[[Callable[..., Awaitable[Any]]], FunctionTool]:
    """Makes a tool of a typed async function.

    Its name, docstring and annotated parameters are what the model is told; a parameter of type Call is filled by the
    engine. Use it bare or as `@tool(timeout=5, idempotent=True)`; the options are those of `Tool`.
    """

    def make(function: Callable[..., Awaitable[Any]]) -> FunctionTool:
        return FunctionTool(function, timeout=timeout, idempotent=idempotent, confirm=confirm, risk=risk)

    return make if function is None else make(function)


def input_schema(kind: type[Struct]) -> dict[str, Any]:
    """The JSON Schema of a struct of arguments."""
    whole = msgspec.json.schema(kind)
    definitions = whole["$defs"]
    schema: dict[str, Any] = definitions.pop(whole["$ref"].rpartition("/")[2])
    schema.pop("title", None)
    return {**schema, "$defs": definitions} if definitions else schema


def unmatched(gates: Sequence[str]) -> Notice:
    """What is told of gates that match no tool, or one that its source has no more."""
    names = ", ".join(f"'{gate}'" for gate in gates)
    words = f"confirm_before names {names}, and the agent has no such tool"
    closed = "until that changes, a person is asked about every tool that may go by another name now"
    return Notice(code="gate_unmatched", message=f"{words}: {closed}", names=tuple(gates))


class Outcome(NamedTuple):
    """What the model is told of a call; `whole` is the output where that is only its beginning."""

    output: str
    has_error: bool
    whole: str | None = None
    attachments: tuple[Attachment, ...] = ()
    events: tuple[Event, ...] = ()
    ends_turn: bool = False


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


def _capped(text: str, has_error: bool, limit: int, call_id: str) -> Outcome:
    raw = text.encode("utf-8", "replace")
    if len(raw) <= limit:
        return Outcome(raw.decode(), has_error)
    shown = raw[:limit].decode("utf-8", "ignore")
    whole = raw[:MOST_KEPT].decode("utf-8", "ignore")
    rest = f"[cut: {len(shown)} of {len(whole)} characters; go on with read_result, call_id {call_id}]"
    return Outcome(f"{shown}\n{rest}", has_error, whole)
