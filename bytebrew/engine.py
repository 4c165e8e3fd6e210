"""The engine: builds and connects the settings, the plugins' registries, the database and the runner."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from functools import partial
from typing import Any

import anyio
import msgspec

from bytebrew.base import settings
from bytebrew.base.errors import BootError, SettingsError
from bytebrew.base.formats import narrowed, now
from bytebrew.base.http_client.client import Http
from bytebrew.base.machine import descriptors
from bytebrew.base.machine.clock import WallClock
from bytebrew.base.settings import Core, Settings
from bytebrew.chosen_store import driver_of
from bytebrew.config import first_entities, versions
from bytebrew.config.core_options import core_options
from bytebrew.config.import_export import boot
from bytebrew.config.section_changes import SectionChanges
from bytebrew.config.sections import core_sections
from bytebrew.contract.auth import SCOPES, Scope, Scopes
from bytebrew.contract.auth_mode import AuthMode
from bytebrew.contract.catalog import CatalogEntry, CatalogModel, CatalogProvider
from bytebrew.contract.configuration.config_dialect import ConfigDialect
from bytebrew.contract.configuration.config_section import ConfigSection
from bytebrew.contract.configuration.runtime_option import Option, Options
from bytebrew.contract.connection import Connection
from bytebrew.contract.engine import Sampled, State, StateKey, Turn
from bytebrew.contract.entities import Agent, AgentList, CapabilityType
from bytebrew.contract.events import Event
from bytebrew.contract.governance.personal_data import PersonalData
from bytebrew.contract.governance.spawn_limits import SpawnLimits
from bytebrew.contract.governance.spending import SpendGuard
from bytebrew.contract.hookspecs import Propagator
from bytebrew.contract.messages import ModelRequest
from bytebrew.contract.provider import Provider
from bytebrew.contract.route import Guard, ModelChooser, Route, taken_names
from bytebrew.contract.tool import Call, Question, QuestionAnswer, Tool, Toolset
from bytebrew.conversation.agent_loop import AgentLoop
from bytebrew.conversation.forgetting import Forgettings
from bytebrew.conversation.model_calls import Models, of_catalog
from bytebrew.conversation.remote.handover import Handover
from bytebrew.conversation.remote.headers import SealedHeaders
from bytebrew.conversation.replay.replays import Replays
from bytebrew.conversation.runner import Runner
from bytebrew.conversation.sub_agents import spawn
from bytebrew.conversation.tasks import Tasks
from bytebrew.conversation.tools.call_requests import CallRequests
from bytebrew.conversation.tools.confirmations import Confirmations
from bytebrew.conversation.tools.questions import Questions
from bytebrew.conversation.tools.read_result import ReadResult
from bytebrew.conversation.tools.reserved_names import reserved_names
from bytebrew.conversation.tools.tool_calls import ToolCalls, ToolSources
from bytebrew.nodes.duties import Duties, Loop
from bytebrew.nodes.locks import Locks
from bytebrew.nodes.node import Node
from bytebrew.nodes.signals import SignalCentre
from bytebrew.observers import Observers
from bytebrew.plugins import CORE, Plugins, Registry
from bytebrew.store import retention
from bytebrew.store.configuration import agents, changed_options
from bytebrew.store.configuration.agents import AgentLists
from bytebrew.store.configuration.capabilities import CapabilityTypes
from bytebrew.store.database.database import Database
from bytebrew.store.database.outage import waiting
from bytebrew.store.journal import Journal
from bytebrew.store.moving.copy import check_no_copy
from bytebrew.store.people import personal_rows
from bytebrew.store.sqlite import migrations
from bytebrew.store.sqlite.data_folder import DataFolder

log = logging.getLogger(__name__)


class Engine:
    """An engine; `async with` opens its database, starts its plugins and resumes its turns.

    `worker` is its number if other engines of this machine run on the same data folder.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        extra: Iterable[tuple[str, object]] = (),
        *,
        http: Http | None = None,
        worker: int = 0,
    ) -> None:
        early = settings.read(environment, [Core], whole=False).core
        self.plugins = Plugins()
        self.plugins.load(early.disabled_plugins, early.plugins_dir, extra)
        self.settings: Settings = settings.read(environment, self.plugins.tables())
        self.state: State = dict[StateKey[Any], Any]()
        self.clock = WallClock()
        core = self.settings.core
        self.folder = DataFolder(core.data_dir, worker)
        self.data_dir, self.secrets = self.folder.path, self.folder.secrets
        self.driver = driver_of(self.plugins, self.settings, self.folder)
        self.db = Database(self.driver)
        self.node = Node(self.db, self.folder.own, self.secrets.derived(b"nodes").mac(b"key").hex())
        self.lock = Locks(self.db, self.node).held
        self.signals = SignalCentre(self.driver.signals(), self.node.counts)
        self.duties = Duties(self.node, self.signals)
        self.journal = Journal(self.db, partial(self.signals.send, "events") if self.signals.used else None)
        self.journal.counts = self.node.counts
        self.signals.on("events", self.journal.refresh)
        share = descriptors.share()
        self.http = http or Http(core, upstreams=share.upstreams, idle=share.idle)

        self.confirmations = Confirmations(self.db, core.confirmation_ttl, self.signals)
        self.read_result = ReadResult(self.db, core.tool_output_bytes)

        self._declare_auth()
        self._declare_providers()
        self._declare_tools()
        self._declare_routes()
        self._declare_storage()
        self.observers = Observers(self, self.plugins, self.driver)
        self.notify, self.record, self.samples = self.observers.notify, self.observers.record, self.observers.samples
        self.publish = self.observers.publish

        vendors = {name: one.base_url for one in self.providers.values() for name in (one.type, *one.aliases)}
        prices = of_catalog(self.catalog.values(), vendors)
        guards: list[SpendGuard] = []
        self.plugins.declare("register_spend_guards", _listing(guards), engine=self)
        retries = core.provider_retries
        self.models = Models(self.providers, self.folder.credentials, prices, self.http, retries, guards)
        sources = ToolSources(self.tools, self.toolsets, self.read_result, self.reserves, self.propagators.get("one"))
        questions = Questions(self.db, self.journal, self.confirmations, self.publish)
        calls = ToolCalls(self.db, self.journal, questions, sources, core, self.notify)
        loop = AgentLoop(self.db, self.journal, self.models, calls, most_events=core.turn_events)
        db, journal, shared = self.db, self.journal, (self.node, self.signals)
        observers, headers = (self.notify, self.publish), SealedHeaders(self.secrets)
        self.runner = Runner(
            db, journal, self.models, loop, core, *observers, lambda: self.tasks.wake(), *shared, headers=headers
        )
        self.turns: Mapping[str, Turn] = self.runner.turns
        self._call_requests = CallRequests(db, journal, self.models, self.confirmations, questions, self.runner.turns)
        self.tasks: Tasks = Tasks(db, self.runner, self.tools, core, self.record, self.publish, *shared)
        self.handover = Handover(db, journal, self.runner, self.tasks, self.publish, self.node)
        self.signals.on("requests", self.handover.carry_out, own=True)
        self.replays = Replays(self.db, self.journal, self.models, calls)
        self.forgettings = Forgettings(self.db, self.journal, self.runner, self.tasks, self.replays, self.personal_data)
        loops: tuple[Loop, ...] = (self.retention, self.forgettings, self.replays)
        self._changes = SectionChanges(self, self.signals)
        self._loops = {type(one).__name__.lower(): one for one in loops}

        self._declare_config()
        self.started, self.started_at = time.monotonic(), now()
        self._stack = AsyncExitStack()

    def _declare_auth(self) -> None:
        self.scopes = Scopes(self._known_scopes().values())
        self.auth_modes: Registry[AuthMode] = Registry("auth mode")
        self.token_modes: Registry[AuthMode] = Registry("prefix of tokens")
        self.plugins.declare("register_auth_modes", self._add_auth_mode, settings=self.settings, engine=self)
        choice = {name: mode for name, mode in self.auth_modes.items() if not mode.prefixes}
        if (name := self.settings.core.auth_mode) not in choice:
            known = ", ".join(sorted(choice)) or "none"
            raise SettingsError(f"BYTEBREW_AUTH_MODE: no plugin registers the mode '{name}'; known: {known}")
        self.auth_mode = choice[name]

    def _add_auth_mode(self, owner: str, mode: AuthMode) -> None:
        self.auth_modes.add(owner, mode.name, mode)
        for prefix in mode.prefixes:
            self.token_modes.add(owner, prefix, mode)

    def _known_scopes(self) -> Registry[Scope]:
        scopes: Registry[Scope] = Registry("scope")
        bits: Registry[Scope] = Registry("bit of a scope")

        def add(owner: str, scope: Scope) -> None:
            scopes.add(owner, scope.name, scope)
            bits.add(owner, str(scope.bit), scope)

        for scope in SCOPES:
            add(CORE, scope)
        self.plugins.declare("register_scopes", add)
        return scopes

    def _declare_providers(self) -> None:
        self.providers: Registry[Provider] = Registry("provider")
        self.catalog: Registry[CatalogModel] = Registry("catalog model")
        self.vendors: Registry[CatalogProvider] = Registry("catalog provider")
        self.plugins.declare("register_providers", _adding(self.providers, "type"), settings=self.settings)
        self.plugins.declare("register_catalog", self._add_catalog_entry)
        if not self.providers:
            raise BootError("no plugin registers an LLM provider; is the package installed with its metadata?")

    def _add_catalog_entry(self, owner: str, entry: CatalogEntry) -> None:
        if isinstance(entry, CatalogModel):
            self.catalog.add(owner, entry.id, entry)
        elif isinstance(entry, CatalogProvider):
            self.vendors.add(owner, entry.id, entry)
        else:
            raise TypeError(f"it registers {entry!r}, which is no CatalogModel and no CatalogProvider")

    def _declare_tools(self) -> None:
        self.tools: Registry[Tool] = Registry("tool")
        self.toolsets: list[Toolset] = []
        types: Registry[CapabilityType] = Registry("capability type")
        self.plugins.declare("register_capabilities", _adding(types, "name"))
        self.capability_types = CapabilityTypes(types.values())
        lists: Registry[AgentList] = Registry("list of agents")
        self.plugins.declare("register_agent_lists", _adding(lists, "name"))
        if both := sorted(lists.keys() & {one.flag for one in types.values()}):
            raise BootError(f"'{both[0]}' is a list of agents and the flag of a capability: rename one")
        self.agent_lists = AgentLists(lists.values())
        self.plugins.declare("register_tools", _adding(self.tools, "name"), settings=self.settings)
        self.plugins.declare("register_toolsets", _listing(self.toolsets), engine=self)
        self.propagators: Registry[Propagator] = Registry("propagator")
        self.plugins.declare(
            "register_propagators", lambda owner, item: self.propagators.add(owner, "one", item), engine=self
        )
        sources: list[Tool | Toolset] = [*self.tools.values(), *self.toolsets]
        self.events = [event for source in sources for event in source.events]
        self.forms = {event.name: event for event in self.events if event.answered is not Event.answered}
        own = [self.read_result.name, *self.tools]
        self.reserves = reserved_names([*own, *(name for toolset in self.toolsets for name in toolset.reserves)])

    def _declare_routes(self) -> None:
        self.guards: list[Guard] = []
        self.routes: list[Route] = []
        self.model_choosers: list[ModelChooser] = []
        self.plugins.declare("register_guards", _listing(self.guards), engine=self)
        self.plugins.declare("register_model_choosers", _listing(self.model_choosers), engine=self)
        self.plugins.declare("register_routes", self._add_route, engine=self)
        fixed = [route for route in self.routes if not route.overridable]
        taken = {(route.method, route.path) for route in fixed}
        self.routes = [*fixed, *(one for one in self.routes if one.overridable and (one.method, one.path) not in taken)]

    def _add_route(self, owner: str, route: Route) -> None:
        if route.scope is not None and route.scope not in self.scopes:
            raise TypeError(f"{route.path}: '{route.scope}' is not a scope; the scopes are {', '.join(self.scopes)}")
        self.routes.append(route)
        self.plugins.add_route(owner, route)

    def _declare_storage(self) -> None:
        core_steps = [(CORE, step) for step in retention.steps()]
        self.retention = retention.Retention(self.db, self.journal, self.clock, core_steps)
        steps = self.retention.steps
        self.plugins.declare("register_retention", lambda name, step: steps.append((name, step)), engine=self)
        self.personal_data: Registry[PersonalData] = Registry("kind of personal data")
        self.plugins.declare("register_personal_data", _adding(self.personal_data, "name"), engine=self)
        for kind in personal_rows.kinds():  # after those of plugins, which may look at the core's rows
            self.personal_data.add(CORE, kind.name, kind)
        own = {CORE: [*self.driver.core_migrations(migrations.CORE)], **self.agent_lists.migrations()}
        self.migrations: dict[str, list[tuple[int, str]]] = own
        self.plugins.declare("register_migrations", partial(migrations.add, self.migrations, self.driver))

    def _declare_config(self) -> None:
        known: Registry[Option] = Registry("setting")
        for option in core_options(self.settings.core.log_level):
            known.add(CORE, option.key, option)
        self.plugins.declare("register_options", _adding(known, "key"), engine=self)
        self.options, self._following = Options(known.values()), anyio.Lock()
        self.sections: Registry[ConfigSection] = Registry("config section")
        for section in core_sections(
            self.models.breakers.clear, self.capability_types, self.agent_lists, self.options, self.follow_options
        ):
            self.sections.add(CORE, section.key, section)
        self.plugins.declare("register_config_sections", _adding(self.sections, "key"))
        self.dialects: list[ConfigDialect] = []
        self.plugins.declare("register_config_dialects", _listing(self.dialects))
        collections = [section.path for section in self.sections.values()]
        taken = taken_names([*(route.path for route in self.routes), *(f"{path}/{{name}}" for path in collections)])
        self.taken = {one.path: one.reserved | taken.get(one.path, frozenset()) for one in self.sections.values()}

    async def __aenter__(self) -> "Engine":
        with waiting():
            return await self._start()

    async def _start(self) -> "Engine":
        async with AsyncExitStack() as stack:
            for warning in self.plugins.warnings:
                log.warning("%s", warning)
            stack.push_async_callback(self.http.aclose)
            stack.enter_context(self.folder.held())
            served = self.driver.served(self.db, self.migrations, self._check)
            self.journal.begin(epoch := await stack.enter_async_context(served))
            await stack.enter_async_context(self.node.lives(epoch, self.handover.adopt))
            await self.db.write(versions.keep_all, self, self.sections, versions.ENGINE)
            if self.settings.core.config is not None:
                await boot(self, self.settings.core.config)
            await self._changes.begin()
            await self.follow_options()
            for name, loop in self._loops.items():
                self.duties.add(name, loop.run, loop.wake)
            await self.observers.start()
            stack.push_async_callback(self.notify, "shutdown")
            # asyncio's: anyio's takes 20 us for a task, of which each turn is one
            self.runner.run(await stack.enter_async_context(asyncio.TaskGroup()))
            group = await stack.enter_async_context(anyio.create_task_group())
            self.tasks.run(group)
            await self.handover.begin()
            self.signals.run(group)
            stack.callback(self.signals.stop)
            self.duties.run(group)
            if self.node.id is not None:
                await stack.enter_async_context(self._changes.followed())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.drain(0)
        await self._stack.aclose()

    @property
    def draining(self) -> bool:
        """Whether the engine is about to stop."""
        return self.runner.draining

    async def drain(self, seconds: float) -> None:
        """Rejects new work and waits for running work; after the time limit the rest is left to the next start.

        Other nodes go on at once with sessions of which nothing runs here any more.
        """
        self.runner.draining = True
        self.duties.cancel(*self._loops)
        self.tasks.wake()
        self.journal.close_open_ends()
        stopping = asyncio.create_task(self.handover.drain(seconds))
        await asyncio.wait([stopping], timeout=seconds + 1)
        if (fault := self.db.outage.fault) is not None:  # nobody waits for its end any more
            self.db.end(fault)
        await stopping
        self.duties.cancel()

    def migrated(self, beat: Callable[[], None] | None = None) -> AbstractContextManager[Connection]:
        """A connection to the database, with the tables of the core and of every plugin up to date."""
        return self.driver.migrated(self.migrations, self._check, beat)

    def _check(self, conn: Connection) -> None:
        check_no_copy(conn)
        self.folder.check_new_key(conn)

    async def follow_options(self) -> None:
        """Applies the stored settings."""
        async with self._following:  # applies values in the order in which they were read
            stored = await self.db.read(changed_options.values)
            self.options.apply({key: value for key, (value, _) in stored.items()})

    async def agents(self) -> list[Agent]:
        """Every agent, by name."""
        return await self.db.read(agents.list_all)

    def subject_names(self, conn: Connection) -> dict[str, str]:
        """Display names of subjects, as the auth modes know them."""
        return {subject: name for mode in self.auth_modes.values() for subject, name in mode.names(conn).items()}

    async def spawn(self, call: Call, agent: str, message: str, limits: SpawnLimits) -> str:
        """Runs an agent within a tool call and returns its last message; see `sub_agents.spawn`."""
        return await spawn(self.db, self.runner, call, agent, message, limits)

    async def ask(self, call: Call, questions: Sequence[Question], *, resume_state: str = "") -> list[QuestionAnswer]:
        """A person's answers for a running tool call; see `CallRequests.ask`."""
        return await self._call_requests.ask(call, questions, resume_state)

    async def sample(self, call: Call, request: ModelRequest, *, model: str = "") -> Sampled:
        """A model's answer for a running tool call; see `CallRequests.sample`."""
        return await self._call_requests.sample(call, request, model)

    async def offer(self, config: Mapping[str, Any]) -> bool:
        """Stores models, agents and schemas unless the engine ever had any; returns whether it did."""
        agents: Any = tuple[self.agent_lists.new, ...]  # type: ignore[name-defined]
        first = msgspec.convert(config, narrowed(first_entities.FirstEntities, ("agents", agents, ())))

        def store(conn: Connection) -> bool:
            stored = first_entities.create(conn, first, self.secrets)
            versions.keep(conn, self, self.sections, versions.ENGINE)
            return stored

        return await self.db.write(store)


def _adding(registry: Registry[Any], key: str) -> Callable[[str, Any], None]:
    return lambda owner, item: registry.add(owner, getattr(item, key, ""), item)


def _listing(items: list[Any]) -> Callable[[str, Any], None]:
    return lambda _, item: items.append(item)
