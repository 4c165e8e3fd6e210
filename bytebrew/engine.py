"""The composition root: settings, plugins, registries, database and runner, wired and nothing more."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, closing
from typing import Any

import anyio
import msgspec
from msgspec import Struct

from bytebrew.base import settings
from bytebrew.base.cancellation import uncancelled
from bytebrew.base.env_variables import Credentials
from bytebrew.base.errors import BootError, EngineError, NotRecorded, SettingsError, StorageError
from bytebrew.base.http_client.client import Http
from bytebrew.base.machine import descriptors, lock
from bytebrew.base.machine.clock import WallClock
from bytebrew.base.secrets import Secrets
from bytebrew.base.settings import Core, Settings
from bytebrew.config.core_options import core_options
from bytebrew.config.import_export import boot
from bytebrew.config.sections import core_sections
from bytebrew.contract import paths
from bytebrew.contract.action import Action
from bytebrew.contract.auth import SCOPES, Scope, Scopes
from bytebrew.contract.auth_mode import AuthMode
from bytebrew.contract.catalog import CatalogEntry, CatalogModel, CatalogProvider
from bytebrew.contract.config_section import ConfigSection
from bytebrew.contract.connection import Connection
from bytebrew.contract.engine import State, StateKey, Turn
from bytebrew.contract.entities import Agent, NewAgent, NewModel, NewSchema
from bytebrew.contract.hookspecs import OBSERVING, Recorder, Sample
from bytebrew.contract.provider import Provider
from bytebrew.contract.route import Guard, Route
from bytebrew.contract.runtime_option import Option, Options
from bytebrew.contract.tool import Call, SpawnLimits, Tool, Toolset
from bytebrew.conversation.confirmations import Confirmations
from bytebrew.conversation.model_calls import Models, of_catalog
from bytebrew.conversation.read_result import ReadResult
from bytebrew.conversation.recovery import recover
from bytebrew.conversation.runner import Runner
from bytebrew.conversation.sub_agents import spawn
from bytebrew.conversation.tasks import Tasks
from bytebrew.plugins import CORE, Plugins, Registry, place
from bytebrew.slow_hooks import AWAITED_SECONDS, BLOCKING_SECONDS, SlowHooks
from bytebrew.store import agents, expiry, models, retention, schemas, tokens
from bytebrew.store import settings as stored_settings
from bytebrew.store.backups import key_check
from bytebrew.store.backups.restore import clear, finish_killed
from bytebrew.store.journal import Journal
from bytebrew.store.sqlite import epoch, migrations, storage_errors
from bytebrew.store.sqlite.database import Database
from bytebrew.store.sqlite.migrate import migrated

OBSERVER_SECONDS = 30
"""How long an observer may take, for what it observes waits until it is through."""
log = logging.getLogger(__name__)


class Offer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a plugin offers to an engine that has no configuration yet."""

    models: tuple[NewModel, ...] = ()
    agents: tuple[NewAgent, ...] = ()
    schemas: tuple[NewSchema, ...] = ()


class Engine:
    """A built engine; `async with` opens its database, starts its plugins and takes up its turns."""

    def __init__(
        self, environment: Mapping[str, str], extra: Iterable[tuple[str, object]] = (), *, http: Http | None = None
    ) -> None:
        early = settings.read(environment, [Core], whole=False).core
        self.plugins = Plugins()
        self.plugins.load(early.disabled_plugins, early.plugins_dir, extra)
        self.settings: Settings = settings.read(environment, self.plugins.tables())
        self.started = time.monotonic()
        self.state: State = dict[StateKey[Any], Any]()
        self.overdue = asyncio.Event()
        self.clock = WallClock()
        self.slow_hooks = SlowHooks()
        data = self.settings.core.data_dir
        self.data_dir = data
        self._make_private(data)
        finish_killed(data)
        self._make_private(data / "keys")
        self._key = data / "keys" / "secrets.key"
        key_check.check_key(self._key, data / "bytebrew.db")
        self._key_is_new = not self._key.exists()
        self.secrets = Secrets.load(self._key)
        self.db = Database(data / "bytebrew.db", self.settings.core.db_synchronous)
        self.journal = Journal(self.db)
        share = descriptors.share()
        self.http = http or Http(self.settings.core, upstreams=share.upstreams, idle=share.idle)
        self.runner = Runner(self)
        self.turns: Mapping[str, Turn] = self.runner.turns
        self.confirmations = Confirmations(self)
        self.tasks = Tasks(self)
        self.read_result = ReadResult(self.db, self.settings.core.tool_output_bytes)
        self._declare()
        vendors = {name: one.base_url for one in self.providers.values() for name in (one.type, *one.aliases)}
        prices = of_catalog(self.catalog.values(), vendors)
        retries = self.settings.core.provider_retries
        self.options = Options(self._known().values())
        self._following = anyio.Lock()
        credentials = Credentials.load(self._key)
        self.models = Models(self.providers, credentials, prices, self.http, retries)
        self.sections: Registry[ConfigSection] = Registry("config section")
        for section in core_sections(self.models.breakers.clear, self.options, self.follow_options):
            self.sections.add(CORE, section.key, section)
        self.plugins.declare("register_config_sections", _adding(self.sections, "key"))
        collections = [one.path for one in self.sections.values()]
        own = paths.taken([*(one.path for one in self.routes), *(f"{path}/{{name}}" for path in collections)])
        self.taken = {one.path: one.reserved | own.get(one.path, frozenset()) for one in self.sections.values()}
        self._clearing: anyio.CancelScope
        self._stack = AsyncExitStack()

    def _declare(self) -> None:
        plugins, core = self.plugins, self.settings.core
        self.providers: Registry[Provider] = Registry("provider")
        self.tools: Registry[Tool] = Registry("tool")
        self.auth_modes: Registry[AuthMode] = Registry("auth mode")
        self.toolsets: list[Toolset] = []
        self.unmatched: dict[str, list[str]] = {}  # what each agent's last turn has found of its gates
        self.guards: list[Guard] = []
        self.recorders: list[tuple[str, Recorder]] = []
        self.routes: list[Route] = []
        self.migrations: dict[str, list[tuple[int, str]]] = {CORE: [*migrations.CORE]}
        self.catalog: Registry[CatalogModel] = Registry("catalog model")
        self.vendors: Registry[CatalogProvider] = Registry("catalog provider")
        self._observers = {hook: plugins.implementations(hook) for hook in OBSERVING}
        self.scopes = self._known_scopes()
        for hook, registry, key in (
            ("register_providers", self.providers, "type"),
            ("register_tools", self.tools, "name"),
        ):
            plugins.declare(hook, _adding(registry, key), settings=self.settings)
        into = _adding(self.auth_modes, "name")
        given = {"settings": self.settings, "scopes": self.scopes, "engine": self}
        plugins.declare("register_auth_modes", into, **given)
        plugins.declare("register_catalog", self._enter)
        if not self.providers:
            raise BootError("no plugin registers an LLM provider; is the package installed with its metadata?")
        if core.auth_mode not in self.auth_modes:
            known = ", ".join(sorted(self.auth_modes)) or "none"
            raise SettingsError(f"BYTEBREW_AUTH_MODE: no plugin registers the mode '{core.auth_mode}'; known: {known}")
        self.auth_mode = self.auth_modes[core.auth_mode]
        plugins.declare("register_toolsets", lambda _, one: self.toolsets.append(one), engine=self)
        reserved = [*self.tools, self.read_result.name, *(one for kit in self.toolsets for one in kit.reserves)]
        self._reserved = frozenset(map(str.casefold, reserved))
        self._reserved_beginnings = tuple(name.casefold()[:-1] for name in reserved if name.endswith("*"))
        plugins.declare("register_guards", lambda _, one: self.guards.append(one), engine=self)
        plugins.declare("register_recorders", lambda name, one: self.recorders.append((name, one)), engine=self)
        plugins.declare("register_routes", self._add_route, engine=self)
        self.retention = [(CORE, step) for step in expiry.steps()]
        plugins.declare("register_retention", lambda name, step: self.retention.append((name, step)))
        plugins.declare("register_migrations", lambda name, one: self.migrations.setdefault(name, []).append(one))

    def _known_scopes(self) -> Scopes:
        scopes: Registry[Scope] = Registry("scope")
        bits: Registry[Scope] = Registry("bit of a scope")

        def add(owner: str, scope: Scope) -> None:
            scopes.add(owner, scope.name, scope)
            bits.add(owner, str(scope.bit), scope)

        for scope in SCOPES:
            add(CORE, scope)
        self.plugins.declare("register_scopes", add)
        return Scopes(scopes.values())

    def _add_route(self, _: str, route: Route) -> None:
        if route.scope is not None and route.scope not in self.scopes:
            raise TypeError(f"{route.path}: '{route.scope}' is not a scope; the scopes are {', '.join(self.scopes)}")
        self.routes.append(route)

    def _known(self) -> Registry[Option]:
        known: Registry[Option] = Registry("setting")
        for option in core_options(self.settings.core.log_level, self.providers.values()):
            known.add(CORE, option.key, option)
        self.plugins.declare("register_options", _adding(known, "key"))
        return known

    def _enter(self, owner: str, entry: CatalogEntry) -> None:
        if isinstance(entry, CatalogModel):
            self.catalog.add(owner, entry.id, entry)
        elif isinstance(entry, CatalogProvider):
            self.vendors.add(owner, entry.id, entry)
        else:
            raise TypeError(f"it registers {entry!r}, which is no CatalogModel and no CatalogProvider")

    async def __aenter__(self) -> "Engine":
        async with AsyncExitStack() as stack:
            path = self.db.path
            stack.enter_context(lock.held(self.data_dir, path))
            clear(self.data_dir)
            for words in self.plugins.warnings:
                log.warning("%s", words)
            log_there = epoch.log_of(path).exists()
            stack.push_async_callback(self.http.aclose)
            keeping = stack.enter_context(ExitStack())
            with self.migrated() as conn:  # until others are open, for the last one removes the log
                await stack.enter_async_context(self.db)
                keeping.enter_context(closing(epoch.keeper(path)))
                self.journal.begin(epoch.begin(conn, path, log_there=log_there))
            stack.push_async_callback(self._record_end, keeping)
            if token := self.settings.core.bootstrap_admin_token:
                await self._bootstrap(token)
            if self.settings.core.config is not None:
                await boot(self, self.settings.core.config)
            await self.follow_options()
            for name, startup in self._observers["startup"]:
                begun = time.monotonic()
                try:
                    await startup(engine=self)
                except BootError:
                    raise
                except Exception as error:
                    words = f"{type(error).__name__}: {error}{place(error)}"
                    raise BootError(f"plugin {name} failed in startup: {words}") from error
                self.slow_hooks.look(name, "startup", begun)
            stack.push_async_callback(self.notify, "shutdown")
            group = await stack.enter_async_context(anyio.create_task_group())
            await self.runner.run(group, await recover(self))
            await self.tasks.run(group)
            self._clearing = anyio.CancelScope()
            group.start_soon(retention.keep, self, self._clearing)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.drain(0)
        await self._stack.aclose()

    async def drain(self, seconds: float) -> None:
        """Takes no more work and brings what runs to an end, or after the seconds to a record."""
        self.runner.draining = True
        self._clearing.cancel()
        self.tasks.wake()
        self.journal.close_open_ends()
        await self.runner.drain(seconds)

    def migrated(self, beat: Callable[[], None] | None = None) -> AbstractContextManager[Connection]:
        """A connection to the database, with the tables of the core and of every plugin up to date."""
        return migrated(self.db.path, self.migrations, self._check_new_key, beat)

    def _check_new_key(self, conn: Connection) -> None:
        if self._key_is_new:
            key_check.check_new_key(self._key, conn)
            self._key_is_new = False

    async def _record_end(self, keeping: ExitStack) -> None:
        """Lets go of the log only where the file says that nothing is missing without it."""
        try:
            await self.db.write(epoch.end)
            keeping.close()
        except StorageError as error:
            log.warning("the end of the engine is not recorded: %s", error)

    async def follow_options(self) -> None:
        """Puts into effect what the stored settings say now."""
        async with self._following:  # what was read last is applied last
            stored = await self.db.read(stored_settings.changed)
            self.options.apply({key: value for key, (value, _) in stored.items()})

    def reserves(self, name: str) -> bool:
        """Whether a name is for the engine's own tools and its plugins', so that no tool from outside may have it."""
        name = name.casefold()
        return name in self._reserved or name.startswith(self._reserved_beginnings)

    def derived_secrets(self, purpose: bytes) -> Secrets:
        """Secrets with a key of their own, for what must not be opened by those of another purpose."""
        return Secrets.derived(self._key, purpose)

    def observed(self, hook: str) -> bool:
        """Whether a plugin observes the hook."""
        return bool(self._observers[hook])

    async def notify(self, hook: str, **given: Any) -> None:
        """Tells every observer, in order; one that fails or takes too long is logged with its plugin's name."""
        for name, observer in self._observers[hook]:
            begun = time.monotonic()
            try:
                with uncancelled(), anyio.fail_after(OBSERVER_SECONDS):
                    await observer(engine=self, **given)
            except Exception:
                log.exception("plugin %s failed in %s", name, hook)
            if time.monotonic() - begun >= AWAITED_SECONDS:
                self.slow_hooks.look(name, hook, begun)

    def record(self, conn: Connection, action: Action) -> None:
        """Has every recorder store an action; NotRecorded names the plugin whose recorder fails."""
        for plugin, recorder in self.recorders:
            begun = time.monotonic()
            try:
                recorder(conn, action)
            except Exception as error:
                if isinstance(error, EngineError) or storage_errors.is_known(error):
                    raise
                raise NotRecorded(f"The plugin {plugin} could not record this, so nothing was changed") from error
            self.slow_hooks.look(plugin, "its recorder", begun, BLOCKING_SECONDS)

    def samples(self) -> list[Sample]:
        """What every plugin tells at a scrape of /metrics; one that fails is logged with its name."""
        found: list[Sample] = []
        for name, collect in self.plugins.implementations("collect_metrics"):
            begun = time.monotonic()
            try:
                told = list(collect(engine=self))
                if strange := [one for one in told if not isinstance(one, Sample)]:
                    raise TypeError(f"{strange[0]!r:.80} is no Sample")
                found += told
            except Exception:
                log.exception("plugin %s failed in collect_metrics", name)
            self.slow_hooks.look(name, "collect_metrics", begun, BLOCKING_SECONDS)
        return found

    async def agents(self) -> list[Agent]:
        """Every agent by name."""
        return await self.db.read(agents.list_all)

    async def spawn(self, call: Call, agent: str, message: str, limits: SpawnLimits) -> str:
        """Runs an agent within a tool call and answers with its last word; see `spawning.spawn`."""
        return await spawn(self, call, agent, message, limits)

    async def offer(self, config: Mapping[str, Any]) -> bool:
        """Stores models, agents and schemas if the engine never had any; whether it did.

        `config` has the lists `models`, `agents` and `schemas` with the fields of their POST bodies.
        """
        offer = msgspec.convert(config, Offer)

        def store(conn: Any) -> bool:
            if models.ever(conn) or agents.count(conn):
                return False
            for model in offer.models:
                models.create(conn, model, self.secrets)
            for agent in offer.agents:
                agents.create(conn, agent)
            for schema in offer.schemas:
                schemas.create(conn, schema)
            return True

        return await self.db.write(store)

    async def _bootstrap(self, token: str) -> None:
        if not await self.db.write(tokens.bootstrap, self.scopes, token):
            log.info("the token bootstrap-admin exists; BYTEBREW_BOOTSTRAP_ADMIN_TOKEN does not replace it")

    @staticmethod
    def _make_private(folder: Any) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.stat().st_uid == os.geteuid():  # the rights of another's volume are its owner's affair
                folder.chmod(0o700)
        except OSError as error:
            raise SettingsError(f"BYTEBREW_DATA_DIR: {folder} cannot be used: {error.strerror}") from error


def _adding(registry: Any, key: str) -> Any:
    return lambda owner, thing: registry.add(owner, getattr(thing, key, ""), thing)
