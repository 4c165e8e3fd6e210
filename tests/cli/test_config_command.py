"""`bytebrew config` on a data folder and against a running engine, and `serve --config`."""

import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from bytebrew.testing import ADMIN
from tests.commands import BYTEBREW, environment, run
from tests.processes import serving
from tests.stored import ON_POSTGRESQL

ROOT = Path(__file__).parents[2]
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
    differs = run("config", "diff", str(SHOP), settings=settings)
    assert "+ models large\n" in differs.stdout
    assert not (tmp_path / "data").exists()
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
    assert told.stderr.splitlines()[-3:] == [
        "Error: nothing was changed" if command == "import" else f"Error: {file} does not fit",
        f"{file}:3:5: $.agents.a.max_stps: there is no field 'max_stps'; did you mean 'max_steps'?",
        f"{file}:4:16: $.agents.a.max_steps: Expected `int` <= 500",
    ]


def test_a_folder_counts_from_the_file(tmp_path: Path, settings: dict[str, str]) -> None:
    (tmp_path / "project/docs").mkdir(parents=True)
    file = tmp_path / "project/shop.yaml"
    file.write_text("knowledge: {a: {folder: ./docs}, b: {folder: ./none}}")
    for command in ("validate", "diff", "import"):
        told = run("config", command, str(file), settings=settings)
        assert told.returncode == 0, told.stderr
        assert "$.knowledge.b" in told.stderr
        assert "$.knowledge.a" not in told.stderr


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
        assert checked.stdout == f"{file} is valid: 1 agent\n"
        told = run("config", "import", "--url", engine.url, str(broken), settings=remote)
        assert f"{broken}:4:16: $.agents.a.max_steps: Expected `int` <= 500" in told.stderr
        refused = run("config", "export", "--url", engine.url, settings=remote | {"BYTEBREW_TOKEN": "bb_no"})
        assert (refused.returncode, refused.stderr) == (
            1,
            f"bytebrew: {engine.url} answered 401: Invalid or expired API token; "
            "the token is read from BYTEBREW_TOKEN\n",
        )
        assert not (tmp_path / "none").exists()
    gone = run("config", "export", "--url", engine.url, settings=remote)
    assert gone.returncode == 1
    assert f"bytebrew: {engine.url} cannot be reached" in gone.stderr


def test_what_a_command_makes_it_tells_and_an_export_makes_nothing(tmp_path: Path, settings: dict[str, str]) -> None:
    told = run("config", "export", settings=settings)
    assert (told.returncode, told.stdout) == (1, "")
    what, file = ("key", "keys/secrets.key") if ON_POSTGRESQL else ("database", "bytebrew.db")
    path = tmp_path / "data" / file
    words = f"there is no {what} at {path}; set BYTEBREW_DATA_DIR to the engine's data folder"
    assert told.stderr == f"bytebrew: {words}\n"
    assert not (tmp_path / "data").exists()
    (tmp_path / "config.yaml").write_text("agents: {a: {}}")
    for words in (f"bytebrew: {path} is new; BYTEBREW_DATA_DIR names another data folder\n", ""):
        told = run("config", "import", str(tmp_path / "config.yaml"), settings=settings)
        assert told.returncode == 0
        assert told.stderr.partition("warning")[0] == words


@pytest.mark.parametrize("command", ["validate", "diff"])
def test_a_look_at_a_file_leaves_no_data_folder(command: str, tmp_path: Path, settings: dict[str, str]) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("agents: {a: {}}")
    for text in ("agents: {a: {}}", ""):
        file.write_text(text)
        assert run("config", command, str(file), settings=settings).returncode == 0
        assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_files_are_utf_8_wherever_they_are_written(tmp_path: Path, settings: dict[str, str]) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("agents: {a: {system: Grüße}}", encoding="utf-8")
    run("config", "import", str(file), settings=settings)
    ascii_only = settings | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert run("config", "export", "--output", str(file), settings=ascii_only).returncode == 0
    assert "system: Grüße" in file.read_text(encoding="utf-8")
    shown = subprocess.run(
        [*BYTEBREW, "config", "export"], env=environment(ascii_only), capture_output=True, check=True
    )
    assert shown.stdout == file.read_bytes()


@pytest.mark.parametrize("command", ["validate", "diff", "import"])
def test_a_file_that_is_too_long_is_not_read(command: str, tmp_path: Path, settings: dict[str, str]) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("a: b\n" * 2_000_000)
    told = run("config", command, str(file), settings=settings)
    assert (told.returncode, told.stderr.splitlines()[-1]) == (
        1,
        f"bytebrew: {file} is longer than the 1048576 bytes of BYTEBREW_MAX_BODY_BYTES",
    )


class Stranger(BaseHTTPRequestHandler):
    """A server that answers everything with 200, and with no engine's words."""

    body, kind = b"<p>Hello", "text/html"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", self.kind)
        self.end_headers()
        self.wfile.write(self.body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


class Liar(Stranger):
    """The same in JSON."""

    body, kind = b'{"ok": true}', "application/json"


def test_what_is_no_engine_is_told_in_words(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("agents: {a: {}}")
    with ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        for command in (("export",), ("import", str(file))):
            told = run("config", *command, "--url", url)
            assert (told.returncode, told.stderr) == (
                1,
                f"bytebrew: {url} answered 200: it is no ByteBrew engine\n",
            )
        server.RequestHandlerClass = Liar
        told = run("config", "import", "--url", url, str(file))
        assert (told.returncode, told.stderr.count("\n")) == (1, 1)
        assert told.stderr.startswith("bytebrew: that is no answer of a ByteBrew engine: ")
        server.shutdown()
    for wrong in ("localhost:8443", "ftp://a.example", "http://", "http://a.example:port", "http://[::1"):
        told = run("config", "export", "--url", wrong)
        assert told.returncode == 2
        assert told.stderr == "bytebrew: --url takes an http or https URL, such as http://127.0.0.1:8443\n"


@pytest.mark.parametrize("token", ["bb_two\nlines", "bb_日本"], ids=["lines", "letters"])
def test_a_token_that_no_header_takes_is_a_bad_setting_and_is_not_shown(token: str) -> None:
    told = run("config", "export", "--url", "http://127.0.0.1:1", settings={"BYTEBREW_TOKEN": token})
    assert told.returncode == 2
    assert told.stderr.startswith("bytebrew: BYTEBREW_TOKEN: ")
    assert "bb_" not in told.stderr


def test_what_a_terminal_cannot_show_is_escaped(tmp_path: Path, settings: dict[str, str]) -> None:
    file = tmp_path / "config.yaml"
    for text in ("a", "日本"):
        file.write_text(f"agents: {{a: {{system: {text}}}}}", encoding="utf-8")
        told = run("config", "import", str(file), settings=settings | {"PYTHONIOENCODING": "latin-1"})
        assert told.returncode == 0, told.stderr
    assert 'system: "a" -> "\\u65e5\\u672c"' in told.stdout


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
