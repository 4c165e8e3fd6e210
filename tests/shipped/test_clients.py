"""The examples of examples/clients, on the packaged clients: they stream, ask a person, and resume."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Timer

import pytest

from tests.peers.served import SCHEMA, Served, served, slow, steps
from tests.shipped.conftest import CACHE
from tests.test_clients import Cutting, through_a_proxy_that_cuts

pytestmark = [pytest.mark.shipped, pytest.mark.timeout(180)]

EXAMPLES = Path(__file__).parents[2] / "examples" / "clients"
BUILT = CACHE / "clients"
PYTHON = "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_path(sys.argv.pop(1), run_name='__main__')"
COMMANDS: Mapping[str, tuple[str, Sequence[str]]] = {
    "shell": ("jq", [str(EXAMPLES / "chat.sh"), SCHEMA]),
    "python": (
        "python3",
        [sys.executable, "-I", "-c", PYTHON, str(BUILT / "python"), str(EXAMPLES / "chat.py"), SCHEMA],
    ),
    "typescript": ("node", ["node", str(BUILT / "typescript" / "chat.js"), SCHEMA]),
    "javascript": ("node", ["node", str(EXAMPLES / "chat.mjs"), SCHEMA]),
    "go": ("go", [str(BUILT / "chat-go"), SCHEMA]),
}
"""By language what it needs on the machine, and its command, but for the message."""
WORDS = [f"Wort {n} \u00fc\u2028 " for n in range(60)]
TEXT = "".join(WORDS)
PAYS = steps(["Let me pay. ", ["pay", {"amount": 5}]], ["Done: ", None, "."])


class Client:
    """A conversation that runs."""

    def __init__(self, name: str, url: str, token: str, message: str) -> None:
        needed, command = COMMANDS[name]
        if not shutil.which(needed):
            pytest.skip(f"no {needed} here")
        environment = {**os.environ, "BYTEBREW_URL": url, "BYTEBREW_TOKEN": token}
        takes_lines = name == "python"
        self.process = subprocess.Popen(
            [*command, *([] if takes_lines else [message])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        self._raw, self.output = b"", ""
        if takes_lines:
            self.type(message)

    def type(self, line: str) -> None:
        """Types a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def read_until(self, text: str) -> None:
        """Reads until the output has the text."""
        assert self.process.stdout is not None
        while text.encode() not in self._raw:
            piece = os.read(self.process.stdout.fileno(), 65536)
            assert piece, (self._raw.decode(), self.errors())
            self._raw += piece
        self.output = self._raw.decode(errors="ignore")

    def errors(self) -> str:
        """What went to the standard error, once it has ended."""
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def end(self) -> tuple[int, str]:
        """The exit code and the whole output, once there is nothing more to type."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        rest = self.process.stdout.read()
        self.output = (self._raw + rest).decode()
        return self.process.wait(60), self.output


@contextmanager
def talking(name: str, url: str, token: str, message: str) -> Iterator[Client]:
    """A conversation that is gone afterwards, at the latest after a minute."""
    client = Client(name, url, token, message)
    limit = Timer(90, client.process.kill)
    limit.start()
    try:
        yield client
    finally:
        limit.cancel()
        client.process.kill()
        client.process.wait()
        for pipe in (client.process.stdin, client.process.stdout, client.process.stderr):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("engine")) as running:
        yield running


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(("answer", "outcome"), [("yes", "Done: paid 5."), ("no", "Done: ")])
def test_it_shows_deltas_as_they_come_and_asks_before_a_call(
    engine: Served, name: str, answer: str, outcome: str
) -> None:
    with talking(name, engine.url, engine.token, PAYS) as client:
        client.read_until("May it run?")  # the turn waits for the answer: what is shown has come before its end
        assert "Let me pay. " in client.output
        assert "pay" in client.output and '"amount":5' in client.output.replace(" ", "")
        assert "Done" not in client.output
        client.type(answer)
        code, output = client.end()
        assert (code, output.count(outcome), output.count("Let me pay.")) == (0, 1, 1), (output, client.errors())
        assert ("paid 5" in output) == (answer == "yes")


class Gateway(Cutting):
    """Says by itself that the engine is away where the next length is negative."""

    def handle(self) -> None:
        if self.lengths and self.lengths[0] < 0:
            self.lengths.pop(0)
            self.connection.recv(65536)
            page = b"<html>Bad Gateway</html>"
            head = f"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: {len(page)}\r\n"
            self.wfile.write(f"{head}Connection: close\r\n\r\n".encode() + page)
        else:
            super().handle()


@contextmanager
def gateway(engine: Served, lengths: list[int]) -> Iterator[str]:
    """The address of a proxy that cuts its first answers at these lengths."""
    with through_a_proxy_that_cuts(engine.url, lengths) as proxy:
        proxy.RequestHandlerClass = Gateway
        yield f"http://127.0.0.1:{proxy.server_address[1]}"
        proxy.shutdown()


@pytest.mark.parametrize("name", COMMANDS)
def test_it_resumes_where_its_connections_are_cut_and_a_proxy_says_that_the_engine_is_away(
    engine: Served, name: str
) -> None:
    before = engine.admin.get("sessions").json()["total"]
    message = steps(slow(*WORDS, seconds=0.001))
    with gateway(engine, [10, -1, 900, -1]) as url, talking(name, url, engine.token, message) as client:
        code, output = client.end()
        assert (code, output.strip()) == (0, TEXT.strip()), client.errors()
    assert not Cutting.lengths
    assert engine.admin.get("sessions").json()["total"] == before + 1
    [newest, *_] = engine.admin.get("sessions").json()["sessions"]
    assert newest["message_count"] == 2


def test_all_of_them_go_on_where_the_engine_is_killed_in_the_middle(tmp_path: Path) -> None:
    names = [name for name, (needed, _) in COMMANDS.items() if shutil.which(needed)]
    message = steps(slow(*WORDS, seconds=0.05))
    with served(tmp_path) as engine, ExitStack() as stack:
        clients = {name: stack.enter_context(talking(name, engine.url, engine.token, message)) for name in names}
        for client in clients.values():
            client.read_until("Wort 3 ")
        engine.kill()
        assert not any("Wort 59" in client.output for client in clients.values())
        engine.start()
        for name, client in clients.items():
            code, output = client.end()
            assert (code, output.strip()) == (0, TEXT.strip()), (name, client.errors())
        sessions = engine.admin.get("sessions").json()["sessions"]
    assert [one["message_count"] for one in sessions] == [2] * len(names)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_refusal_is_shown_in_the_words_of_the_engine_and_the_token_in_none(engine: Served, name: str) -> None:
    with talking(name, engine.url, "bb_" + "0" * 64, "Hi") as client:
        code, output = client.end()
        errors = client.errors()
    assert code == 1
    assert "unauthorized" in errors
    assert "bb_0" not in errors + output


def command_lines() -> Iterator[bytes]:
    """The command lines of all processes."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # one that has ended meanwhile
            yield path.read_bytes()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_token_is_in_no_list_of_processes(engine: Served, name: str) -> None:
    with talking(name, engine.url, engine.token, PAYS) as client:
        client.read_until("May it run?")
        seen = [*command_lines()]
        assert any(SCHEMA.encode() in line for line in seen)
        assert not [line for line in seen if engine.token.encode() in line]
        client.type("no")
        assert client.end()[0] == 0


def test_the_python_example_runs_on_the_package() -> None:
    script = "import sys; sys.path.insert(0, sys.argv[1]); import bytebrew_client; print(bytebrew_client.__file__)"
    done = subprocess.run([sys.executable, "-I", "-c", script, str(BUILT / "python")], capture_output=True, text=True)
    assert done.stdout.startswith(str(BUILT / "python"))


def test_the_shell_script_has_thirty_lines_at_most() -> None:
    assert len((EXAMPLES / "chat.sh").read_text().splitlines()) <= 30


def test_the_commands_with_curl_do_what_the_page_says(engine: Served, tmp_path: Path) -> None:
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```", (EXAMPLES / "README.md").read_text(), re.DOTALL | re.MULTILINE))
    story = steps(slow(*WORDS[:40], seconds=0.1))
    for message, does in (("Tell me a story", story), ("Pay for my coffee", PAYS)):
        assert script.count(message) == 1
        script = script.replace(message, json.dumps(does)[1:-1])
    environment = {**os.environ, "BYTEBREW_URL": engine.url, "BYTEBREW_TOKEN": engine.token, "SCHEMA": SCHEMA}
    done = subprocess.run(
        ["bash", "-eu", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done
    assert done.stdout.splitlines() == ["cut: 28", "silent: 28", "40", "true", "Let me pay. Done: paid 5."]
    events = (tmp_path / "events").read_text()
    numbers = [int(number) for number in re.findall(r"^id: (\d+)$", events, re.MULTILINE)]
    assert numbers == [*range(1, len(numbers) + 1)]
    assert events.count("event: done") == 1
    assert (tmp_path / "auth").stat().st_mode & 0o077 == 0
