"""Tools: what an author writes."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, get_args, get_type_hints, overload
from urllib.parse import quote

import msgspec
from msgspec import Struct

from bytebrew.base.errors import ToolError
from bytebrew.contract.connection import Connection
from bytebrew.contract.entities import Agent
from bytebrew.contract.events import Event, Notice, Risk
from bytebrew.contract.messages import Attachment, ToolSpec


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


class Outcome(NamedTuple):
    """What the model is told of a call; `whole` is the output where that is only its beginning."""

    output: str
    has_error: bool
    whole: str | None = None
    attachments: tuple[Attachment, ...] = ()
    events: tuple[Event, ...] = ()
    ends_turn: bool = False
