"""The contract has a version, and a plugin that states which one it needs is not run by an engine without it."""

import importlib.metadata
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from msgspec import Struct

import bytebrew
from bytebrew import CONTRACT, Request, hookimpl
from bytebrew.base.errors import BootError
from bytebrew.engine import Engine
from bytebrew.testing import ScriptedProvider, chat, providing, scripted_schema, served_engine
from tests.commands import install, run


def stating(number: Any) -> tuple[str, object]:
    @hookimpl
    def register_tools() -> None: ...

    return "duck", SimpleNamespace(register_tools=register_tools, bytebrew_contract=number)


def test_the_engine_says_its_version() -> None:
    assert bytebrew.__version__ == importlib.metadata.version("bytebrew")


def test_a_plugin_that_states_the_contract_of_the_engine_or_none_is_run(tmp_path: Path) -> None:
    assert Engine({"BYTEBREW_DATA_DIR": str(tmp_path)}, [stating(CONTRACT)])


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (CONTRACT + 1, rf"it needs contract {CONTRACT + 1}, and bytebrew .* has {CONTRACT}: install a newer bytebrew"),
        (0, "it was written for contract 0, and bytebrew .* honours 2 and later"),
        ("1", "its bytebrew_contract is '1'; write a whole number"),
        (True, "its bytebrew_contract is True"),
    ],
)
def test_a_plugin_that_needs_another_contract_stops_the_boot(number: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(BootError, match=rf"plugin duck \(of handed in 0\) .*{words}"):
        Engine({"BYTEBREW_DATA_DIR": str(tmp_path)}, [stating(number)])


def test_a_plugin_that_imports_a_name_of_a_newer_contract_is_refused_with_both_versions(tmp_path: Path) -> None:
    install(tmp_path, "duck", "from bytebrew import Pond\n")
    done = run("plugins", settings={"BYTEBREW_PLUGINS_DIR": str(tmp_path)})
    assert done.returncode == 1
    assert "cannot import name 'Pond' from 'bytebrew'" in done.stderr
    assert f"; this is bytebrew {bytebrew.__version__} with contract {CONTRACT}" in done.stderr


def test_a_distribution_has_the_marker_of_typed_packages() -> None:
    assert (Path(bytebrew.__file__).parent / "py.typed").exists()


async def test_the_changelogs_example_of_a_plugin_for_this_contract_runs() -> None:
    class Shown(Struct):
        count: int

    class Failures:
        def __init__(self) -> None:
            self.count = 0

        async def show(self, request: Request[None]) -> Shown:
            return Shown(self.count)

    text = (Path(__file__).parents[2] / "CHANGELOG.md").read_text().partition("### For plugin authors")[2]
    before, now = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)[:2]
    assert "__self__" in before
    counter = ModuleType("counter")
    vars(counter).update(vars(bytebrew), Failures=Failures, Shown=Shown)
    exec(compile(now, "CHANGELOG.md", "exec"), vars(counter))
    provider = providing(ScriptedProvider([ValueError("broken")]))
    async with served_engine(("counter", counter), provider) as (engine, client):
        await scripted_schema(engine)
        await chat(client, "test", "hi")
        assert (await client.get("/api/v1/failures")).json() == {"count": 1}
