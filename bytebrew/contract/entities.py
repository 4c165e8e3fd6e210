"""The operator's configuration: models, agents, schemas, and the rules of their fields."""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

from bytebrew.base.urls import Url
from bytebrew.contract.auth import View
from bytebrew.contract.connection import Connection
from bytebrew.contract.messages import ResponseFormat

T = TypeVar("T")
LIVE = "live"
Live = Annotated[T, Meta(extra={LIVE: True}, extra_json_schema={"readOnly": True})]
"""The type of a field that changes by itself: a PUT may send an older value back."""
Name = Annotated[
    str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,254}\Z", description="lower-case letters, digits, dots, dashes")
]
SchemaName = Annotated[
    str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z", description="a DNS label (RFC 1123)")
]
Text = Annotated[str, Meta(max_length=200_000)]
Title = Annotated[str, Meta(max_length=1000)]
Secret = Annotated[str, Meta(max_length=8000)]
Names = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=255)], ...], Meta(max_length=500)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
TopP = Annotated[float, Meta(ge=0, le=1)]
MaxTokens = Annotated[int, Meta(ge=1, le=10_000_000)]
StopSequences = Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=200)], ...], Meta(max_length=16)]
MaxSteps = Annotated[int, Meta(ge=1, le=500, description="model calls in one turn")]
MaxContext = Annotated[int, Meta(ge=1_000, le=200_000, description="tokens of context")]
MaxDuration = Annotated[int, Meta(ge=1, le=86_400, description="seconds for one turn")]
SummaryKeep = Annotated[
    int, Meta(ge=0, le=1000, description="newest turns that no summary replaces while the context holds them")
]
Lifecycle = Literal["persistent", "spawn"]
Approvals = Literal["text", "client_tool"]
ToolExecution = Literal["sequential", "parallel"]
ModelKind = Literal["chat", "embedding"]
Dimensions = Annotated[int, Meta(ge=1, le=65536)]
Dollars = Annotated[float, Meta(ge=0, le=1_000_000, description="US dollars for a million tokens")]
Fallback = Annotated[tuple[Name, ...], Meta(max_length=10)]
TaskTitle = Annotated[str, Meta(min_length=1, max_length=256)]
TaskText = Annotated[str, Meta(max_length=8192)]
Priority = Annotated[Literal[0, 1, 2], Meta(description="0 normal, 1 high, 2 critical")]
Criteria = Annotated[tuple[Annotated[str, Meta(max_length=512)], ...], Meta(max_length=64)]
Blockers = Annotated[tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=32)]
TaskStatus = Literal["draft", "approved", "pending", "in_progress", "needs_input", "completed", "failed", "cancelled"]
TaskSource = Literal["api", "agent", "dashboard", "schedule", "webhook"]


class NewModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model to create; `is_default` makes it the model of agents that name none.

    `fallback` names models that answer in its place while it cannot; prices that are left out are the catalog's.
    """

    name: Name
    type: Annotated[str, Meta(min_length=1, max_length=64)]
    model_name: Annotated[str, Meta(min_length=1, max_length=255)]
    base_url: Url = ""
    api_key: Secret | None = ""
    api_version: Annotated[str, Meta(max_length=64)] = ""
    kind: ModelKind = "chat"
    embedding_dim: Dimensions | None = None
    pricing_input: Dollars | None = None
    pricing_output: Dollars | None = None
    fallback: Fallback = ()
    is_default: bool = False


class ModelPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes to a model: what is left out stays, and so does the key when `api_key` is empty; null removes it."""

    name: Name | UnsetType = UNSET
    type: Annotated[str, Meta(min_length=1, max_length=64)] | UnsetType = UNSET
    model_name: Annotated[str, Meta(min_length=1, max_length=255)] | UnsetType = UNSET
    base_url: Url | UnsetType = UNSET
    api_key: Secret | UnsetType | None = UNSET
    api_version: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET
    kind: ModelKind | UnsetType = UNSET
    embedding_dim: Dimensions | UnsetType | None = UNSET
    pricing_input: Dollars | UnsetType | None = UNSET
    pricing_output: Dollars | UnsetType | None = UNSET
    fallback: Fallback | UnsetType = UNSET
    is_default: bool | UnsetType = UNSET


class Model(Struct, frozen=True, kw_only=True):
    """A configured LLM; its key is kept sealed and never leaves the engine."""

    id: int
    name: str
    type: str
    base_url: str
    model_name: str
    api_version: str
    kind: ModelKind
    embedding_dim: int | None
    pricing_input: float | None
    pricing_output: float | None
    fallback: tuple[str, ...]
    has_api_key: bool
    is_default: bool
    created_at: str
    updated_at: Live[str]


class NewAgent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An agent to create; without `model` it uses the default model.

    A summary of older turns, where not all fit the context, is made by `summary_model`, or by its own model.
    """

    name: Name
    description: Text = ""
    model: Name | None = None
    system: Text = ""
    lifecycle: Lifecycle = "persistent"
    tool_execution: ToolExecution = "sequential"
    max_steps: MaxSteps = 50
    max_context_size: MaxContext = 16_000
    max_turn_duration: MaxDuration = 120
    temperature: Temperature | None = None
    top_p: TopP | None = None
    max_tokens: MaxTokens | None = None
    stop_sequences: StopSequences = ()
    response_format: ResponseFormat | None = None
    summary_keep: SummaryKeep = 0
    summary_model: Name | None = None
    tools: Names = ()
    confirm_before: Names = ()
    can_spawn: Annotated[tuple[Name, ...], Meta(max_length=100)] = ()


class AgentPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes to an agent; what is left out stays."""

    name: Name | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    model: Name | UnsetType | None = UNSET
    system: Text | UnsetType = UNSET
    lifecycle: Lifecycle | UnsetType = UNSET
    tool_execution: ToolExecution | UnsetType = UNSET
    max_steps: MaxSteps | UnsetType = UNSET
    max_context_size: MaxContext | UnsetType = UNSET
    max_turn_duration: MaxDuration | UnsetType = UNSET
    temperature: Temperature | UnsetType | None = UNSET
    top_p: TopP | UnsetType | None = UNSET
    max_tokens: MaxTokens | UnsetType | None = UNSET
    stop_sequences: StopSequences | UnsetType = UNSET
    response_format: ResponseFormat | UnsetType | None = UNSET
    summary_keep: SummaryKeep | UnsetType = UNSET
    summary_model: Name | UnsetType | None = UNSET
    tools: Names | UnsetType = UNSET
    confirm_before: Names | UnsetType = UNSET
    can_spawn: Annotated[tuple[Name, ...], Meta(max_length=100)] | UnsetType = UNSET


class CapabilityType(Struct, frozen=True, kw_only=True):
    """A type of capabilities; `config` is the struct of its settings, with a default for every field.

    `check` raises InvalidRequest, its details with paths such as `$.config.model`, if a config contradicts stored data.
    `flag` names a field of an agent over REST that shows whether the agent has it enabled.
    """

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    config: type[Struct]
    flag: str = ""
    check: Callable[[Connection, Any], None] | None = None


class NewCapability(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A capability to give to an agent; what `config` leaves out is the default of its type."""

    type: str
    config: dict[str, Any] = {}
    enabled: bool = True


class CapabilityPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes to a capability; what is left out stays, within `config` too."""

    type: str | UnsetType = UNSET
    config: dict[str, Any] | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class Capability(Struct, frozen=True, kw_only=True):
    """A feature of an agent in addition to its tools; `config` has all fields of its type."""

    id: str
    type: str
    config: dict[str, Any]
    enabled: bool


class Agent(Struct, frozen=True, kw_only=True):
    """An agent at run time; `model` is the name of its own model or of the default one.

    `lists` are its lists that plugins declare, by name. `version` is the number of its newest version.
    """

    id: str
    name: str
    description: str
    model: str | None
    system: str
    lifecycle: Lifecycle
    tool_execution: ToolExecution
    max_steps: int
    max_context_size: int
    max_turn_duration: int
    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    stop_sequences: tuple[str, ...]
    response_format: ResponseFormat | None
    summary_keep: int
    summary_model: str | None
    tools: tuple[str, ...]
    confirm_before: tuple[str, ...]
    can_spawn: tuple[str, ...]
    lists: Mapping[str, tuple[str, ...]]
    created_at: str
    updated_at: Live[str]
    capabilities: tuple[Capability, ...] = ()
    version: int = 0

    def capability(self, type: str) -> Capability | None:
        """Its capability of a type, if enabled."""
        for one in self.capabilities:
            if one.type == type and one.enabled:
                return one
        return None


_AGENT_FIELDS = {*Agent.__struct_fields__, "system_prompt", "tools_count", "warnings", "model_id", "model_name"}


class AgentList(Struct, frozen=True, kw_only=True):
    """A list of at most `most` names that an agent has for a toolset.

    `name` is its field over REST and in the configuration file, and its column in the database.
    """

    name: str
    description: str = ""
    most: int = 100

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", self.name) or self.name in _AGENT_FIELDS:
            raise ValueError(f"'{self.name}' cannot be a list of an agent: write another name, such as mail_boxes")
        if self.most < 1:
            raise ValueError(f"the list '{self.name}' may have {self.most} names: let it have one or more")


class NewTask(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A task to create; `blocked_by` are tasks that must be completed first.

    A `background` task is taken by the engine's workers, an `interactive` one by whoever starts it by hand. With
    `require_approval` it is a draft until it is approved. `schema` is whose memory and delegations count, and then has
    the agent. `callback_url` is sent a signed `task.ended` when it has ended, and takes the scope `tasks:callback`.
    """

    agent: Name
    title: TaskTitle
    description: TaskText = ""
    schema: Annotated[str, Meta(max_length=63)] = ""
    mode: Literal["background", "interactive"] = "background"
    priority: Priority = 0
    acceptance_criteria: Criteria = ()
    blocked_by: Blockers = ()
    parent_task_id: Annotated[str, Meta(max_length=64)] | None = None
    require_approval: bool = False
    callback_url: Url = ""


class TaskPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes to a task that has not ended; what is left out stays, and so does the agent once the task has begun.

    A change to what a person has approved takes the task back to draft.
    """

    agent: Name | UnsetType = UNSET
    title: TaskTitle | UnsetType = UNSET
    description: TaskText | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET
    acceptance_criteria: Criteria | UnsetType = UNSET
    blocked_by: Blockers | UnsetType = UNSET


class Task(Struct, frozen=True, kw_only=True):
    """A task; `result` and `error` say how it ended, `session_id` is where it is worked on.

    It needs input while questions of its session wait, first that of `confirmation_id`. `agent_name` is `agent`.
    `digest` is over what a person approves: title, description, criteria, agent, schema, mode, blockers. A task that is
    or was to be approved shows invisible characters as `[U+202E]`. `cost_usd` is of the turns of a background task.
    """

    id: str
    title: str
    description: str
    agent: str
    agent_name: str
    schema: str
    status: TaskStatus
    source: TaskSource
    mode: Literal["background", "interactive"]
    priority: Priority
    acceptance_criteria: tuple[str, ...]
    blocked_by: tuple[str, ...]
    parent_task_id: str | None
    callback_url: str
    digest: str
    session_id: str
    result: str | None
    error: str | None
    attempts: Live[int]
    cost_usd: Live[float | None]
    confirmation_id: Live[str | None]
    created_at: str
    approved_at: str | None
    started_at: str | None
    completed_at: str | None


class NewRelation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A delegation between two agents of a schema, by name or id."""

    source: Annotated[str, Meta(min_length=1, max_length=255)]
    target: Annotated[str, Meta(min_length=1, max_length=255)]
    config: dict[str, Any] = {}


class Relation(Struct, frozen=True, kw_only=True):
    """A delegation between two agents of a schema, by name."""

    id: str
    schema_id: str
    source: str
    target: str
    config: dict[str, Any]


class NewSchema(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A schema to create; `entry_agent` is an agent's name or id.

    With `client_tools` a chat may declare tools that its client runs. With the `view` "public" chats show answers only,
    but to admins. `approvals` is how a question to a person reaches a client whose protocol has no place for one: as
    `text`, or as a call of the `client_tool` approve_tool_call.
    """

    name: SchemaName
    description: Text = ""
    entry_agent: str = ""
    chat_enabled: bool = False
    client_tools: bool = False
    view: View = "full"
    approvals: Approvals = "text"
    relations: Annotated[tuple[NewRelation, ...], Meta(max_length=500)] = ()


class SchemaPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes to a schema; what is left out stays, `relations` replaces all of them."""

    name: SchemaName | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    entry_agent: str | UnsetType = UNSET
    chat_enabled: bool | UnsetType = UNSET
    client_tools: bool | UnsetType = UNSET
    view: View | UnsetType = UNSET
    approvals: Approvals | UnsetType = UNSET
    relations: Annotated[tuple[NewRelation, ...], Meta(max_length=500)] | UnsetType = UNSET


class Schema(Struct, frozen=True, kw_only=True):
    """The public face of an entry agent; `agents` are the entry agent and both ends of every relation."""

    id: str
    name: str
    description: str
    entry_agent: str
    entry_agent_name: str
    entry_agent_id: str
    agents: tuple[str, ...]
    agents_count: int
    relations: tuple[Relation, ...]
    chat_enabled: bool
    client_tools: bool
    view: View
    approvals: Approvals
    chat_last_fired_at: Live[str | None]
    created_at: str
