"""Tools and sources of tools, as plugin authors write them."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, get_args, get_type_hints, overload
from urllib.parse import quote

import msgspec
from msgspec import Struct

from bytebrew.base.errors import ToolError
from bytebrew.contract.connection import Connection
from bytebrew.contract.entities import Agent
from bytebrew.contract.events import Event, Notice, Risk
from bytebrew.contract.messages import Attachment, ToolSpec


class Call(Struct, frozen=True, kw_only=True):
    """The tool call; `subject` is the actor's, for a spawned agent that of the root turn.

    `headers` are those of the chat request, in lower case; they are not stored, but sealed while the message waits for
    another node. A tool forwards only those that its operator has listed. `traceparent` (W3C Trace Context) goes with
    what the tool sends to other systems, unless it is empty: it names the call's own span, or while no plugin makes
    traces the span that the chat request came with.

    `resume_state` is what the call saved with `Engine.ask`, if a stop of the engine interrupted it while it waited for
    a person: it then goes on from there, by the same questions.
    """

    call_id: str
    session_id: str
    turn_id: str
    schema: str
    agent: str
    subject: str
    headers: Mapping[str, str] = {}
    traceparent: str = ""
    resume_state: str = ""

    @property
    def key(self) -> str:
        """An idempotency key, `turn_id:call_id` in printable ASCII: the same if the call is run again.

        It includes the turn because many vendors number the calls of each request from zero.
        """
        return f"{self.turn_id}:{quote(self.call_id, safe=':')}"


class Question(Struct, frozen=True, kw_only=True):
    """What the source of a running tool call wants to know from a person; see `Engine.ask`.

    `message` and the texts of `fields` are shown as the words of that source. `fields` is the JSON Schema of an object
    whose properties are texts, numbers, booleans and choices, as in an elicitation of MCP. A `url` is where the person
    is to go, shown as a link with its `host`; the answer then has no content.
    """

    message: str
    fields: dict[str, Any] | None = None
    url: str = ""
    host: str = ""


class QuestionAnswer(Struct, frozen=True, kw_only=True):
    """A person's answer, with the content that is valid against the question's fields; cancel is none in time."""

    action: Literal["accept", "decline", "cancel"]
    content: Mapping[str, Any] = {}


class Result(Struct, frozen=True, kw_only=True):
    """A tool's result with attachments and events.

    `attachments` are sent to models that can see them, `events` to the client; with `ends_turn` the model is not called
    again, and the text so far is the answer.
    """

    text: str
    attachments: tuple[Attachment, ...] = ()
    events: tuple[Event, ...] = ()
    ends_turn: bool = False


class Tool:
    """A function that a model may call.

    `timeout` is in seconds; None is the engine's own limit. If a crash leaves the outcome of an `idempotent` call
    unknown, it is run again. With `confirm` a person confirms every call. `risk` and `source` are shown to operators.

    `names` are all names by which `confirm_before` may mean the tool. A `foreign` tool has a name that an external
    server chose, such as an MCP server: if it is in use already, the tool gets the first free name of `spare`. A tool
    with `away` set is not offered to the model, and calls of it return that text; it is `gone` if its source is
    reachable and no longer has it.

    `events` are the types of the events in its results, for the API document.
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
        """Alternative names for the model, the preferred first."""
        return ()

    @property
    def names(self) -> frozenset[str]:
        """The model's name for the tool, and its name within its source."""
        return frozenset((self.name, f"{self.source}/{self.name}"))

    async def run(self, call: Call, input: dict[str, Any]) -> Any:
        """The result: text or a Result is used unchanged, other values are encoded as JSON.

        The message of a ToolError is sent to the model.
        """
        raise NotImplementedError

    def spec(self) -> ToolSpec:
        """The description of the tool that is sent to a model."""
        return ToolSpec(self.name, self.description, self.input_schema)


class Toolset:
    """A source of tools that depend on the agent.

    `lists` are the lists of an agent (`tools`, `can_spawn`, `capabilities`, and those that plugins declare) that name
    tools of this source: if all are empty the source is skipped; `tools` counts only if it names something that no
    plugin registers. `reserves` are the names that its tools may have, with `*` at the end as a wildcard; no foreign
    tool gets such a name. If its tools are foreign, `foreign` is what an agent's warnings call their sources, such as
    `its boards`.
    """

    lists: ClassVar[tuple[str, ...]] = ()
    foreign: ClassVar[str] = ""
    reserves: ClassVar[tuple[str, ...]] = ()
    events: ClassVar[tuple[type[Event], ...]] = ()

    async def all(self) -> Sequence[Tool]:
        """Every tool of this source, for lists shown to people."""
        return ()

    async def ready(self, agent: Agent) -> AsyncIterator[Notice]:
        """Waits until the agent's tools are usable, up to a limit; yields a notice for each wait and each missing tool.

        Notices with the code `tools_missing` are sent to the model too.
        """
        nothing: tuple[Notice, ...] = ()
        for notice in nothing:
            yield notice

    async def tools(self, agent: Agent) -> Sequence[Tool]:
        """The tools of this source that an agent has."""
        raise NotImplementedError

    def has(self, conn: Connection, name: str) -> bool:
        """Whether this source may have a tool that an agent lists in `tools`.

        A name that no source has becomes a warning of the agent. By default True for a source whose `lists` include
        `tools`.
        """
        return not self.lists or "tools" in self.lists

    def knows(self, conn: Connection, agent: Agent, gate: str) -> bool:
        """Whether a name in the agent's `confirm_before` belongs to a tool that this source has or had."""
        return not self.reserves or gate in self.reserves

    def missing(self, conn: Connection, agent: Agent) -> Iterable[str]:
        """Warnings of the agent: names of this source that the source does not have, one sentence each."""
        return ()


class FunctionTool(Tool):
    """A typed async function as a tool; arguments are validated against its signature."""

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

    The model sees its name, docstring and annotated parameters, except one of type Call, which the engine passes. Use
    it bare or as `@tool(timeout=5, idempotent=True)`; the options are those of `Tool`.
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
    """The output of a call as sent to the model; `whole` is the whole output if `output` was truncated."""

    output: str
    has_error: bool
    whole: str | None = None
    attachments: tuple[Attachment, ...] = ()
    events: tuple[Event, ...] = ()
    ends_turn: bool = False
