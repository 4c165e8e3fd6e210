"""Each check of a whole plugin finds the fault that it is for, and says it in words."""

from itertools import count
from pathlib import Path

import pytest

from bytebrew.testing import PLUGIN_CHECKS, PluginSubject, plugin_conformance
from tests.commands import install
from tests.test_plugin_folder import TOOL

NUMBERS = count()
HEAD = """
import asyncio
from bytebrew import Actor, AuthMode, Migration, Register, hookimpl
"""
FAULTS = {
    "heron names its tables after itself: its tables nests do not begin with heron_": HEAD
    + """
@hookimpl
def register_migrations(register: Register[Migration]) -> None:
    register(Migration(1, "create table nests (a text) strict; create table heron_eggs (a text) strict;"))
""",
    "heron lets in nobody who is not known: mode heron answers 200 to no one": HEAD
    + """
class Open(AuthMode):
    name = "heron"
    async def identify(self, request):
        return Actor(subject="user:x", name="x", kind="user", scopes=frozenset({"chat"}))

@hookimpl
def register_auth_modes(register: Register[AuthMode]) -> None:
    register(Open())
""",
    "heron starts and stops twice on the same database: a task of it runs on after shutdown": HEAD
    + """
async def forever() -> None:
    await asyncio.Event().wait()

@hookimpl
async def startup() -> None:
    globals()["running"] = asyncio.create_task(forever())
""",
    "heron starts and stops twice on the same database: the engine does not start: plugin heron": HEAD
    + """
@hookimpl
async def startup() -> None:
    raise ValueError("no wings")
""",
    "heron starts and stops twice on the same database: plugin heron (of some-heron 1.0) has the tool": TOOL.replace(
        '    """Swims."""\n', ""
    ),
}


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The name of a plugin that `tmp_path` is for; other modules than those of the last test are imported."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return f"heron{next(NUMBERS)}"


@pytest.mark.parametrize("message", FAULTS)
async def test_a_fault_is_found_by_its_own_check(message: str, name: str, tmp_path: Path) -> None:
    install(tmp_path, name, FAULTS[message].replace("heron", name))
    [check] = [check for check in PLUGIN_CHECKS if message.startswith(f"heron {check}: ")]
    with pytest.raises(AssertionError) as raised:
        await check(PluginSubject(name, f"{name}_plugin", {}))
    assert message.removeprefix(f"heron {check}: ").replace("heron", name) in str(raised.value)


async def test_all_faults_are_listed_by_check(name: str, tmp_path: Path) -> None:
    install(tmp_path, name, TOOL)
    await plugin_conformance(name, f"{name}_plugin")
    with pytest.raises(AssertionError) as raised:
        await plugin_conformance("stork", "stork_plugin")
    assert "starts and stops twice on the same database: the plugin is not installed" in str(raised.value)
    assert "may be disabled later: the engine does not start: BYTEBREW_DISABLED_PLUGINS" in str(raised.value)
