"""`bytebrew config` on a data folder and against a running engine, and `serve --config`."""

import subprocess
from pathlib import Path

import httpx
import pytest

from bytebrew.testing import ADMIN

from .commands import BYTEBREW, environment, run
from .processes import serving

ROOT = Path(__file__).parent.parent
SHOP = ROOT / "examples/configs/shop.yaml"
BROKEN = "agents:\n  a:\n    max_stps: 5\n    max_steps: 900\n"


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """An empty data folder."""
    return {"BYTEBREW_DATA_DIR": str(tmp_path / "data"), "BYTEBREW_DISABLED_PLUGINS": "demo"}


def test_the_example_is_valid_and_goes_round_offline(tmp_path: Path, settings: dict[str, str]) -> None:
    checked = run("config", "validate", str(SHOP), settings=settings)
    assert checked.returncode == 0, checked.stderr
    assert "2 models" in checked.stdout
    assert f"warning: {SHOP}:7:3: $.models.large: The variable OPENROUTER_API_KEY holds a credential" in checked.stderr
    assert run("config", "export", settings=settings).stdout.count("\n") == 2
    differs = run("config", "diff", str(SHOP), settings=settings)
    assert "+ models large\n" in differs.stdout
    assert run("config", "export", settings=settings).stdout.count("\n") == 2
    assert run("config", "import", str(SHOP), settings=settings).stdout == differs.stdout
    first = run("config", "export", settings=settings).stdout
    assert "api_key: ${OPENROUTER_API_KEY}" in first
    assert run("config", "diff", str(SHOP), settings=settings).stdout == ""
    other = settings | {"BYTEBREW_DATA_DIR": str(tmp_path / "other")}
    (tmp_path / "exported.yaml").write_text(first)
    assert run("config", "import", str(tmp_path / "exported.yaml"), settings=other).returncode == 0
    written = run("config", "export", "--output", str(tmp_path / "again.yaml"), settings=other)
    assert (written.returncode, written.stdout) == (0, "")
    assert (tmp_path / "again.yaml").read_text() == first


@pytest.mark.parametrize("command", ["validate", "diff", "import"])
def test_every_problem_is_on_a_line_with_its_place(command: str, tmp_path: Path, settings: dict[str, str]) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(BROKEN)
    told = run("config", command, str(file), settings=settings)
    assert told.returncode == 1
    assert told.stderr.splitlines() == [
        "Error: nothing was changed",
        f"{file}:3:5: $.agents.a.max_stps: there is no field 'max_stps'; did you mean 'max_steps'?",
        f"{file}:4:16: $.agents.a.max_steps: Expected `int` <= 500",
    ]


def test_replace_and_field_changes_are_shown(tmp_path: Path, settings: dict[str, str]) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("agents: {a: {}, b: {}}\nsettings: {custom.x: 1}")
    run("config", "import", str(file), settings=settings)
    file.write_text("agents: {a: {max_steps: 5}}\nsettings: {custom.x: 2}")
    told = run("config", "import", "--replace", str(file), settings=settings)
    assert told.stdout == "~ agents a\n    max_steps: 50 -> 5\n- agents b\n~ settings custom.x\n    value: 1 -> 2\n"
    assert told.stderr.splitlines()[-1] == "3 changes"


def test_the_same_against_a_running_engine(tmp_path: Path, settings: dict[str, str]) -> None:
    file, broken = tmp_path / "config.yaml", tmp_path / "broken.yaml"
    file.write_text("agents: {a: {max_steps: 5}}")
    broken.write_text(BROKEN)
    with serving(tmp_path / "data", settings) as engine:
        remote = {"BYTEBREW_TOKEN": ADMIN, "BYTEBREW_DATA_DIR": str(tmp_path / "none")}
        assert run("config", "diff", "--url", engine.url, str(file), settings=remote).stdout == "+ agents a\n"
        assert run("config", "import", "--url", engine.url, str(file), settings=remote).stdout == "+ agents a\n"
        text = run("config", "export", "--url", engine.url, settings=remote).stdout
        assert (
            text == httpx.get(f"{engine.url}/api/v1/config/export", headers={"Authorization": f"Bearer {ADMIN}"}).text
        )
        checked = run("config", "validate", "--url", engine.url, str(file), settings=remote)
        assert checked.stdout == f"{file} is valid: 1 agents\n"
        told = run("config", "import", "--url", engine.url, str(broken), settings=remote)
        assert f"{broken}:4:16: $.agents.a.max_steps: Expected `int` <= 500" in told.stderr
        refused = run("config", "export", "--url", engine.url, settings=remote | {"BYTEBREW_TOKEN": "bb_no"})
        assert (refused.returncode, refused.stderr) == (
            1,
            f"bytebrew: {engine.url} answered 401: Invalid or expired API token\n",
        )
        assert not (tmp_path / "none").exists()
    gone = run("config", "export", "--url", engine.url, settings=remote)
    assert gone.returncode == 1
    assert f"bytebrew: {engine.url} cannot be reached" in gone.stderr


def test_serve_takes_in_its_configuration_at_every_boot(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("models: {m: {type: ollama, model_name: x}}\nagents: {a: {max_steps: 5}}")
    for steps in (5, 6):
        file.write_text(f"models: {{m: {{type: ollama, model_name: x}}}}\nagents: {{a: {{max_steps: {steps}}}}}")
        with serving(tmp_path / "data", {"BYTEBREW_CONFIG": str(file)}) as engine:
            headers = {"Authorization": f"Bearer {ADMIN}"}
            agents = httpx.get(f"{engine.url}/api/v1/agents", headers=headers).json()
            assert [agent["name"] for agent in agents] == ["a"]
            assert httpx.get(f"{engine.url}/api/v1/agents/a", headers=headers).json()["max_steps"] == steps


def test_a_configuration_that_does_not_fit_stops_the_boot_with_exit_code_2(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(BROKEN)
    given = ("serve", "--port", "0", "--data", str(tmp_path / "data"), "--config")
    told = run(*given, str(file))
    assert told.returncode == 2
    assert told.stderr.splitlines()[-2:] == [
        f"bytebrew: {file}:3:5: $.agents.a.max_stps: there is no field 'max_stps'; did you mean 'max_steps'?",
        f"{file}:4:16: $.agents.a.max_steps: Expected `int` <= 500",
    ]
    told = run(*given, str(tmp_path / "none.yaml"))
    assert told.returncode == 2
    assert "none.yaml cannot be read: No such file or directory" in told.stderr


def test_the_flag_wins_over_the_variable(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("agents: {a: {}}\nmodels: {m: {type: ollama, model_name: x}}")
    command = [*BYTEBREW, "serve", "--port", "0", "--data", str(tmp_path / "data"), "--config", str(file)]
    process = subprocess.Popen(
        command,
        env=environment({"BYTEBREW_CONFIG": str(tmp_path / "none.yaml")}),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        assert b"is ready at" in process.stdout.readline()
    finally:
        process.terminate()
        process.communicate()
