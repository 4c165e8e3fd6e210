"""The whole plugin contract: every hook and its exact arguments."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, get_args, get_origin, get_type_hints

import pluggy
from msgspec import Struct

from bytebrew.base.settings import Settings
from bytebrew.contract.auth import Actor, Scope
from bytebrew.contract.auth_mode import AuthMode
from bytebrew.contract.catalog import CatalogEntry
from bytebrew.contract.configuration.config_dialect import ConfigDialect
from bytebrew.contract.configuration.config_section import ConfigSection
from bytebrew.contract.configuration.runtime_option import Option
from bytebrew.contract.connection import Connection
from bytebrew.contract.engine import Engine, Sample, Turn
from bytebrew.contract.entities import AgentList, CapabilityType
from bytebrew.contract.governance.personal_data import PersonalData
from bytebrew.contract.governance.spending import SpendGuard
from bytebrew.contract.messages import ToolCall
from bytebrew.contract.notifications import Subscriber
from bytebrew.contract.provider import Provider
from bytebrew.contract.route import Guard, ModelChooser, Route
from bytebrew.contract.storage.migration import Migration
from bytebrew.contract.storage.store import Store
from bytebrew.contract.tool import Outcome, Tool, Toolset

if TYPE_CHECKING:
    import click


class Action(Struct, frozen=True, kw_only=True):
    """A change that an actor made, or a rejected request (`auth.fail`, with the `reason`; the actor may be ANYONE).

    `name` is such as `agent.update`, `resource` the method and the path. `before` and `after` are the resource as the
    API shows it, if the API has it: without secrets, long texts truncated, never a conversation.
    """

    moment: str
    actor: Actor
    name: str
    resource: str
    resource_type: str
    resource_id: str
    status: int
    client: str
    request_id: str
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    reason: str = ""


Recorder = Callable[[Connection, Action], None]
"""Stores an action in the transaction of the change itself; an exception rolls the change back."""
Propagator = Callable[[Turn, str], str]
"""The `traceparent` (W3C Trace Context) that goes out with a tool call of a turn, by the call's id."""
Step = Callable[[Connection], Sequence[object] | None]
"""Does a part of its work in a transaction and returns what it did; an empty sequence ends the work.

None means that this part did nothing and that more parts follow.
"""
T = TypeVar("T")
Register = Callable[[T], None]
"""The callback of a declaring hook for each item, such as `Register[Tool]`."""
hookspec = pluggy.HookspecMarker("bytebrew")
hookimpl = pluggy.HookimplMarker("bytebrew")


class Opened(Protocol):
    """Opens the database for a command: an engine that is not started, and a connection within a transaction.

    The transaction is committed unless the block fails; an engine may run meanwhile. BootError if no engine has run on
    the data folder, unless the command `may_create` it.
    """

    def __call__(self, *, may_create: bool = False) -> AbstractContextManager[tuple[Engine, Connection]]: ...


@hookspec
def register_settings(register: Register[type[Struct]]) -> None:
    """Registers a table of BYTEBREW_* variables: a frozen Struct with a default and a description for each field."""


@hookspec
def register_providers(register: Register[Provider], settings: Settings) -> None:
    """Registers LLM providers, each under its `type`."""


@hookspec
def register_catalog(register: Register[CatalogEntry]) -> None:
    """Registers models and vendors of the catalog, each under its id."""


@hookspec
def register_tools(register: Register[Tool], settings: Settings) -> None:
    """Registers tools that any agent may name."""


@hookspec
def register_toolsets(register: Register[Toolset], engine: Engine) -> None:
    """Registers sources of tools that depend on the agent."""


@hookspec
def register_capabilities(register: Register[CapabilityType]) -> None:
    """Registers types of capabilities that an agent may have, each under its name."""


@hookspec
def register_agent_lists(register: Register[AgentList]) -> None:
    """Registers lists of names that an agent has for the plugin's toolset, each under its name."""


@hookspec
def register_scopes(register: Register[Scope]) -> None:
    """Registers scopes that credentials may grant and routes may need, each under its name and its bit."""


@hookspec
def register_auth_modes(register: Register[AuthMode], settings: Settings, engine: Engine) -> None:
    """Registers ways to authenticate requests; BYTEBREW_AUTH_MODE chooses one of those without prefixes."""


@hookspec
def register_migrations(register: Register[Migration]) -> None:
    """Registers the SQL of the plugin's own tables, in order."""


@hookspec
def register_stores(register: Register[Store], settings: Settings) -> None:
    """Registers kinds of databases that may hold the data in place of the SQLite file, each under its scheme."""


@hookspec
def register_routes(register: Register[Route], engine: Engine) -> None:
    """Registers HTTP routes, each with the scope that it needs."""


@hookspec
def register_model_choosers(register: Register[ModelChooser], engine: Engine) -> None:
    """Registers choosers of a chat's model by request headers."""


@hookspec
def register_guards(register: Register[Guard], engine: Engine) -> None:
    """Registers checks that run after authentication and before the route."""


@hookspec
def register_spend_guards(register: Register[SpendGuard], engine: Engine) -> None:
    """Registers guards that reserve what each model call may cost, and settle it with the usage."""


@hookspec
def register_recorders(register: Register[Recorder], engine: Engine) -> None:
    """Registers functions that store each change over the API, in its transaction."""


@hookspec
def register_subscribers(register: Register[Subscriber], engine: Engine) -> None:
    """Registers functions that store what follows from a notification, in the transaction in which it happened."""


@hookspec
def register_propagators(register: Register[Propagator], engine: Engine) -> None:
    """Registers the function that names the spans of tool calls to the systems that the tools call; one may."""


@hookspec
def register_config_sections(register: Register[ConfigSection]) -> None:
    """Registers top-level keys of the configuration file, each under its `key`."""


@hookspec
def register_config_dialects(register: Register[ConfigDialect]) -> None:
    """Registers other formats of the configuration file; each is converted to the engine's own."""


@hookspec
def register_options(register: Register[Option], engine: Engine) -> None:
    """Registers settings that an operator changes at run time, through /api/v1/settings."""


@hookspec
def register_retention(register: Register[Step], engine: Engine) -> None:
    """Registers steps that delete old rows of the plugin's tables, a few in each call.

    A step runs in a transaction of its own and returns the deleted rows; none end the pass.
    """


@hookspec
def register_personal_data(register: Register[PersonalData], engine: Engine) -> None:
    """Registers what the plugin stores of a person, each kind under its name."""


@hookspec
def register_commands(cli: "click.Group", opened: Opened) -> None:
    """Adds subcommands to the command line, a click Group; `opened` opens the data folder for a command."""


@hookspec
def collect_metrics(engine: Engine) -> Iterable[Sample]:
    """Returns the plugin's samples for a scrape of /metrics; it must not block."""
    return ()


@hookspec
async def turn_started(engine: Engine, turn: Turn) -> None:
    """A turn has started to run."""


@hookspec
async def tool_finished(engine: Engine, turn: Turn, call: ToolCall, result: Outcome) -> None:
    """A tool call has ended, with or without an error."""


@hookspec
async def turn_finished(engine: Engine, turn: Turn) -> None:
    """A turn has ended, and its last event is committed."""


@hookspec
async def actor_acted(engine: Engine, action: Action) -> None:
    """A change over the API was committed, or a request was rejected."""


@hookspec
async def request_answered(engine: Engine, method: str, path: str, status: int, seconds: float) -> None:
    """A request was answered, or its client disconnected; `path` is the path of its route, "" if there is none.

    Chats that are rejected before they are read, under overload, are counted in `Traffic.refused_turns` only.
    """


@hookspec
async def startup(engine: Engine) -> None:
    """The database is migrated; no request is served yet."""


@hookspec
async def shutdown(engine: Engine) -> None:
    """No more requests arrive; the database is still open."""


def _registered(hook: Callable[..., object]) -> type:
    """The type of the items that a declaring hook registers, from its annotation."""
    [kind], _ = get_args(get_type_hints(hook)["register"])
    taken: type = get_origin(kind) or kind
    return taken


_HOOKS = {name: hook for name, hook in vars().items() if hasattr(hook, "bytebrew_spec")}
DECLARING: Mapping[str, type] = {
    name: _registered(hook) for name, hook in _HOOKS.items() if "register" in hook.__annotations__
}
"""The hooks with a `register` callback, and the type of its items."""
OBSERVING = tuple(name for name, hook in _HOOKS.items() if inspect.iscoroutinefunction(hook))
"""The hooks that are async functions; all others are not."""
