"""Who may import whom: six floors, each of which knows only those below."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = (
    "visibility "
    "errors bounds settings messages events notation sse config logs breaker catalog options wording cursor lock clock "
    "connection versions requirements slow progress",
    "paths paging "
    "addresses hookspecs sections variables prices providers tools auth jwt secrets http api actions "
    "storage_faults pending scanning deadline unpacking network_faults pools descriptors listing refusals",
    "db integrity apart pragmas migrate migrations first_tables journal epoch store copying sealed before_migrating",
    "plugin_folder verification waiting "
    "plugins turn runner failed_turns tasks config_file checking core_sections missing dialects documents history "
    "queueing "
    "confirmations draining trimming resuming recovery results spawning retention",
    "access visitors bodies components openapi page routes byok cors forwarding idempotency transports shedding",
    "in_process "
    "engine app __main__ commands testing conformance trial server connections http2 acceptor doctor remote backup "
    "restoring status greeting",
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names.split()}
THIRD_PARTY = {
    "msgspec": set(FLOOR),
    "anyio": {name for name, floor in FLOOR.items() if floor > 0},
    "pluggy": {"hookspecs", "plugins"},
    "nacl": {"jwt", "secrets"},
    "httpx": {"http", "pools", "network_faults", "testing", "in_process"},
    "httpx_aiohttp": {"pools"},
    "aiohttp": {"http", "pools", "network_faults"},
    "aiosqlite": {"db"},
    "ruamel": {"documents"},
    "starlette": {"access", "routes", "app", "bodies", "transports", "in_process"},
    "hypercorn": {"server", "connections", "http2"},
    "h11": {"connections"},
    "h2": {"http2"},
    "click": {"__main__", "commands"},
    "uvloop": {"commands"},
}
CORE = {
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__"): path
    for path in ROOT.glob("bytebrew/**/*.py")
}
PLUGINS_OWN = {
    "bytebrew_knowledge": "sqlite_vec",
    "bytebrew_metrics": "prometheus_client",
    "bytebrew_triggers": "cronsim",
}
PLUGINS = [*ROOT.glob("plugins/**/*.py"), *ROOT.glob("examples/*/bytebrew_*.py")]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every import that runs, with its line; `from a import b` is a.b where b is a module of the core."""
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            found = {f"{base}.{alias.name}" for alias in node.names} & set(CORE)
            yield from ((node.lineno, name) for name in found or {base})
        else:
            waiting += ast.iter_child_nodes(node)


def floor_and_name(module: str) -> tuple[int, str]:
    name = module.split(".")[1]
    return FLOOR[name], name


@pytest.mark.parametrize("module", sorted(set(CORE) - {"bytebrew"}))
def test_a_file_imports_lower_floors_and_its_own_third_parties_only(module: str) -> None:
    floor, name = floor_and_name(module)
    for line, wanted in imports(CORE[module]):
        where = f"{CORE[module]}:{line} imports {wanted}"
        if wanted in CORE:
            assert wanted != "bytebrew", f"{where}: the front is for plugins"
            assert floor_and_name(wanted)[0] <= floor, f"{where}, which is on a floor above"
        elif (top := wanted.split(".")[0]) not in sys.stdlib_module_names:
            assert name in THIRD_PARTY.get(top, ()), f"{where}, which does not belong there"


def test_no_circle_joins_modules() -> None:
    waiting = {module: {name for _, name in imports(path)} & set(CORE) for module, path in CORE.items()}
    while free := [module for module, wanted in waiting.items() if not wanted & set(waiting)]:
        for module in free:
            del waiting[module]
    assert not waiting, f"these import each other: {sorted(waiting)}"


def test_the_front_shows_the_two_lowest_floors() -> None:
    for line, wanted in imports(CORE["bytebrew"]):
        assert wanted == "typing" or floor_and_name(wanted)[0] <= 1, f"bytebrew/__init__.py:{line} imports {wanted}"


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: path.stem)
def test_a_plugin_imports_the_front_the_standard_library_and_msgspec_only(path: Path) -> None:
    own = path.relative_to(ROOT).parts[1].removesuffix(".py")
    for line, wanted in imports(path):
        names = {*sys.stdlib_module_names, "msgspec", own, PLUGINS_OWN.get(own, ""), ""}
        allowed = wanted == "bytebrew" or wanted.split(".")[0] in names
        assert allowed, f"{path}:{line} imports {wanted}"
