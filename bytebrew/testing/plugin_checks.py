"""Checks of a whole plugin in real engines: what every plugin must do, whatever it registers."""

import asyncio
import re
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from bytebrew.base.errors import BootError, SettingsError
from bytebrew.contract.route import Route
from bytebrew.plugins import place
from bytebrew.testing.engines import client, engine
from bytebrew.testing.fake_vendor import require

_TABLE = re.compile(r"\bcreate\s+(?:virtual\s+)?table\s+(?:if\s+not\s+exists\s+)?[\"\[`]?(\w+)", re.IGNORECASE)


class PluginSubject(NamedTuple):
    """An installed plugin by name, with its module, and the settings that it needs."""

    name: str
    module: str
    settings: Mapping[str, str]


class PluginCheck(NamedTuple):
    """A check of an installed plugin; raises AssertionError with what is wrong."""

    run: Callable[[PluginSubject], Awaitable[None]]

    def __str__(self) -> str:
        return self.run.__name__.replace("_", " ")

    async def __call__(self, subject: PluginSubject) -> None:
        try:
            async with asyncio.timeout(60):
                await self.run(subject)
        except AssertionError:
            raise
        except (BootError, SettingsError) as error:
            raise AssertionError(f"the engine does not start: {error}") from error
        except Exception as error:
            message = "no end after 60 s" if isinstance(error, TimeoutError) else f"it raised {error!r}{place(error)}"
            raise AssertionError(message) from error


async def plugin_conformance(name: str, module: str, settings: Mapping[str, str] | None = None) -> None:
    """Runs all checks of an installed plugin; one AssertionError lists the failures."""
    failures = []
    for check in PLUGIN_CHECKS:
        try:
            await check(PluginSubject(name, module, settings or {}))
        except AssertionError as error:
            failures.append(f"{check}: {error}")
    require(not failures, "\n".join(failures))


async def starts_and_stops_twice_on_the_same_database(subject: PluginSubject) -> None:
    """Migrations and `startup` work on a file that is there already, and nothing runs on after `shutdown`."""
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            before = asyncio.all_tasks()
            async with engine(data=Path(folder), settings=subject.settings) as running:
                state = {plugin.name: plugin.state for plugin in running.plugins.list_all()}.get(subject.name)
                require(state == "loaded", f"the plugin is {state or 'not installed'}")
                warnings = [one for one in running.plugins.warnings if one.startswith(f"plugin {subject.name} ")]
                require(not warnings, "; ".join(warnings))
            await asyncio.sleep(0)
            rest = [task for task in asyncio.all_tasks() - before if _module(task) == subject.module]
            require(not rest, f"a task of it runs on after shutdown: {rest[:1]}")


async def may_be_disabled_later(subject: PluginSubject) -> None:
    """A database that it was used with opens without it, and with it again."""
    disabled = {"BYTEBREW_DISABLED_PLUGINS": subject.name}
    with tempfile.TemporaryDirectory() as folder:
        for more in ({}, disabled, {}):
            settings = {**subject.settings, **more} if not more else {**more}
            async with engine(data=Path(folder), settings=settings):
                pass


async def names_its_tables_after_itself(subject: PluginSubject) -> None:
    """Tables of two plugins never collide."""
    async with engine(settings=subject.settings) as running:
        steps = running.migrations.get(subject.name, ())
        tables = [table for _, sql in steps for table in _TABLE.findall(sql)]
        wrong = [table for table in tables if not f"{table}_".startswith(f"{subject.name}_")]
        require(not wrong, f"its tables {', '.join(wrong)} do not begin with {subject.name}_")


async def answers_requests_of_strangers(subject: PluginSubject) -> None:
    """A caller without a credential gets a 401 at each route that has a scope; no route fails on an empty request."""
    async with engine(settings=subject.settings) as running:
        owned = {one for plugin in running.plugins.list_all() if plugin.name == subject.name for one in plugin.routes}
        routes = [route for route in running.routes if f"{route.method} {route.path}" in owned]
        async with client(running, token="") as stranger, client(running) as admin:
            for route in routes:
                path, name = re.sub(r"\{[^}]*\}", "x", route.path), f"{route.method} {route.path}"
                if route.scope is not None:
                    refused = await stranger.request(route.method, path)
                    require(refused.status_code == 401, f"{name} answers {refused.status_code} without a credential")
                if not _endless(route):
                    answer = await admin.request(route.method, path)
                    require(answer.status_code < 500, f"{name} answers {answer.status_code}: {answer.text[:500]}")


async def exports_what_it_imports(subject: PluginSubject) -> None:
    """The configuration file that is exported can be imported."""
    async with engine(settings=subject.settings) as running, client(running) as http:
        exported = await http.get("/api/v1/config/export")
        require(exported.status_code == 200, f"the export answers {exported.status_code}: {exported.text[:500]}")
        headers = {"Content-Type": "application/yaml"}
        imported = await http.post("/api/v1/config/import?dry_run=true", content=exported.content, headers=headers)
        require(imported.status_code == 200, f"the import answers {imported.status_code}: {imported.text[:500]}")


async def lets_in_nobody_who_is_not_known(subject: PluginSubject) -> None:
    """A request without a credential, or with one that nobody has, is a 401 in each auth mode of the plugin."""
    async with engine(settings=subject.settings) as running:
        modes = [
            name
            for name, mode in running.auth_modes.items()
            if not mode.prefixes and type(mode).__module__.partition(".")[0] == subject.module
        ]
    for mode in modes:
        try:
            async with engine(settings={**subject.settings, "BYTEBREW_AUTH_MODE": mode}) as running:
                for headers in (
                    {},
                    {"Authorization": "Bearer nobody-has-this"},
                    {"Authorization": "Basic bm9ib2R5OnB3"},
                ):
                    async with client(running, token="") as http:
                        answer = await http.get("/api/v1/sessions", headers=headers)
                    require(
                        answer.status_code == 401, f"mode {mode} answers {answer.status_code} to {headers or 'no one'}"
                    )
        except SettingsError:
            continue  # the mode needs settings that these are not; its own tests have them


def _module(task: asyncio.Task[object]) -> str:
    """The top-level module of the task's coroutine; empty if unknown."""
    frame = getattr(task.get_coro(), "cr_frame", None)
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] if frame else ""


def _endless(route: Route) -> bool:
    return route.streams and not route.begins_turn


PLUGIN_CHECKS = (
    *map(
        PluginCheck, (starts_and_stops_twice_on_the_same_database, may_be_disabled_later, names_its_tables_after_itself)
    ),
    *map(PluginCheck, (answers_requests_of_strangers, exports_what_it_imports, lets_in_nobody_who_is_not_known)),
)
