"""The interface of the engine for plugins, and of a turn for observers."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
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
from bytebrew.contract.governance.nodes import Duties, Node
from bytebrew.contract.governance.spawn_limits import SpawnLimits
from bytebrew.contract.messages import ModelRequest, Usage
from bytebrew.contract.notifications import Notification
from bytebrew.contract.provider import Provider, Target
from bytebrew.contract.tool import Call, Question, QuestionAnswer, Tool, Toolset

P = ParamSpec("P")
T = TypeVar("T")


class StateKey(Generic[T]):
    """A typed key of a plugin's own state in `engine.state`; each key is equal only to itself."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"StateKey({self.name!r})"


class State(Protocol):
    """State that plugins keep per engine, each value under its own `StateKey`."""

    def __getitem__(self, key: StateKey[T]) -> T:
        """The value of a key; KeyError if it was not set."""

    def __setitem__(self, key: StateKey[T], value: T) -> None:
        """Sets the value of a key."""

    def __contains__(self, key: StateKey[Any]) -> bool:
        """Whether the key has a value."""


class Database(Protocol):
    """The engine's database; a work is a plain function of a `Connection`, which runs in a database thread."""

    @property
    def shared(self) -> bool:
        """Whether other nodes may write to it."""

    @property
    def commits(self) -> int:
        """Transactions committed since the start."""

    @property
    def committed_works(self) -> int:
        """Works committed in those transactions."""

    @property
    def committed_rows(self) -> int:
        """Events committed in those transactions."""

    async def read(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a short read, in one snapshot of the database."""

    async def glance(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of one query that finds few rows by keys: from a file in the event loop, unless it takes long."""

    async def scan(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a list, count or export; TooSlow if a statement takes over 5 seconds."""

    async def write(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a work that changes rows, once its transaction is committed."""

    async def write_in(
        self, scope: str, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As `write`, where only works of the same scope change these rows: other nodes write meanwhile."""


class Sampled(NamedTuple):
    """A model's answer to a tool call: its text, the name of the model, and why it ended."""

    text: str
    model: str
    stop: str


class Models(Protocol):
    """The configured models."""

    async def embed(self, target: Target, texts: Sequence[str], *, seconds: float) -> list[list[float]]:
        """A vector for each text, in order; if that fails, ProviderError with the key masked in its message."""


class Tasks(Protocol):
    """Background tasks.

    An `actor` of None skips the check that the caller may see the task.
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
        """Stores a task of the owner within a transaction; returns the existing task if `task_id` exists.

        `made_in` is the session of the agent that creates it; an interactive task runs in that session.
        """

    def check(self, conn: Connection, agent: str, schema: str) -> None:
        """Raises Unprocessable unless the agent exists, and belongs to the schema if one is given."""

    def wake(self) -> None:
        """Wakes the workers; call it after the commit that added a task."""

    async def of_session(self, session_id: str) -> list[Task]:
        """The tasks that run in a session or were created by its agent, oldest first."""

    async def ready(self, session_id: str) -> list[Task]:
        """The pending tasks of a session without an open blocker, the most urgent first."""

    async def at_hand(self, turn_id: str) -> Task | None:
        """The task of a turn, or of the nearest turn above it in the spawn tree."""

    async def update(self, task_id: str, actor: Actor | None, patch: TaskPatch, *, by: str = "") -> Task:
        """Merges a patch into a task, as the agent `by`; an approved task becomes a draft. Conflict after its end."""

    async def assign(self, task_id: str, actor: Actor | None, agent: str, *, by: str) -> Task:
        """Assigns a task to another agent, to run in the background; an approved task becomes a draft."""

    async def cancel(self, task_id: str, actor: Actor | None, reason: str = "") -> None:
        """Cancels a task, its sub-tasks, and their turns."""

    async def move(
        self, task_id: str, actor: Actor | None, status: TaskStatus, result: str | None = None, *, within: str = ""
    ) -> Task:
        """Changes the status of a task and cancels the turn that works on it, unless that is `within`."""


class ModelCall(NamedTuple):
    """A completed or failed model call; `model` is the fallback if that answered."""

    provider: str
    model: str
    seconds: float


class Turn(Protocol):
    """One user message from arrival to done, as observers see it; read-only."""

    @property
    def id(self) -> str:
        """The turn's id."""

    @property
    def session_id(self) -> str:
        """The session of the message."""

    @property
    def subject(self) -> str:
        """The actor's subject; for a spawned agent, that of the root turn."""

    @property
    def agent(self) -> Agent:
        """The agent that answers."""

    @property
    def message(self) -> str:
        """The user's message, or that of the agent that spawned this one."""

    @property
    def status(self) -> Literal["queued", "running", "completed", "failed", "cancelled"]:
        """The current status of the turn."""

    @property
    def failure(self) -> EngineError | None:
        """Why it failed."""

    @property
    def usage(self) -> Usage:
        """Tokens and cost so far, those of spawned agents included."""

    @property
    def spawned(self) -> bool:
        """Whether another agent's turn spawned this one."""

    @property
    def root_id(self) -> str:
        """The id of the root turn: a spawned agent works within another's."""

    @property
    def traceparent(self) -> str | None:
        """The trace that the chat request came with (W3C Trace Context), for a spawned agent that of the root turn."""

    @property
    def subagents(self) -> bool:
        """Whether the client of the root turn receives the events of spawned agents."""

    @property
    def first_delta_seconds(self) -> float | None:
        """Seconds from the beginning of the turn to its first text or thinking; None before that."""

    @property
    def model_calls(self) -> Sequence[ModelCall]:
        """The completed and failed model calls, oldest first."""


class Sample(NamedTuple):
    """A sample for /metrics; `name` includes the unit and a counter's `_total`; labels must have few values."""

    name: str
    value: float
    labels: Mapping[str, str] = MappingProxyType({})
    kind: Literal["counter", "gauge"] = "gauge"
    help: str = ""


class Engine(Protocol):
    """What a plugin may use of the engine; the database and HTTP client work from `startup` to `shutdown`."""

    @property
    def draining(self) -> bool:
        """Whether the engine is about to stop: nothing new begins, and open ends of streams close."""

    @property
    def settings(self) -> Settings:
        """The settings of the process: `core` has the engine's own, `of(Table)` those that a plugin registered."""

    @property
    def data_dir(self) -> Path:
        """The folder of all data of the engine; only its user may read it."""

    @property
    def state(self) -> State:
        """The slots for the state that plugins keep per engine."""

    @property
    def db(self) -> Database:
        """The database."""

    @property
    def http(self) -> Http:
        """The client for requests to vendors and tools, with the engine's limits and connection pools."""

    @property
    def scopes(self) -> Scopes:
        """Every scope by name, available to hooks that run after `register_scopes`."""

    @property
    def secrets(self) -> Secrets:
        """Encrypts credentials before they are stored, and decrypts them."""

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
        """The running and queued turns, by id."""

    @property
    def node(self) -> Node:
        """This engine among those that share its database."""

    @property
    def duties(self) -> Duties:
        """Loops that run on one node at a time."""

    def lock(self, name: str) -> AbstractAsyncContextManager[None]:
        """Excludes every other block of this name, on all nodes: for work that is longer than a transaction."""

    def reserves(self, name: str, /) -> bool:
        """Whether a tool's name belongs to the engine or a plugin, so that no external tool may have it."""

    def publish(self, conn: Connection, notification: Notification, /) -> None:
        """Runs every subscriber with a notification, in the transaction of what happened."""

    def samples(self) -> Sequence[Sample]:
        """The samples of every plugin's `collect_metrics`."""

    def subject_names(self, conn: Connection) -> Mapping[str, str]:
        """Display names of subjects, as the auth modes know them."""

    async def agents(self) -> list[Agent]:
        """Every agent, by name."""

    async def spawn(self, call: Call, agent: str, message: str, limits: SpawnLimits) -> str:
        """Runs an agent within a tool call and returns its last message."""

    async def ask(self, call: Call, questions: Sequence[Question], *, resume_state: str = "") -> list[QuestionAnswer]:
        """Asks a person at once what the source of a running tool call wants to know; the answers in that order.

        The time limits of the call and its turn pause meanwhile. With a `resume_state` a call that a stop of the engine
        interrupts is run again with it, even if it is not idempotent: the same questions are then not asked twice.
        """

    async def sample(self, call: Call, request: ModelRequest, *, model: str = "") -> Sampled:
        """An answer of a model for a running tool call, counted for its turn.

        `model` is the name of a configured one, or else it is that of the agent; the request's own name, URL and key do
        not count. Raises EngineError if the model fails or the turn may not spend more.
        """

    async def offer(self, config: Mapping[str, Any]) -> bool:
        """Stores models, agents and schemas unless the engine ever had any; returns whether it did.

        `config` has the lists `models`, `agents` and `schemas` with the fields of their POST bodies.
        """


class Traffic(NamedTuple):
    """Open event streams, and the number of requests rejected because the engine had too many turns."""

    open_streams: int
    refused_turns: int


API_DOCUMENT = StateKey[Callable[[], Mapping[str, Any]]]("api_document")
"""Returns the OpenAPI document of an engine that is served over HTTP; read-only."""
FRONT_PAGE = StateKey[str]("front_page")
"""The path of the page for operators, if a plugin has one; the link that signs in opens it."""
TRAFFIC = StateKey[Callable[[], Traffic]]("traffic")
"""Returns the traffic of an engine that is served over HTTP."""


class Document(NamedTuple):
    """A file of a knowledge base; `size` is in bytes, `changed_at` is when it was indexed (RFC 3339)."""

    base_id: str
    base: str
    id: str
    name: str
    media_type: str
    size: int
    changed_at: str


class Passage(NamedTuple):
    """A part of a document that fits a query."""

    document: str
    heading: str
    text: str


class Documents(Protocol):
    """The files of all knowledge bases, for actors with `scope` that are bound to no schemas."""

    scope: str

    async def page(self, after: tuple[str, str], most: int) -> list[Document]:
        """At most `most` documents, by the names of base and file, after those names."""

    async def read(self, base_id: str, document_id: str) -> tuple[Document, str]:
        """A document with its text; NotFound if there is none, PayloadTooLarge for a text over a million characters."""

    async def search(self, base: str, query: str) -> list[Passage]:
        """The passages of a base, by id or name, that fit a query best; NotFound if there is no such base."""


DOCUMENTS = StateKey[Documents]("documents")
"""The files of knowledge bases, where a plugin has some."""
