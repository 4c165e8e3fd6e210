"""What a plugin may use of the engine that runs it, and of a turn that it observes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Concatenate, Generic, Literal, NamedTuple, ParamSpec, Protocol, TypeVar

from bytebrew.base.errors import EngineError
from bytebrew.base.http_client.client import Http
from bytebrew.base.secrets import Secrets
from bytebrew.base.settings import Settings
from bytebrew.contract.auth import Actor, Scopes
from bytebrew.contract.catalog import CatalogModel, CatalogProvider
from bytebrew.contract.connection import Connection
from bytebrew.contract.entities import Agent, NewTask, Task, TaskPatch, TaskSource, TaskStatus
from bytebrew.contract.messages import Usage
from bytebrew.contract.provider import Provider, Target
from bytebrew.contract.tool import Call, SpawnLimits, Tool, Toolset

P = ParamSpec("P")
T = TypeVar("T")


class StateKey(Generic[T]):
    """The typed key of what a plugin keeps for each engine, in `engine.state`; keys are equal only to themselves."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"StateKey({self.name!r})"


class State(Protocol):
    """What plugins keep for one engine, each under its own `StateKey`."""

    def __getitem__(self, key: StateKey[T]) -> T:
        """The value of a key; KeyError if it was not set."""

    def __setitem__(self, key: StateKey[T], value: T) -> None:
        """Sets the value of a key."""

    def __contains__(self, key: StateKey[Any]) -> bool:
        """Whether a key has a value."""


class Database(Protocol):
    """The engine's database; work is a plain function of a `Connection`, which runs in a thread of the database."""

    @property
    def commits(self) -> int:
        """Transactions committed since the start."""

    @property
    def committed_works(self) -> int:
        """Pieces of work in those transactions."""

    @property
    def committed_rows(self) -> int:
        """Events in those transactions."""

    async def read(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of work that reads few rows, in one snapshot of the database."""

    async def glance(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of work of one query, without a transaction."""

    async def scan(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of work that lists, counts or exports; TooSlow for a statement that takes over 5 seconds."""

    async def write(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of work that changes rows, once its transaction is committed."""


class Models(Protocol):
    """The configured models."""

    async def embed(self, target: Target, texts: Sequence[str], *, seconds: float) -> list[list[float]]:
        """A vector for each text, in order; if that fails, ProviderError with the key masked in its message."""


class Tasks(Protocol):
    """Background tasks.

    An `actor` of None stands for a caller who is known to be allowed to see the task.
    """

    def add(
        self,
        conn: Connection,
        new: NewTask,
        owner: str,
        source: TaskSource,
        *,
        task_id: str = "",
        made_in: str | None = None,
    ) -> Task:
        """Stores a task of the owner's within a transaction; returns the existing task if `task_id` exists.

        `made_in` is the session whose agent makes it, in which an interactive task is worked on.
        """

    def check(self, conn: Connection, agent: str, schema: str) -> None:
        """Raises Unprocessable unless the agent exists, and belongs to the schema if one is named."""

    def wake(self) -> None:
        """Has the workers look for tasks; call it after the commit that added one."""

    async def of_session(self, session_id: str) -> list[Task]:
        """The tasks that are worked on in a session or were made by its agent, oldest first."""

    async def ready(self, session_id: str) -> list[Task]:
        """The pending tasks of a session without an open blocker, the most urgent first."""

    async def at_hand(self, turn_id: str) -> Task | None:
        """The task that is worked on in a turn, or in a turn above it that spawned its agent."""

    async def update(self, task_id: str, actor: Actor | None, patch: TaskPatch, *, by: str = "") -> Task:
        """Merges a patch into a task, as the agent `by`; an approved task becomes a draft. Conflict after its end."""

    async def assign(self, task_id: str, actor: Actor | None, agent: str, *, by: str) -> Task:
        """Gives a task to another agent, to do in the background; an approved task becomes a draft."""

    async def cancel(self, task_id: str, actor: Actor | None, reason: str = "") -> None:
        """Cancels a task, those below it, and the turns in which they are worked on."""

    async def move(
        self, task_id: str, actor: Actor | None, status: TaskStatus, result: str | None = None, *, within: str = ""
    ) -> Task:
        """Takes a task to another status and cancels the turn that works on it, unless that is `within`."""


class ModelCall(NamedTuple):
    """A model call that has ended, well or not; a fallback that answered counts as the model."""

    provider: str
    model: str
    seconds: float


class Turn(Protocol):
    """One user message on its way to done, as observers see it; nothing of it is to be changed."""

    @property
    def id(self) -> str:
        """The turn's id."""

    @property
    def session_id(self) -> str:
        """The session that the message belongs to."""

    @property
    def subject(self) -> str:
        """The actor's subject, that of the person for a spawned agent too."""

    @property
    def agent(self) -> Agent:
        """The agent that answers."""

    @property
    def message(self) -> str:
        """The user's message, or that of the agent that spawned this one."""

    @property
    def status(self) -> Literal["queued", "running", "completed", "failed", "cancelled"]:
        """How far the turn has come."""

    @property
    def failure(self) -> EngineError | None:
        """Why it failed."""

    @property
    def usage(self) -> Usage:
        """Tokens and cost so far, those of spawned agents included."""

    @property
    def spawned(self) -> bool:
        """Whether the message comes from another agent's turn."""

    @property
    def subagents(self) -> bool:
        """Whether the client of the root turn wants to see the events of spawned agents."""

    @property
    def first_delta_seconds(self) -> float | None:
        """Seconds from its beginning to the first text or thinking of the answer; None before that."""

    @property
    def model_calls(self) -> Sequence[ModelCall]:
        """The model calls that have ended, oldest first."""


class Sample(NamedTuple):
    """A figure for /metrics: `name` is whole, with the unit and a counter's `_total`; its labels have few values."""

    name: str
    value: float
    labels: Mapping[str, str] = MappingProxyType({})
    kind: Literal["counter", "gauge"] = "gauge"
    help: str = ""


class Engine(Protocol):
    """What a plugin may use of the engine; the database and http work from `startup` to `shutdown`."""

    @property
    def settings(self) -> Settings:
        """The process's settings: `core` are the engine's own, `of(Table)` those that a plugin registered."""

    @property
    def data_dir(self) -> Path:
        """The folder of everything that the engine stores; only its user may read it."""

    @property
    def state(self) -> State:
        """The slots for what plugins keep for each engine."""

    @property
    def db(self) -> Database:
        """The database."""

    @property
    def http(self) -> Http:
        """The client for requests to vendors and tools, with the engine's limits and its pool of connections."""

    @property
    def scopes(self) -> Scopes:
        """Every scope by name, from the hooks after `register_scopes` on."""

    @property
    def secrets(self) -> Secrets:
        """Seals credentials before they are stored, and opens them."""

    @property
    def providers(self) -> Mapping[str, Provider]:
        """Every LLM provider by its type."""

    @property
    def tools(self) -> Mapping[str, Tool]:
        """Every tool that plugins registered, by name."""

    @property
    def toolsets(self) -> Sequence[Toolset]:
        """Every source of tools that depend on the agent."""

    @property
    def catalog(self) -> Mapping[str, CatalogModel]:
        """Known models by id."""

    @property
    def vendors(self) -> Mapping[str, CatalogProvider]:
        """Known vendors by id."""

    @property
    def models(self) -> Models:
        """The configured models."""

    @property
    def tasks(self) -> Tasks:
        """Background tasks."""

    @property
    def turns(self) -> Mapping[str, Turn]:
        """The turns that run or wait, by id."""

    def reserves(self, name: str, /) -> bool:
        """Whether a tool's name belongs to the engine or a plugin, so that no tool from outside may have it."""

    def samples(self) -> Sequence[Sample]:
        """The samples of every plugin's `collect_metrics`."""

    async def agents(self) -> list[Agent]:
        """Every agent, by name."""

    async def spawn(self, call: Call, agent: str, message: str, limits: SpawnLimits) -> str:
        """Runs an agent within a tool call and returns its last message."""

    async def offer(self, config: Mapping[str, Any]) -> bool:
        """Stores models, agents and schemas unless the engine ever had any; returns whether it stored them.

        `config` has the lists `models`, `agents` and `schemas` with the fields of their POST bodies.
        """


class Traffic(NamedTuple):
    """The streams that clients read now, and the requests refused so far as the engine had too many turns."""

    open_streams: int
    refused_turns: int


API_DOCUMENT = StateKey[Callable[[], Mapping[str, Any]]]("api_document")
"""Reads the OpenAPI document of an engine that is served over HTTP; it is not to be changed."""
TRAFFIC = StateKey[Callable[[], Traffic]]("traffic")
"""Reads the traffic of an engine that is served over HTTP."""
