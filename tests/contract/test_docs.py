"""The page for plugin authors is complete, exact, and runs."""

import ast
import inspect
import logging
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from bytebrew_chat_completions import openai_compatible

import bytebrew
from bytebrew import testing
from bytebrew.contract import hookspecs
from tests.testing.test_conformance import WIRE

HERE = Path(__file__).parents[2] / "plugins"
PAGE = (HERE / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
[FACE] = [block for block in BLOCKS if "CONVERSATIONS" in block]
WHOLE, *PARTS, TEST, CONFORMANCE, STATEMENT = [block for block in BLOCKS if block is not FACE]
HOOKS = {
    name: f"{name}({', '.join(inspect.signature(hook).parameters)})"
    for name, hook in vars(hookspecs).items()
    if hasattr(hook, "bytebrew_spec")
}


NAMED = {
    "register_propagators": "Propagator",
    "register_recorders": "Recorder",
    "register_retention": "Step",
    "register_subscribers": "Subscriber",
}
TAKEN = {
    hook: {"register_settings": "type[Struct]", **NAMED}.get(hook, kind.__name__)
    for hook, kind in hookspecs.DECLARING.items()
}
"""What each declaring hook's `register` takes."""


def module_of(*sources: str, file: Path = HERE / "bytebrew_dice.py") -> ModuleType:
    """The sources, one after another, as a module that is in the file."""
    module = ModuleType("bytebrew_dice")
    module.__file__ = str(file)
    for source in sources:
        exec(compile(source, "plugins/README.md", "exec"), vars(module))
    return module


def test_every_hook_has_a_heading_with_its_exact_arguments_and_there_is_no_other() -> None:
    assert re.findall(r"^### `(.+)`$", PAGE, re.MULTILINE) == list(HOOKS.values())


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_an_example_that_takes_those_arguments(hook: str) -> None:
    section = PAGE.partition(f"### `{HOOKS[hook]}`")[2].partition("\n## ")[0].partition("\n### ")[0]
    tree = ast.parse("\n".join(re.findall(r"^```python\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)))
    kind = ast.AsyncFunctionDef if hook in hookspecs.OBSERVING else ast.FunctionDef
    [example] = [node for node in tree.body if isinstance(node, kind) and node.name == hook]
    assert [ast.unparse(one) for one in example.decorator_list] == ["hookimpl"]
    arguments = example.args.args
    assert f"{hook}({', '.join(one.arg for one in arguments)})" == HOOKS[hook]
    spec = inspect.signature(getattr(hookspecs, hook)).parameters
    register = [ast.unparse(one.annotation) for one in arguments if one.arg == "register" and one.annotation]
    assert register == [f"Register[{TAKEN[hook]}]" for name in spec if name == "register"]


@pytest.mark.parametrize("name", bytebrew.__all__)
def test_everything_that_the_front_exports_is_on_the_page(name: str) -> None:
    assert re.search(rf"\b{name}\b", PAGE)


async def test_the_first_example_is_a_whole_plugin() -> None:
    async with testing.engine(("dice", module_of(WHOLE))) as engine:
        assert [plugin.hooks for plugin in engine.plugins.list_all() if plugin.name == "dice"] == [("register_tools",)]
        assert "roll" in engine.tools


async def test_the_example_of_a_face_is_a_whole_plugin_whose_stream_comes_again() -> None:
    async with testing.served_engine(("lines", module_of(FACE))) as (_, client):
        first = await client.post("/lines", json={"schema": "demo", "text": "hello"})
        assert first.text.endswith("data: END\n\n")
        assert (await client.get(f"/lines/{first.headers['x-turn-id']}")).text == first.text
        lined = await client.post("/lines", json={"schema": "demo", "text": "one\n\nevent: two"})
        assert b"data: one\ndata: \ndata: \n\n" in lined.content
        refused = await client.post("/lines", json={"schema": "none", "text": "hello"})
        assert (refused.status_code, refused.text) == (404, "There is no schema 'none'\n")


def test_the_projection_of_the_example_says_that_pieces_no_longer_count() -> None:
    lines = vars(module_of(FACE))["Lines"]()
    restarted = bytebrew.TurnEvent(3, bytebrew.MessageRestarted("a\nb"))
    assert lines.frames(restarted) == b"event: restart\ndata: a\ndata: b\n\n"


async def test_the_parts_are_a_plugin_with_every_hook_and_the_test_on_the_page_passes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dice = module_of(*PARTS)
    monkeypatch.setitem(sys.modules, "bytebrew_dice", dice)
    caplog.set_level(logging.INFO)
    await vars(module_of(TEST))["test_the_model_may_roll"]()
    own = [record for record in caplog.records if record.name == "bytebrew_dice"]
    assert [record.levelname for record in own] == ["INFO"] * 4
    warned = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.name for record in warned] == ["bytebrew.web.refusals"]  # the visitor's


async def test_what_the_parts_declare_does_what_the_page_says() -> None:
    dice = ("dice", module_of(*PARTS))
    settings = {"BYTEBREW_DICE_SIDES": "8", "BYTEBREW_AUTH_MODE": "guests", "BYTEBREW_DISABLED_PLUGINS": "demo"}
    async with testing.served_engine(dice, settings=settings) as (engine, client):
        assert [set(plugin.hooks) for plugin in engine.plugins.list_all() if plugin.name == "dice"] == [set(HOOKS)]
        assert engine.settings.of(vars(dice[1])["Dice"]).dice_sides == 8
        client.headers["authorization"] = "Bearer guest-anna"
        events = await testing.chat(client, "casino", "Roll!")
        assert "You asked 'Roll!'; I rolled a 4." in events[-2].data
        assert (await client.get("/api/v1/dice")).status_code == 403
        loaded = await client.get("/api/v1/sessions", headers={"x-loaded-die": "yes"})
        assert loaded.json() == {"error": "forbidden", "message": "No loaded dice here"}
        client.headers["authorization"] = "Bearer stranger"
        assert (await client.get("/api/v1/sessions")).status_code == 401


async def test_the_conformance_test_on_the_page_passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    acme = ModuleType("bytebrew_acme")
    vars(acme)["acme"] = openai_compatible
    monkeypatch.setitem(sys.modules, "bytebrew_acme", acme)
    folder = tmp_path / "wire"
    folder.mkdir()
    for name in ("text", "tools", "thinking", "broken_arguments", "error"):
        (folder / f"{name}.sse").write_bytes(getattr(WIRE, name))
    for status, body in WIRE.refusals.items():
        (folder / f"{status}.json").write_bytes(body)
    (folder / "too_long.json").write_bytes(WIRE.too_long[1])
    page = vars(module_of(CONFORMANCE, file=tmp_path / "test_acme.py"))
    await page["test_conforms"](testing.CHECKS[0])
    await testing.provider_conformance(page["acme"], page["WIRE"])


def test_the_distribution_on_the_page_is_one_and_its_links_lead_somewhere() -> None:
    toml = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert [tomllib.loads(text)["project"]["entry-points"]["bytebrew"] for text in toml] == [{"dice": "bytebrew_dice"}]
    for link in re.findall(r"\]\((\.\./[^)]+)\)", PAGE):
        assert (HERE / link).resolve().exists(), link
