"""Finding, blocking and refusing plugins: who is at fault is always named."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from msgspec import Meta, Struct

from bytebrew import (
    Actor,
    AgentList,
    AuthMode,
    CatalogProvider,
    ConfigSection,
    Guard,
    Parameter,
    Provider,
    Route,
    Scope,
    Tool,
    Toolset,
    hookimpl,
    tool,
)
from bytebrew.base.errors import BootError, SettingsError
from bytebrew.engine import Engine
from bytebrew.plugins import Plugins
from bytebrew.testing import ScriptedProvider, engine, plugin, providing

from .commands import install, run

PROVIDER = """
from bytebrew import Provider, Stop, hookimpl

class Lake(Provider):
    type = "lake"

    async def stream(self, request, http):
        yield Stop()

@hookimpl
def register_providers(register):
    register(Lake())
"""


@pytest.fixture(autouse=True)
def imports_end_with_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin folder stays on this process's path for one test only."""
    monkeypatch.setattr(sys, "path", [*sys.path])


@tool
async def swim() -> str:
    """Swims."""
    return "splash"


class Pond(Struct, frozen=True, kw_only=True):
    """Settings of a plugin."""

    pond_depth: Annotated[int, Meta(description="how deep it is")] = 3


PERCH = CatalogProvider(id="perch", display_name="Perch", auth_type="none", website="")


class Feathers(AuthMode):
    """Lets nobody in."""

    name = "feathers"

    async def authenticate(self, token: str) -> Actor | None:
        return None


def build(folder: Path, *plugins: tuple[str, object], **settings: str) -> Engine:
    """A built engine, not started."""
    named = {f"BYTEBREW_{name.upper()}": value for name, value in settings.items()}
    return Engine({"BYTEBREW_DATA_DIR": str(folder), **named}, plugins)


def registering(hook: str, *things: Any) -> dict[str, Any]:
    def declare(register: Any) -> None:
        for thing in things:
            register(thing)

    return {hook: declare}


def test_a_plugin_is_left_out_by_its_name(tmp_path: Path) -> None:
    duck = plugin("duck", **registering("register_tools", swim))
    assert "swim" in build(tmp_path, duck).tools
    built = build(tmp_path, duck, disabled_plugins="duck, demo")
    assert "swim" not in built.tools
    assert "demo" not in built.providers
    assert [one.name for one in built.plugins.list_all() if one.state == "disabled"] == ["demo", "duck"]


def test_a_name_that_no_plugin_has_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"BYTEBREW_DISABLED_PLUGINS names no plugin: dmeo; did you mean demo\?"):
        build(tmp_path, disabled_plugins="auth_external,dmeo")
    with pytest.raises(SettingsError, match=r"names no plugin: xyzzy; known are .*auth_local, .*demo"):
        build(tmp_path, disabled_plugins="xyzzy")


def test_a_misspelt_hook_stops_the_boot(tmp_path: Path) -> None:
    install(tmp_path / "more", "lake", PROVIDER.replace("register_providers", "register_provider"))
    done = run("plugins", settings={"BYTEBREW_PLUGINS_DIR": str(tmp_path / "more")})
    assert done.returncode == 1
    assert "plugin lake (of some-lake 1.0) failed in its module" in done.stderr
    assert "there is no hook 'register_provider'; did you mean 'register_providers'?" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_module_that_cannot_be_imported_stops_the_boot(tmp_path: Path) -> None:
    install(tmp_path / "more", "sand", "import nowhere_to_be_found")
    with pytest.raises(BootError, match=r"plugin sand \(of some-sand 1\.0\) .*No module named 'nowhere_to_be_found'"):
        build(tmp_path, plugins_dir=str(tmp_path / "more"))


@pytest.mark.parametrize("hook", ["register_providers", "turn_started"])
def test_an_argument_that_a_hook_does_not_have_stops_the_boot(hook: str, tmp_path: Path) -> None:
    async def observe(duck: Any) -> None: ...
    def declare(register: Any, duck: Any) -> None: ...

    with pytest.raises(BootError, match=rf"plugin duck \(of handed in 0\) .*{hook}.*'duck'"):
        build(tmp_path, plugin("duck", **{hook: observe if hook == "turn_started" else declare}))


@pytest.mark.parametrize(
    "hook",
    [
        "register_settings",
        "register_providers",
        "register_catalog",
        "register_tools",
        "register_toolsets",
        "register_scopes",
        "register_auth_modes",
        "register_migrations",
        "register_routes",
        "register_model_choosers",
        "register_config_dialects",
        "register_guards",
    ],
)
def test_a_declaring_hook_that_raises_or_brings_another_thing_stops_the_boot(hook: str, tmp_path: Path) -> None:
    def fails(register: Any) -> None:
        raise ZeroDivisionError("no depth")

    with pytest.raises(BootError, match=rf"plugin duck \(of handed in 0\) failed in {hook}: ZeroDivisionError: no"):
        build(tmp_path, plugin("duck", **{hook: fails}))
    with pytest.raises(
        BootError, match=rf"plugin duck \(of handed in 0\) failed in {hook}: TypeError: it registers 42"
    ):
        build(tmp_path, plugin("duck", **registering(hook, 42)))


def test_a_class_in_the_place_of_its_instance_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BootError, match=r"plugin duck .* which is no Provider"):
        build(tmp_path, plugin("duck", **registering("register_providers", ScriptedProvider)))


def test_a_command_that_cannot_be_added_is_told(tmp_path: Path) -> None:
    source = "from bytebrew import hookimpl\n@hookimpl\ndef register_commands(cli):\n    raise ValueError('no')\n"
    install(tmp_path, "duck", source)
    done = run("--version", settings={"BYTEBREW_PLUGINS_DIR": str(tmp_path)})
    assert done.returncode == 1
    assert "plugin duck (of some-duck 1.0) failed in register_commands: ValueError: no" in done.stderr


@pytest.mark.parametrize("hook", ["startup", "shutdown", "turn_started", "turn_finished", "tool_finished"])
def test_an_observer_that_is_not_async_stops_the_boot(hook: str, tmp_path: Path) -> None:
    with pytest.raises(BootError, match=rf"plugin duck .* {hook} must be an async function"):
        build(tmp_path, plugin("duck", **{hook: lambda: None}))


def test_a_declaring_hook_that_is_async_stops_the_boot(tmp_path: Path) -> None:
    async def register_tools(register: Any) -> None:
        register(swim)

    with pytest.raises(BootError, match=r"plugin duck .* register_tools must not be an async function"):
        build(tmp_path, plugin("duck", register_tools=register_tools))


def test_a_hook_wrapper_which_would_never_run_stops_the_boot(tmp_path: Path) -> None:
    @hookimpl(wrapper=True)
    def register_tools(register: Any) -> Any:
        yield

    with pytest.raises(BootError, match=r"plugin duck .* register_tools is a hook wrapper"):
        build(tmp_path, ("duck", SimpleNamespace(register_tools=register_tools)))


def test_a_plugin_without_hooks_stops_the_boot(tmp_path: Path) -> None:
    with pytest.raises(
        BootError, match=r"plugin duck .* implements no hook: mark its functions with @bytebrew\.hookimpl"
    ):
        build(tmp_path, ("duck", SimpleNamespace(register_tools=lambda register: register(swim))))


@pytest.mark.parametrize(
    ("hook", "thing", "words"),
    [
        ("register_providers", ScriptedProvider(), "the provider 'scripted'"),
        ("register_catalog", PERCH, "the catalog provider 'perch'"),
        ("register_tools", swim, "the tool 'swim'"),
        ("register_scopes", Scope(name="fly", bit=1 << 20), "the scope 'fly'"),
        ("register_agent_lists", AgentList(name="boards"), "the list of agents 'boards'"),
        ("register_auth_modes", Feathers(), "the auth mode 'feathers'"),
        ("register_settings", Pond, "the setting 'BYTEBREW_POND_DEPTH'"),
    ],
)
def test_two_plugins_that_register_one_name_are_both_named(
    hook: str, thing: object, words: str, tmp_path: Path
) -> None:
    with pytest.raises(BootError, match=f"plugins duck and goose both register {words}"):
        build(tmp_path, plugin("goose", **registering(hook, thing)), plugin("duck", **registering(hook, thing)))


def test_a_setting_of_the_core_is_not_a_plugins_to_take(tmp_path: Path) -> None:
    class Mine(Struct):
        port: Annotated[str, Meta(description="mine")] = ""

    with pytest.raises(BootError, match="plugins core and duck both register the setting 'BYTEBREW_PORT'"):
        build(tmp_path, plugin("duck", **registering("register_settings", Mine)))


def test_a_settings_table_without_defaults_or_descriptions_is_refused(tmp_path: Path) -> None:
    class Bare(Struct):
        pond_depth: int = 3

    class Required(Struct):
        pond_depth: Annotated[int, Meta(description="how deep it is")]

    for table in (Bare, Required):
        with pytest.raises(BootError, match=r"plugin duck .*pond_depth needs a default and a Meta\(description"):
            build(tmp_path, plugin("duck", **registering("register_settings", table)))


def test_a_thing_without_a_name_is_refused(tmp_path: Path) -> None:
    class Nameless(ScriptedProvider):
        type = ""

    with pytest.raises(BootError, match="plugin duck has no name for its provider"):
        build(tmp_path, plugin("duck", **registering("register_providers", Nameless())))


class Half(ConfigSection):
    """Cannot be written."""

    key = "half"
    item = None

    def export(self, conn: Any, engine: Any) -> Any:
        return {}


class Late(Toolset):
    """Answers at once, where it is awaited."""

    def tools(self, agent: Any) -> Any:
        return []


class Mute(Tool):
    """Says nothing of its arguments."""

    name = "mute"
    description = ""

    async def run(self, call: Any, input: Any) -> Any: ...


class Spoken(Provider):
    """Answers a text, where it is to yield events."""

    type = "spoken"

    async def stream(self, request: Any, http: Any) -> Any:  # type: ignore[override]
        return "Hello"


async def answers(request: Any) -> str:
    return "quack"


def answers_at_once(request: Any) -> str:
    return "quack"


def let_in(request: Any, route: Any) -> Any: ...


@pytest.mark.parametrize(
    ("hook", "thing", "words"),
    [
        ("register_config_sections", Half(), "Half has no 'put'"),
        ("register_toolsets", Toolset(), "Toolset has no 'tools'"),
        ("register_toolsets", Late(), r"Late.tools must be an async function"),
        ("register_tools", Mute(), "Mute has no 'input_schema'"),
        ("register_providers", Provider(), "Provider has no 'stream'"),
        ("register_providers", Spoken(), "Spoken.stream must be an async generator"),
        ("register_guards", Guard(let_in), "let_in must be an async function"),
        ("register_routes", ("GET", "/duck", "config", answers_at_once), "answers_at_once must be an async function"),
        ("register_routes", ("GET", "duck", None, answers), "'GET duck' is no route; write it like 'GET /api/"),
        ("register_routes", ("get", "/duck", None, answers), "'get /duck' is no route"),
        ("register_routes", ("GET", "/duck", "pond", answers), "/duck: 'pond' is not a scope; the scopes are chat, "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_would_fail_at_its_first_use_stops_the_boot(hook: str, thing: Any, words: str, tmp_path: Path) -> None:
    if isinstance(thing, tuple):
        method, path, scope, run = thing
        thing = Route(method=method, path=path, scope=scope, run=run, summary="")
    with pytest.raises(BootError, match=rf"plugin duck .*failed in {hook}: TypeError: .*{words}") as caught:
        build(tmp_path, plugin("duck", **registering(hook, thing)))
    assert re.search(r" \(test_plugins\.py:\d+\)$", str(caught.value))


@pytest.mark.parametrize(
    "types",
    [{"answer": complex}, {"body": complex}, {"also": {202: complex}}, {"query": {"q": Parameter("", complex)}}],
)
def test_a_route_with_a_type_that_the_api_document_cannot_describe_stops_the_boot(
    types: dict[str, Any], tmp_path: Path
) -> None:
    def register_routes(register: Any, engine: Any) -> None:
        register(Route(method="GET", path="/goose", scope=None, run=answers, summary="", answer=str))
        register(Route(method="GET", path="/duck", scope=None, run=answers, summary="", **types))

    words = r"plugin duck .*failed in register_routes: TypeError: /duck: type <class 'complex'> is not supported$"
    with pytest.raises(BootError, match=words):
        build(tmp_path, plugin("duck", register_routes=register_routes))


def test_a_declaring_hook_that_answers_instead_of_registering_stops_the_boot(tmp_path: Path) -> None:
    with pytest.raises(BootError, match=r"plugin duck .* call register with each thing"):
        build(tmp_path, plugin("duck", register_tools=lambda register: [swim]))


def test_the_line_of_the_plugin_that_failed_is_told(tmp_path: Path) -> None:
    install(tmp_path / "more", "sand", "import json\n\n\ndef grains():\n    json.loads('?')\n\n\ngrains()\n")
    with pytest.raises(BootError, match=r"plugin sand .* in its module: JSONDecodeError.* \(sand_plugin\.py:5\)"):
        build(tmp_path, plugins_dir=str(tmp_path / "more"))


def test_a_module_that_leaves_the_process_stops_the_boot_in_words(tmp_path: Path) -> None:
    install(tmp_path / "more", "sand", "import sys\nsys.exit(0)\n")
    done = run("plugins", settings={"BYTEBREW_PLUGINS_DIR": str(tmp_path / "more")})
    assert done.returncode == 1
    assert "plugin sand (of some-sand 1.0) failed in its module: SystemExit: 0 (sand_plugin.py:2)" in done.stderr


def test_a_command_that_is_there_already_is_refused(tmp_path: Path) -> None:
    source = "from bytebrew import hookimpl\n@hookimpl\ndef register_commands(cli):\n    cli.command('serve')(print)\n"
    install(tmp_path, "duck", source)
    done = run("--version", settings={"BYTEBREW_PLUGINS_DIR": str(tmp_path)})
    assert (done.returncode, "there is a command 'serve' already" in done.stderr) == (1, True)


@pytest.mark.parametrize("arguments", ["*register", "**register", "*, register", "register, engine"])
def test_a_hook_that_could_not_be_called_is_told_its_arguments(arguments: str, tmp_path: Path) -> None:
    source = f"from bytebrew import hookimpl\n@hookimpl\ndef register_tools({arguments}): ...\n"
    install(tmp_path / "more", "sand", source)
    with pytest.raises(BootError, match=r"register_tools has no argument .*; it may take register, settings\Z"):
        build(tmp_path, plugins_dir=str(tmp_path / "more"))


def test_an_argument_with_a_default_is_the_plugins_own(tmp_path: Path) -> None:
    def declare(register: Any, thing: Any = swim) -> None:
        register(thing)

    assert "swim" in build(tmp_path, plugin("duck", register_tools=declare)).tools


def test_two_plugins_of_one_name_are_refused_with_their_distributions(tmp_path: Path) -> None:
    install(tmp_path / "more", "demo", PROVIDER, distribution="evil-twin")
    with pytest.raises(BootError, match="two plugins are named demo: of bytebrew and of evil-twin"):
        build(tmp_path, plugins_dir=str(tmp_path / "more"))


def test_a_module_is_not_two_plugins(tmp_path: Path) -> None:
    install(tmp_path / "more", "duck", PROVIDER)
    (tmp_path / "more/some_duck-1.0.dist-info/entry_points.txt").write_text(
        "[bytebrew]\nduck = duck_plugin\nswan = duck_plugin\n"
    )
    with pytest.raises(BootError, match=r"swan .* its module is the plugin duck already: a module is one plugin"):
        build(tmp_path, plugins_dir=str(tmp_path / "more"))


def test_two_plugins_of_one_name_cannot_be_handed_in(tmp_path: Path) -> None:
    with pytest.raises(BootError, match="two plugins are named duck"):
        build(tmp_path, *[plugin("duck", **registering("register_tools", swim))] * 2)


def test_an_engine_without_any_provider_does_not_start(tmp_path: Path) -> None:
    every = ",".join(one.name for one in build(tmp_path).plugins.list_all() if "register_providers" in one.hooks)
    done = run("serve", settings={"BYTEBREW_DATA_DIR": str(tmp_path), "BYTEBREW_DISABLED_PLUGINS": every})
    assert done.returncode == 1
    assert "no plugin registers an LLM provider" in done.stderr


@pytest.mark.parametrize("settings", [{"auth_mode": "feathers"}, {"disabled_plugins": "auth_local"}])
def test_an_auth_mode_that_no_plugin_registers_is_refused(settings: dict[str, str], tmp_path: Path) -> None:
    mode = settings.get("auth_mode", "local")
    with pytest.raises(SettingsError, match=f"BYTEBREW_AUTH_MODE: no plugin registers the mode '{mode}'; known: "):
        build(tmp_path, **settings)


async def test_a_plugin_that_fails_in_startup_stops_the_boot() -> None:
    async def startup() -> None:
        raise OSError("the pond is dry")

    with pytest.raises(BootError, match=r"plugin duck failed in startup: \w+: the pond is dry \(test_plugins.py:\d+\)"):
        async with engine(plugin("duck", startup=startup)):
            pass


def test_plugins_run_in_the_order_of_their_names_unless_they_ask_to_be_first_or_last(tmp_path: Path) -> None:
    ran: list[str] = []

    def noting(name: str, **options: Any) -> tuple[str, object]:
        def register_tools(register: Any) -> None:
            ran.append(name)

        return name, SimpleNamespace(register_tools=hookimpl(**options)(register_tools))

    ducks = (noting("c", tryfirst=True), noting("b"), noting("a", trylast=True), noting("d"))
    build(tmp_path, *ducks, disabled_plugins="demo")
    assert ran == ["c", "b", "d", "a"]


def test_an_object_or_a_module_is_a_plugin(tmp_path: Path) -> None:
    class Vendor:
        @hookimpl
        def register_tools(self, register: Any) -> None:
            register(swim)

    assert "swim" in build(tmp_path, ("duck", Vendor())).tools


def test_plugins_of_a_folder_are_found_however_often_one_looks(tmp_path: Path) -> None:
    install(tmp_path / "more", "lake", PROVIDER, version="2.1")
    for _ in range(2):  # the folder is on sys.path the second time
        plugins = Plugins()
        plugins.load((), tmp_path / "more")
        assert [(one.name, one.distribution, one.version) for one in plugins.list_all() if one.name == "lake"] == [
            ("lake", "some-lake", "2.1")
        ]
    with pytest.raises(
        SettingsError, match=r"BYTEBREW_PLUGINS_DIR: .* is no folder; fill it with bytebrew plugins install"
    ):
        Plugins().load((), tmp_path / "less")


def test_the_command_lists_name_version_distribution_state_and_hooks(tmp_path: Path) -> None:
    install(tmp_path, "lake", PROVIDER, version="2.1")
    settings = {"BYTEBREW_PLUGINS_DIR": str(tmp_path), "BYTEBREW_DISABLED_PLUGINS": "demo"}
    done = run("plugins", settings=settings)
    assert (done.returncode, done.stderr) == (0, "")
    rows = {row[0]: row[1:] for row in (line.split(maxsplit=5) for line in done.stdout.splitlines())}
    assert rows["lake"] == ["2.1", "some-lake", "loaded", "contract>=2", "register_providers"]
    assert rows["demo"] == ["1.0.0", "bytebrew", "disabled", "-", "-"]
    assert rows["auth_local"][4].split(", ") == [
        "register_auth_modes",
        "register_commands",
        "register_migrations",
        "register_routes",
        "register_settings",
        "startup",
    ]
    assert list(rows) == sorted(rows)


@pytest.mark.parametrize("bit", [0, 3, -4, 1 << 31])
def test_a_scope_without_a_bit_of_its_own_stops_the_boot(bit: int, tmp_path: Path) -> None:
    with pytest.raises(BootError, match=f"the bit of the scope 'fly' is {bit}, which is no power of two"):
        build(tmp_path, plugin("duck", **registering("register_scopes", Scope(name="fly", bit=bit))))
    with pytest.raises(BootError, match="plugins core and duck both register the bit of a scope '1'"):
        build(tmp_path, plugin("duck", **registering("register_scopes", Scope(name="fly", bit=1))))


async def test_providing_and_plugin_can_be_handed_in_together() -> None:
    duck = plugin(**registering("register_tools", swim))
    async with engine(duck, providing(ScriptedProvider())) as running:
        assert "swim" in running.tools
        assert "scripted" in running.providers


async def test_a_plugin_that_is_installed_may_be_handed_in_by_its_own_tests(tmp_path: Path) -> None:
    install(tmp_path, "shore", PROVIDER)
    sys.path.append(str(tmp_path))
    import shore_plugin  # type: ignore[import-not-found]

    async with engine(("shore", shore_plugin), settings={"BYTEBREW_PLUGINS_DIR": str(tmp_path)}) as running:
        assert "lake" in running.providers
    other = SimpleNamespace(register_providers=shore_plugin.register_providers)
    with pytest.raises(BootError, match="two plugins are named shore: of some-shore and of handed in"):
        Plugins().load((), tmp_path, [("shore", other)])
