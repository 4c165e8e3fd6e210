"""Which process of this user is shown to speak for nobody else, by what it holds."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows whose a connection is")

SERVER = """
import socket, subprocess, sys
from pathlib import Path
from bytebrew_auth_local.peer_process import NotProven, check_owner

sock = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
print(sock.getsockname()[1], flush=True)
while True:
    conn, _ = sock.accept()
    conn.recv(1)
    try:
        check_owner(conn.getpeername()[:2], conn.getsockname()[:2], Path(sys.argv[1]))
        said = "shown"
    except NotProven as error:
        said = str(error)
    conn.sendall(said.encode())
    conn.close()
"""
CLIENT = """
import os, pty, select, socket, subprocess, sys, tempfile, time
port = int(sys.argv[1])
"localhost".encode("idna")  # which another user could not load

def say(sock=None):
    with sock or socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(b".")
        print(sock.recv(1000).decode(), flush=True)

"""
SEEMS = "its process has other connections or reads from another process, as proxies do"
TERMINAL = """
child, master = pty.fork()
if not child:
    {}
    os._exit(0)
print(os.read(master, 1000).decode().strip())
"""
QUIET = {
    "nothing": "say()",
    "IPv6": 'say(socket.create_connection(("::1", port)))',
    "an address of IPv4 in IPv6": """
sock = socket.socket(socket.AF_INET6)
sock.connect(("::ffff:127.0.0.1", port))
say(sock)
""",
    "both ends of a pair of sockets": "pair = socket.socketpair(); say()",
    "both ends of a pipe": "pipe = os.pipe(); say()",
    "the end of a pipe that it writes to": """
ends = os.pipe()
child = subprocess.Popen(["sleep", "9"], stdin=ends[0])
os.close(ends[0])
say()
child.kill()
""",
    "the end of a pipe whose writer has gone": "ends = os.pipe(); os.close(ends[1]); say()",
    "what an event loop has": "poll, event = select.epoll(), os.eventfd(0); say()",
    "files, folders and the null device": 'held = open(os.__file__), os.open("/", 0), open("/dev/null"); say()',
    "the terminal of its shell": TERMINAL.format("if os.fork(): os.wait()\n    else: say()"),
}
LOUD = {
    "a listening socket": 'sock = socket.create_server(("127.0.0.1", 0)); say()',
    "a listening socket of the file system": """
sock = socket.socket(socket.AF_UNIX)
sock.bind(tempfile.mktemp())
sock.listen()
say()
""",
    "another connection": 'other = socket.create_connection(("127.0.0.1", port)); other.sendall(b"."); say()',
    "a datagram socket": "sock = socket.socket(type=socket.SOCK_DGRAM); say()",
    "one end of a pair of sockets": """
one, other = socket.socketpair()
child = subprocess.Popen(["sleep", "9"], stdin=other)
other.close()
say()
child.kill()
""",
    "the end of a pipe that another writes to": """
ends = os.pipe()
child = subprocess.Popen(["sleep", "9"], stdout=ends[1])
os.close(ends[1])
say()
child.kill()
""",
    "what is left in a pipe": 'ends = os.pipe(); os.write(ends[1], b"GET"); os.close(ends[1]); say()',
    "a named pipe": """
name = tempfile.mktemp()
os.mkfifo(name)
fifo = os.open(name, os.O_RDWR)
say()
""",
    "a terminal that it holds for another": 'master = os.open("/dev/ptmx", os.O_RDWR); say()',
    "a terminal that is not its own": "master, slave = pty.openpty(); os.close(master); say()",
    "a child that listens and has the connection too": """
sock = socket.create_connection(("127.0.0.1", port), timeout=10)
child = os.fork()
if not child:
    listening = socket.create_server(("127.0.0.1", 0))
    time.sleep(2)
    os._exit(0)
time.sleep(0.5)
say(sock)
""",
}


class Engine(NamedTuple):
    """A process that says of each connection what it makes of it, and the folder that its clients are to see."""

    port: int
    folder: Path

    def says_of(self, code: str, *before: str, **more: object) -> str:
        """What it makes of a client that does this."""
        command = [*before, sys.executable, "-c", CLIENT + code, str(self.port)]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            **more,  # type: ignore[call-overload]
        )
        assert done.returncode == 0, done.stderr
        said: str = done.stdout.strip()
        return said


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("data")
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Engine(int(process.stdout.readline()), folder)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("held", QUIET)
def test_a_process_that_hears_nobody_is_the_users_own(engine: Engine, held: str) -> None:
    assert engine.says_of(QUIET[held]) == "shown"


@pytest.mark.parametrize("held", LOUD)
def test_a_process_that_others_may_speak_to_is_not(engine: Engine, held: str) -> None:
    assert engine.says_of(LOUD[held]) == SEEMS


def test_a_process_for_which_a_terminal_was_opened_is_not(engine: Engine) -> None:
    said = engine.says_of(TERMINAL.format("say()"))
    assert said == "its terminal was opened for it alone, as proxies do; start it from a shell"


def test_a_process_of_another_user_is_not(engine: Engine) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root becomes another user")
    assert engine.says_of("os.setuid(65534); say()") == "its process belongs to another user"
    assert engine.says_of("os.seteuid(65534); say()") == "its process belongs to another user"
    assert engine.says_of("os.setresuid(0, 0, 65534); say()") == "its process belongs to another user too"


def test_a_process_that_is_shut_off_from_the_folder_is_not(engine: Engine) -> None:
    hide = f'mount -t tmpfs none {engine.folder} && exec "$@"'
    before = ["unshare", "--mount", "sh", "-c", hide, "sh"]
    if subprocess.run([*before, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this user makes no namespaces")
    assert engine.says_of("say()", "unshare", "--mount") == "shown"
    assert engine.says_of("say()", *before) == "its process is shut off from the engine's data folder"


def test_a_process_that_the_engine_has_begun_is_not(tmp_path: Path) -> None:
    """Such as a command that an MCP server is: it may call for whoever talks to the agent."""
    begun = (
        "subprocess.Popen([sys.executable, '-c', sys.argv[2], str(sock.getsockname()[1])], stdin=subprocess.DEVNULL)"
    )
    code = SERVER.replace("while True:\n", f"{begun}\nfor _ in range(1):\n")
    for client in ("say()", "subprocess.run([sys.executable, '-c', sys.stdin.read() or 'pass']); say()"):
        command = [sys.executable, "-c", code, str(tmp_path), CLIENT + client]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        assert "its process is the engine's own" in done.stdout
