"""Who may import whom: floors, each of which knows only itself and those below, imports for types included."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = (
    "built_from version base",
    "contract",
    "store",
    "nodes",
    "conversation config",
    "requirements wheel_tags plugin_lock plugin_folder registered_items plugins chosen_store observers engine",
    "web",
    "cli testing __main__",
)
"""Folders and files of bytebrew/, from the lowest floor to the highest."""
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names.split()}
THIRD_PARTY = {
    "msgspec": ("",),
    "anyio": ("",),
    "pluggy": ("contract.hookspecs", "plugins"),
    "nacl": ("base.jwt", "base.secrets"),
    "cryptography": ("base.jwt.issuer_keys",),
    "httpx": ("base.http_client", "testing"),
    "aiohappyeyeballs": ("base.http_client",),
    "httptools": ("base.http_client",),
    "aiosqlite": ("store.database.aiosqlite_fixes",),
    "sqlite3": ("store.sqlite", "store.backups", "base.full_text"),
    "ruamel": ("config.yaml_tree",),
    "starlette": ("web", "testing"),
    "hypercorn": ("web.server",),
    "h2": ("web.server",),
    "jsonschema_rs": ("base.json_schema.schemas",),
    "click": ("cli", "contract.hookspecs"),  # a plugin's commands are added to a click Group
    "uvloop": ("cli",),
    "psycopg": ("testing",),
    "bytebrew_tokens": ("testing",),
}
"""Where what is not ours may be imported: a folder or a file, and all below it."""
FOLDERS = sorted(
    {path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("bytebrew/**/*.py")} - {"bytebrew/web/routes"}
)
MOST_FILES = {"bytebrew/store": 20}
"""The files of a folder, where that may be more than 16; the routes have a file for each heading of the API."""
CORE = {
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__"): path
    for path in ROOT.glob("bytebrew/**/*.py")
}
PLUGINS_OWN = {
    "bytebrew_knowledge": {"obstore", "sqlite_vec"},
    "bytebrew_metrics": {"prometheus_client"},
    "bytebrew_postgres": {"psycopg"},
    "bytebrew_traces": {"google", "opentelemetry"},
    "bytebrew_triggers": {"cronsim"},
}
PLUGINS = [*ROOT.glob("plugins/**/*.py"), *ROOT.glob("examples/*/bytebrew_*.py")]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every import with its line; `from a import b` is a.b where b is a module of the core."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            found = {f"{base}.{alias.name}" for alias in node.names} & set(CORE)
            yield from ((node.lineno, name) for name in found or {base})


def within(module: str, places: tuple[str, ...]) -> bool:
    return any(not place or f"{module}.".startswith(f"bytebrew.{place}.") for place in places)


@pytest.mark.parametrize("module", sorted(set(CORE) - {"bytebrew"}))
def test_a_file_imports_lower_floors_and_its_own_third_parties_only(module: str) -> None:
    floor = FLOOR[module.split(".")[1]]
    for line, wanted in imports(CORE[module]):
        where = f"{CORE[module]}:{line} imports {wanted}"
        if wanted in CORE:
            assert wanted != "bytebrew", f"{where}: the front is for plugins"
            assert FLOOR[wanted.split(".")[1]] <= floor, f"{where}, which is on a floor above"
        elif (top := wanted.split(".")[0]) in THIRD_PARTY or top not in sys.stdlib_module_names:
            assert within(module, THIRD_PARTY.get(top, ())), f"{where}, which does not belong there"


def test_no_circle_joins_modules() -> None:
    waiting = {module: {name for _, name in imports(path)} & set(CORE) for module, path in CORE.items()}
    while free := [module for module, wanted in waiting.items() if not wanted & set(waiting)]:
        for module in free:
            del waiting[module]
    assert not waiting, f"these import each other: {sorted(waiting)}"


def test_the_front_shows_base_and_contract() -> None:
    for line, wanted in imports(CORE["bytebrew"]):
        low = wanted == "typing" or FLOOR[wanted.split(".")[1]] <= 1
        assert low, f"bytebrew/__init__.py:{line} imports {wanted}"


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: path.stem)
def test_a_plugin_imports_the_front_the_standard_library_and_msgspec_only(path: Path) -> None:
    own = path.relative_to(ROOT).parts[1].removesuffix(".py")
    for line, wanted in imports(path):
        names = {*sys.stdlib_module_names, "msgspec", "click", own, *PLUGINS_OWN.get(own, ()), ""}
        allowed = wanted == "bytebrew" or wanted.split(".")[0] in names
        assert allowed, f"{path}:{line} imports {wanted}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_has_no_more_files_than_a_reader_takes_in(folder: str) -> None:
    files = [path.name for path in (ROOT / folder).glob("*.py")]
    assert len(files) <= MOST_FILES.get(folder, 16), sorted(files)
