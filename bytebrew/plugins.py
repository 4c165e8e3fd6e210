"""Plugins: found through entry points, blocked by name, loaded, and asked for what they declare."""

import difflib
import importlib.metadata
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import pluggy
from msgspec import Struct

from bytebrew import hookspecs
from bytebrew.errors import BootError, SettingsError

T = TypeVar("T")

GROUP = "bytebrew"


class Plugin(Struct, frozen=True, kw_only=True):
    """A plugin as `bytebrew plugins` lists it."""

    name: str
    distribution: str
    version: str
    hooks: tuple[str, ...]
    state: str


class Plugins:
    """The loaded plugins and those that were left out."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager("bytebrew")
        self._manager.add_hookspecs(hookspecs)
        self._distributions: dict[str, tuple[str, str]] = {}
        self._left_out: list[str] = []

    def list_all(self) -> list[Plugin]:
        """Every plugin by name."""
        rows = []
        for name, (distribution, version) in sorted(self._distributions.items()):
            callers = self._manager.get_hookcallers(self._manager.get_plugin(name)) or []
            hooks = tuple(sorted(caller.name for caller in callers))
            state = "disabled" if name in self._left_out else "loaded"
            rows.append(Plugin(name=name, distribution=distribution, version=version, hooks=hooks, state=state))
        return rows

    def implementations(self, hook: str) -> list[tuple[str, Callable[..., Any]]]:
        """Who implements a hook, by name and in order of loading, as functions of the hook's keyword arguments."""
        return [
            (one.plugin_name, _by_name(one.function, one.argnames))
            for one in getattr(self._manager.hook, hook).get_hookimpls()
        ]

    def declare(self, hook: str, take: Callable[[str, Any], None], **given: Any) -> None:
        """Runs a declaring hook; `take` receives the plugin's name with each thing that it registers."""
        for name, implementation in self.implementations(hook):
            with self._blamed(name, hook):
                implementation(register=lambda thing, name=name: take(name, thing), **given)

    def commands(self, cli: Any) -> None:
        """Lets every plugin add its subcommands."""
        for name, implementation in self.implementations("register_commands"):
            with self._blamed(name, "register_commands"):
                implementation(cli=cli)

    def load(self, disabled: Sequence[str], folder: Path | None, extra: Iterable[tuple[str, object]] = ()) -> None:
        """Loads every plugin that is installed, lies in the folder or is handed in, but for the disabled ones."""
        points = {point.name: point for point in _entry_points(folder)}
        for name, point in sorted(points.items()):
            dist = point.dist
            self._distributions[name] = (dist.name, dist.version) if dist else ("unknown", "0")
        handed = dict(extra)
        for name in handed:
            self._distributions[name] = ("handed in", "0")
        unknown = [name for name in disabled if name not in self._distributions]
        if unknown:
            near = [match for name in unknown for match in difflib.get_close_matches(name, self._distributions, 1)]
            hint = f"did you mean {', '.join(near)}?" if near else f"known are {', '.join(sorted(self._distributions))}"
            raise SettingsError(f"BYTEBREW_DISABLED_PLUGINS names no plugin: {', '.join(unknown)}; {hint}")
        self._left_out = [name for name in self._distributions if name in disabled]
        for name in sorted(self._distributions):
            if name in self._left_out:
                continue
            with self._blamed(name, "its module"):
                self._register(name, handed[name] if name in handed else points[name].load())

    def _register(self, name: str, plugin: object) -> None:
        self._manager.register(plugin, name)
        self._manager.check_pending()
        for caller in self._manager.get_hookcallers(plugin) or []:
            for one in caller.get_hookimpls():
                observing = caller.name in hookspecs.OBSERVING
                if one.plugin is plugin and inspect.iscoroutinefunction(one.function) is not observing:
                    raise TypeError(f"{caller.name} must {'' if observing else 'not '}be an async function")
        if not self._manager.get_hookcallers(plugin):
            raise TypeError("it implements no hook: mark its functions with @bytebrew.hookimpl")

    @contextmanager
    def _blamed(self, name: str, where: str) -> Iterator[None]:
        try:
            yield
        except BootError:
            raise
        except Exception as error:
            distribution, version = self._distributions[name]
            words = f"plugin {name} (of {distribution} {version}) failed in {where}: {type(error).__name__}: {error}"
            raise BootError(words) from error


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


def _entry_points(folder: Path | None) -> Iterator[importlib.metadata.EntryPoint]:
    yield from importlib.metadata.entry_points(group=GROUP)
    if folder is None:
        return
    if not folder.is_dir():
        raise SettingsError(
            f"BYTEBREW_PLUGINS_DIR: {folder} is no folder; fill it with pip install --target {folder} ..."
        )
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    for distribution in importlib.metadata.distributions(path=[str(folder)]):
        yield from distribution.entry_points.select(group=GROUP)
