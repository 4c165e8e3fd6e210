"""Plugins: found through entry points, blocked by name, loaded, and asked for what they declare."""

import difflib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import EntryPoint, distributions, entry_points
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import pluggy
from msgspec import Struct

from bytebrew import hookspecs
from bytebrew.errors import BootError, SettingsError
from bytebrew.settings import Core, Row, rows

T = TypeVar("T")

GROUP = "bytebrew"
HANDED_IN = "handed in"
CORE = "core"


class Plugin(Struct, frozen=True, kw_only=True):
    """A plugin as `bytebrew plugins` lists it."""

    name: str
    distribution: str
    version: str
    hooks: tuple[str, ...]
    state: str


class Source(NamedTuple):
    """Where a plugin comes from."""

    distribution: str
    version: str
    plugin: object

    def load(self) -> object:
        """The plugin: a module or an object with hooks."""
        return self.plugin.load() if isinstance(self.plugin, EntryPoint) else self.plugin


class Plugins:
    """The loaded plugins and those that were left out."""

    def __init__(self) -> None:
        self._pluggy = pluggy.PluginManager("bytebrew")
        self._pluggy.add_hookspecs(hookspecs)
        self._sources: dict[str, Source] = {}

    def list_all(self) -> list[Plugin]:
        """Every plugin by name."""
        found = []
        for name, (distribution, version, _) in sorted(self._sources.items()):
            loaded = self._pluggy.get_plugin(name)
            callers = (self._pluggy.get_hookcallers(loaded) or []) if loaded else []
            hooks = tuple(sorted(caller.name for caller in callers))
            state = "loaded" if loaded else "disabled"
            found.append(Plugin(name=name, distribution=distribution, version=version, hooks=hooks, state=state))
        return found

    def implementations(self, hook: str) -> list[tuple[str, Callable[..., Any]]]:
        """Who implements a hook, by name and in order, as functions of the hook's keyword arguments.

        The order is that of the plugins' names, after those with `tryfirst` and before those with `trylast`.
        """
        caller = getattr(self._pluggy.hook, hook)
        found = sorted(caller.get_hookimpls(), key=lambda one: one.trylast - one.tryfirst)
        whole = caller.spec.argnames
        return [
            (one.plugin_name, one.function if one.argnames == whole else _by_name(one.function, one.argnames))
            for one in found
        ]

    def declare(self, hook: str, take: Callable[[str, Any], None], **given: Any) -> None:
        """Runs a declaring hook; `take` receives the plugin's name with each thing that it registers."""
        kind = hookspecs.DECLARING[hook]

        def registering(name: str) -> Callable[[Any], None]:
            def register(thing: Any) -> None:
                if not isinstance(thing, kind):
                    raise TypeError(f"it registers {thing!r}, which is no {kind.__name__}")
                take(name, thing)

            return register

        for name, implementation in self.implementations(hook):
            with self._blamed(name, hook):
                implementation(register=registering(name), **given)

    def tables(self) -> list[type[Struct]]:
        """The settings tables of the core and of every plugin; no variable is in two of them."""
        found: list[type[Struct]] = []
        variables: Registry[Row] = Registry("setting")

        def take(owner: str, table: type[Struct]) -> None:
            for row in rows([table]):
                variables.add(owner, row.variable, row)
            found.append(table)

        take(CORE, Core)
        self.declare("register_settings", take)
        return found

    def commands(self, cli: Any) -> None:
        """Lets every plugin add its subcommands."""
        for name, implementation in self.implementations("register_commands"):
            with self._blamed(name, "register_commands"):
                implementation(cli=cli)

    def load(self, disabled: Sequence[str], folder: Path | None, extra: Iterable[tuple[str, object]] = ()) -> None:
        """Loads every plugin that is installed, lies in the folder or is handed in, but for the disabled ones."""
        for name, source in (*_installed(folder), *_handed_in(extra)):
            if name == CORE:
                raise BootError(f"a plugin cannot be named {CORE}: rename that of {source.distribution}")
            first = self._sources.setdefault(name, source)
            if first is not source and (first.distribution != source.distribution or source.distribution == HANDED_IN):
                raise BootError(f"two plugins are named {name}: of {first.distribution} and of {source.distribution}")
        unknown = [name for name in disabled if name not in self._sources]
        if unknown:
            near = [match for name in unknown for match in difflib.get_close_matches(name, self._sources, 1)]
            hint = f"did you mean {', '.join(near)}?" if near else f"known are {', '.join(sorted(self._sources))}"
            raise SettingsError(f"BYTEBREW_DISABLED_PLUGINS names no plugin: {', '.join(unknown)}; {hint}")
        for name in sorted(self._sources):
            if name not in disabled:
                with self._blamed(name, "its module"):
                    self._register(name, self._sources[name].load())

    def _register(self, name: str, plugin: object) -> None:
        self._pluggy.register(plugin, name)
        self._pluggy.check_pending()
        callers = self._pluggy.get_hookcallers(plugin) or []
        if not callers:
            raise TypeError("it implements no hook: mark its functions with @bytebrew.hookimpl")
        for caller in callers:
            observing = caller.name in hookspecs.OBSERVING
            for one in caller.get_hookimpls():
                if one.plugin is not plugin:
                    continue
                if one.wrapper or one.hookwrapper:
                    raise TypeError(f"{caller.name} is a hook wrapper, which nothing here runs")
                if inspect.iscoroutinefunction(one.function) is not observing:
                    raise TypeError(f"{caller.name} must {'' if observing else 'not '}be an async function")

    @contextmanager
    def _blamed(self, name: str, where: str) -> Iterator[None]:
        try:
            yield
        except BootError:
            raise
        except Exception as error:
            distribution, version, _ = self._sources[name]
            words = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise BootError(f"plugin {name} (of {distribution} {version}) failed in {where}: {words}") from error


class Registry(dict[str, T], Generic[T]):
    """Things by name, each with the plugin that brought it; two of one name stop the boot."""

    def __init__(self, noun: str) -> None:
        super().__init__()
        self._noun = noun
        self._owners: dict[str, str] = {}

    def add(self, owner: str, name: str, thing: T) -> None:
        """Takes a thing, or raises BootError that names both plugins."""
        if not name:
            raise BootError(f"plugin {owner} registers a {self._noun} without a name")
        if name in self:
            raise BootError(f"plugins {self._owners[name]} and {owner} both register the {self._noun} '{name}'")
        self[name] = thing
        self._owners[name] = owner


def _by_name(function: Callable[..., Any], names: Sequence[str]) -> Callable[..., Any]:
    return lambda **given: function(**{name: given[name] for name in names})


def _handed_in(plugins: Iterable[tuple[str, object]]) -> Iterator[tuple[str, Source]]:
    for name, plugin in plugins:
        yield name, Source(HANDED_IN, "0", plugin)


def _installed(folder: Path | None) -> Iterator[tuple[str, Source]]:
    """Every entry point; a distribution that is found in several places counts where Python imports it from."""
    for point in entry_points(group=GROUP):
        yield point.name, _source(point)
    if folder is None:
        return
    if not folder.is_dir():
        raise SettingsError(
            f"BYTEBREW_PLUGINS_DIR: {folder} is no folder; fill it with pip install --target {folder} ..."
        )
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    for found in distributions(path=[str(folder)]):
        for point in found.entry_points.select(group=GROUP):
            yield point.name, _source(point)


def _source(point: EntryPoint) -> Source:
    dist = point.dist
    return Source(dist.name, dist.version, point) if dist else Source("unknown", "0", point)
