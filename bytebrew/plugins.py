"""Discovers plugins through entry points, blocks disabled ones, loads the others and runs their declaring hooks."""

import difflib
import importlib
import inspect
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from importlib.metadata import Distribution, EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import pluggy
from msgspec import Struct

from bytebrew import plugin_folder
from bytebrew.base.errors import BootError, SettingsError
from bytebrew.base.formats import now
from bytebrew.base.masking import redact
from bytebrew.base.settings import Core, Row, rows
from bytebrew.contract import hookspecs
from bytebrew.contract.entities import Live
from bytebrew.contract.route import Route
from bytebrew.contract.tool import Tool
from bytebrew.registered_items import check, check_types
from bytebrew.requirements import lacking
from bytebrew.version import CONTRACT, OLDEST_CONTRACT, __version__, unfit

T = TypeVar("T")

GROUP = "bytebrew"
SLOW_SECONDS = 1.0
"""A declaring hook that takes longer is reported at the start."""
MOST_TEXT = 10_000
"""Characters of a failure's message, and of its traceback, that are kept."""
HANDED_IN = "handed in"
OWN_DISTRIBUTION = "bytebrew"
CORE = "core"
NO_PLUGINS = ("<", *(f"{Path(file).parent}{os.sep}" for file in (__file__, importlib.__file__, pluggy.__file__)))
"""Prefixes of file names in a traceback that are not a plugin's code."""


class PluginFailure(Struct, frozen=True, kw_only=True):
    """The last exception of a plugin since the start, with the number of all; `where` is its hook."""

    at: str
    where: str
    message: str
    traceback: str
    count: int


class Plugin(Struct, frozen=True, kw_only=True):
    """A plugin with its distribution, its hooks and its API routes; `failure` is null if it has not failed.

    `requires` is the version of the contract that it needs; 0 if it is disabled, as its module is then not read.
    """

    name: str
    distribution: str
    version: str
    requires: int
    state: Literal["loaded", "disabled"]
    hooks: tuple[str, ...]
    routes: tuple[str, ...]
    failure: Live[PluginFailure | None]


class Source(NamedTuple):
    """The origin of a plugin."""

    plugin: object
    distribution: str = HANDED_IN
    version: str = "0"
    requires: tuple[str, ...] = ()

    def load(self) -> object:
        """The plugin: a module or an object with hooks."""
        return self.plugin.load() if isinstance(self.plugin, EntryPoint) else self.plugin

    def names(self, module: object) -> bool:
        """Whether it is an installed plugin with this module, which its own tests may pass as well."""
        return isinstance(self.plugin, EntryPoint) and self.plugin.value == getattr(module, "__name__", None)


class _Hooks(pluggy.PluginManager):
    """pluggy's plugin manager without its safeguards for properties, which modules do not need."""

    def __init__(self) -> None:
        super().__init__("bytebrew")
        self.add_hookspecs(hookspecs)
        self._arguments = {name: one.spec.argnames for name, one in vars(self.hook).items() if one.spec}

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:
        if name.startswith("_"):
            return None
        if not isinstance(plugin, ModuleType):
            options = super().parse_hookimpl_opts(plugin, name)
        else:
            options = getattr(function := vars(plugin).get(name), "bytebrew_impl", None)
            options = options if isinstance(options, dict) and inspect.isroutine(function) else None
        if options is not None:
            self._check_arguments(name, getattr(plugin, name))
        return options

    def _check_arguments(self, hook: str, function: Callable[..., Any]) -> None:
        known = self._arguments
        if hook not in known:
            near = difflib.get_close_matches(hook, known, 1)
            raise TypeError(f"there is no hook '{hook}'" + (f"; did you mean '{near[0]}'?" if near else ""))
        for name, parameter in inspect.signature(function).parameters.items():
            strange = name not in known[hook] or parameter.kind != parameter.POSITIONAL_OR_KEYWORD
            if strange and parameter.default is parameter.empty:
                raise TypeError(f"{hook} has no argument '{name}'; it may take {', '.join(known[hook])}")


class Plugins:
    """The loaded plugins and the disabled ones."""

    def __init__(self) -> None:
        self._pluggy = _Hooks()
        self._sources: dict[str, Source] = {}
        self._lacking = cache(lacking)
        self.warnings: list[str] = []
        """Warnings for the log, each with the plugin's name if there is one."""
        self._routes: dict[str, list[str]] = {}
        self._failures: dict[str, PluginFailure] = {}

    def warn(self, name: str, predicate: str) -> None:
        """Adds a warning about a plugin, once."""
        if (sentence := f"{self._named(name)} {predicate}") not in self.warnings:
            self.warnings.append(sentence)

    def list_all(self) -> list[Plugin]:
        """Every plugin by name."""
        found = []
        for name, source in sorted(self._sources.items()):
            loaded = self._pluggy.get_plugin(name)
            callers = (self._pluggy.get_hookcallers(loaded) or []) if loaded else []
            found.append(
                Plugin(
                    name=name,
                    distribution=source.distribution,
                    version=source.version,
                    requires=_required_contract(loaded) if loaded else 0,
                    state="loaded" if loaded else "disabled",
                    hooks=tuple(sorted(caller.name for caller in callers)),
                    routes=tuple(self._routes.get(name, ())),
                    failure=self._failures.get(name),
                )
            )
        return found

    def add_route(self, name: str, route: Route) -> None:
        """Notes a route of the API that a plugin has registered."""
        if not route.page:
            self._routes.setdefault(name, []).append(f"{route.method} {route.path}")

    def failed(self, name: str, where: str, error: Exception) -> None:
        """Keeps what a plugin failed with, for `list_all`."""
        earlier = self._failures.get(name)
        self._failures[name] = PluginFailure(
            at=now(),
            where=where,
            message=redact(f"{type(error).__name__}: {error}")[:MOST_TEXT],
            traceback=redact("".join(traceback.format_exception(error)))[-MOST_TEXT:],
            count=earlier.count + 1 if earlier else 1,
        )

    def implementations(self, hook: str) -> list[tuple[str, Callable[..., Any]]]:
        """The implementations of a hook with their plugins' names, as functions of the hook's keyword arguments.

        They are sorted by name, those with `tryfirst` before and those with `trylast` after the others.
        """
        caller = getattr(self._pluggy.hook, hook)
        hookimpls = sorted(caller.get_hookimpls(), key=lambda hookimpl: hookimpl.trylast - hookimpl.tryfirst)
        return [
            (
                hookimpl.plugin_name,
                hookimpl.function
                if hookimpl.argnames == caller.spec.argnames
                else _with_arguments(hookimpl.function, hookimpl.argnames),
            )
            for hookimpl in hookimpls
        ]

    def declare(self, hook: str, add: Callable[[str, Any], None], **arguments: Any) -> None:
        """Runs a declaring hook; `add` receives the plugin's name with each item that it registers."""
        kind = hookspecs.DECLARING[hook]

        def register(name: str, items: list[Any], item: Any) -> None:
            if not isinstance(item, kind):
                raise TypeError(f"it registers {item!r}, which is no {kind.__name__}")
            check(hook, item)
            if isinstance(item, Tool) and not item.description.strip():
                fault = f"has the tool '{item.name}' without a docstring, so no model knows what it does"
                self.warn(name, fault + written_at(item))
            add(name, item)
            items.append(item)

        for name, implementation in self.implementations(hook):
            begun = time.monotonic()
            with self._blamed(name, hook):
                items: list[Any] = []
                if implementation(register=partial(register, name, items), **arguments) is not None:
                    raise TypeError("it answers something: call register with each thing, and answer nothing")
                if kind is Route:
                    check_types(items)
            if (seconds := time.monotonic() - begun) >= SLOW_SECONDS:
                self.warn(name, f"took {seconds:.1f} s in {hook}, and the engine starts later for it")

    def tables(self) -> list[type[Struct]]:
        """The settings tables of the core and of every plugin; BootError if two have the same variable."""
        found: list[type[Struct]] = []
        variables: Registry[Row] = Registry("setting")

        def add(owner: str, table: type[Struct]) -> None:
            if not issubclass(table, Struct):
                raise TypeError(f"it registers {table!r}, which is no Struct")
            for row in rows([table]):
                variables.add(owner, row.variable, row)
            found.append(table)

        add(CORE, Core)
        self.declare("register_settings", add)
        return found

    def commands(self, cli: Any, opened: hookspecs.Opened) -> None:
        """Lets every plugin add its subcommands; `opened` opens the data folder for them."""
        for name, implementation in self.implementations("register_commands"):
            with self._blamed(name, "register_commands"):
                before = dict(cli.commands)
                implementation(cli=cli, opened=opened)
                if taken := [one for one, command in before.items() if cli.commands.get(one) is not command]:
                    raise TypeError(f"there is a command '{taken[0]}' already")

    def load(self, disabled: Sequence[str], folder: Path | None, extra: Iterable[tuple[str, object]] = ()) -> None:
        """Loads the installed plugins, those in the folder and those passed in, except the disabled ones."""
        more = plugin_folder.enter(folder) if folder is not None else []
        if folder is not None:
            self.warnings += plugin_folder.unused_distributions(folder, more, GROUP)
        for name, source in (*_installed(more), *_handed_in(extra)):
            if name == CORE:
                raise BootError(f"a plugin cannot be named {CORE}: rename that of {source.distribution}")
            first = self._sources.setdefault(name, source)
            if source.distribution == HANDED_IN and first.names(source.plugin):
                continue
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
                for words in self._unmet(name):
                    self.warn(name, words)

    def _unmet(self, name: str) -> list[str]:
        """Unmet requirements of the plugin's distribution; `doctor` checks the engine's own."""
        source = self._sources[name]
        return [] if source.distribution == OWN_DISTRIBUTION else self._lacking(source.requires)

    def _named(self, name: str) -> str:
        source = self._sources[name]
        return f"plugin {name} (of {source.distribution} {source.version})"

    def _register(self, name: str, plugin: object) -> None:
        if words := unfit(_required_contract(plugin)):
            raise TypeError(words)
        if other := self._pluggy.get_name(plugin):
            raise TypeError(f"its module is the plugin {other} already: a module is one plugin")
        self._pluggy.register(plugin, name)
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
        except (Exception, SystemExit) as error:
            message = f"{type(error).__name__}: {' '.join(str(error).split())}{place(error)}"
            if isinstance(error, ImportError) and error.name == "bytebrew":
                message += f"; this is bytebrew {__version__} with contract {CONTRACT}"
            message += "".join(f"; it {one}" for one in self._unmet(name))
            raise BootError(f"{self._named(name)} failed in {where}: {message}") from error


class Registry(dict[str, T], Generic[T]):
    """Registered items by name, each with the plugin that owns it; a duplicate name stops the boot."""

    def __init__(self, noun: str) -> None:
        super().__init__()
        self._noun = noun
        self._owners: dict[str, str] = {}

    def add(self, owner: str, name: str, item: T) -> None:
        """Adds an item; BootError names both plugins if the name is taken."""
        if not name:
            raise BootError(f"plugin {owner} has no name for its {self._noun}")
        if name in self:
            raise BootError(f"plugins {self._owners[name]} and {owner} both register the {self._noun} '{name}'")
        self[name] = item
        self._owners[name] = owner


def written_at(tool: Tool) -> str:
    """` (file:line)` of a tool's function or class, to append to a message; empty if unknown."""
    written = getattr(tool, "__wrapped__", type(tool))
    try:
        return f" ({Path(inspect.getfile(written)).name}:{inspect.getsourcelines(written)[1]})"
    except (OSError, TypeError):
        return ""


def place(error: BaseException) -> str:
    """` (file:line)` of the innermost plugin code in a traceback, to append to a message; empty if there is none."""
    stack = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in stack if not frame.filename.startswith(NO_PLUGINS)]
    lines = [frame.lineno for frame in frames if frame.filename == frames[0].filename]
    return f" ({Path(frames[0].filename).name}:{lines[-1]})" if lines else ""


def _with_arguments(function: Callable[..., Any], names: Sequence[str]) -> Callable[..., Any]:
    return lambda **arguments: function(**{name: arguments[name] for name in names})


def _required_contract(plugin: object) -> Any:
    return getattr(plugin, "bytebrew_contract", OLDEST_CONTRACT)


def _handed_in(plugins: Iterable[tuple[str, object]]) -> Iterator[tuple[str, Source]]:
    for name, plugin in plugins:
        yield name, Source(plugin)


def _installed(more: Sequence[Distribution]) -> Iterator[tuple[str, Source]]:
    """Every entry point; if a distribution is installed twice, the one that Python imports counts."""
    yield from _importable(tuple(sys.path))
    for found in more:
        described = _described(found)
        for point in found.entry_points.select(group=GROUP):
            yield point.name, Source(point, *described)


def installed_names() -> list[str]:
    """The names of the plugins that are installed beside the engine, its own included; none is loaded."""
    return [point.name for point in entry_points(group=GROUP)]


@cache  # tests build many engines in a process
def _importable(_: tuple[str, ...]) -> list[tuple[str, Source]]:
    described = cache(_described)  # reading a distribution's metadata is the slowest part
    return [(point.name, Source(point, *described(point.dist))) for point in entry_points(group=GROUP)]


def _described(dist: Distribution | None) -> tuple[str, str, tuple[str, ...]]:
    """A distribution's name, version and requirements."""
    if dist is None:
        return "unknown", "0", ()
    metadata = dist.metadata
    return metadata["Name"], metadata["Version"], tuple(metadata.get_all("Requires-Dist") or ())
