"""Several engine processes on one machine, which share a port.

The supervisor binds a socket for each worker to the port (SO_REUSEPORT), forks the workers, starts another for one that
dies, and ends all. It has no event loop and no threads, so that it can fork at any time. The kernel spreads connections
over the sockets: of one socket that all listen on, the first worker to wake takes all that come at once. A socket is
kept while its worker is replaced, so that its clients wait and lose nothing.
"""

import gc
import logging
import math
import os
import select
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from bytebrew.base import logs
from bytebrew.base.errors import SettingsError
from bytebrew.base.machine.lock import held_folder
from bytebrew.base.settings import Core
from bytebrew.store.sqlite.data_folder import make_private, worker_folder, worker_folders
from bytebrew.version import __version__
from bytebrew.web.server import server

log = logging.getLogger(__name__)

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds before a place gets its next worker, by how many have died there soon after their start."""
STEADY_SECONDS = 60.0
"""A worker that ran so long did not die soon."""
END_SECONDS = 15.0
"""How long workers may take to end after the time for running turns."""


class Worker:
    """What a worker has of its supervisor: a bound socket, and a pipe in each direction."""

    def __init__(self, number: int, sock: socket.socket, life: int, report: int) -> None:
        self.number = number
        self.life = life
        """A descriptor that is at its end once the workers are to end, or the supervisor has died."""
        self._sock, self._report = sock, report

    def listen(self) -> socket.socket:
        """The socket, which listens from now on."""
        self._sock.listen(server.BACKLOG)
        return self._sock

    def report_ready(self, greeting: str) -> None:
        """Reports that this worker listens."""
        with os.fdopen(self._report, "wb") as pipe:
            pipe.write(f"{greeting}\n".encode())


def supervise(core: Core) -> Worker:
    """Runs so many workers as the settings say; returns in each of them, and ends the supervisor with SystemExit."""
    if not core.database_url:
        raise SettingsError(
            f"BYTEBREW_WORKERS: {core.workers} processes cannot write to one SQLite file; "
            "set BYTEBREW_DATABASE_URL to a PostgreSQL database, or BYTEBREW_WORKERS to 1"
        )
    make_private(core.data_dir)
    with held_folder(core.data_dir):
        with server.bind(core.host, core.port) as probe:  # it shares the port with no other engine
            port = probe.getsockname()[1]
        wanted = [worker_folder(core.data_dir, number) for number in range(1, core.workers + 1)]
        for folder in wanted:
            make_private(folder)
        for folder in worker_folders(core.data_dir)[core.workers :]:
            shutil.rmtree(folder)
        return _Supervisor(core, port).run()


class _Place:
    """A worker's number, its socket, and the process that has them."""

    def __init__(self, number: int, sock: socket.socket) -> None:
        self.number, self.sock = number, sock
        self.pid = 0
        self.report = -1
        """The pipe on which the process reports that it listens; -1 once it has."""
        self.listens = self.has_listened = False
        """Whether this process has reported, and whether any of this place has."""
        self.started = 0.0
        self.due = math.inf
        """When a process is to be started."""
        self.deaths = 0


class _Supervisor:
    """Starts the first worker alone: it makes the tables, and what prevents its start is printed once."""

    def __init__(self, core: Core, port: int) -> None:
        self._core, self._port = core, port
        self._places = [_Place(number, self._bind()) for number in range(1, core.workers + 1)]
        self._life = os.pipe()
        self._wakeups = os.pipe()
        for end in self._wakeups:
            os.set_blocking(end, False)
        self._signals = 0
        self._code: int | None = None
        self._kill_at = math.inf

    def run(self) -> Worker:
        """Returns in each worker, and ends the supervisor with SystemExit."""
        gc.freeze()  # collections of a worker would copy what it shares with the others
        self._places[0].due = time.monotonic()
        with self._handled_signals():
            while self._code is None or any(place.pid for place in self._places):
                if worker := self._start_due():
                    return worker
                self._wait()
                self._read_reports()
                self._collect()
                if self._signals and self._code is None:
                    self._end(0)
                if self._signals > 1 or time.monotonic() >= self._kill_at:
                    self._kill()
        sys.exit(self._code)

    def _bind(self) -> socket.socket:
        return server.bind(self._core.host, self._port, shared=True)

    @contextmanager
    def _handled_signals(self) -> Iterator[None]:
        def count(number: int, _: object) -> None:
            self._signals += number != signal.SIGCHLD

        before = {number: signal.signal(number, count) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)}
        signal.set_wakeup_fd(self._wakeups[1], warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            for number, action in before.items():
                signal.signal(number, action)

    def _start_due(self) -> Worker | None:
        """Starts what is due; returns in a new process alone."""
        for place in self._places:
            if place.due <= time.monotonic():
                reports, report = os.pipe()
                sys.stdout.flush()
                sys.stderr.flush()
                if not (pid := os.fork()):
                    others = [one.report for one in self._places if one.report >= 0]
                    for end in (self._life[1], *self._wakeups, reports, *others):
                        os.close(end)
                    for other in self._places:
                        if other is not place:
                            other.sock.close()
                    return Worker(place.number, place.sock, self._life[0], report)
                os.close(report)
                place.pid, place.report, place.started, place.due = pid, reports, time.monotonic(), math.inf
                place.listens = False
        return None

    def _wait(self) -> None:
        """Returns at a signal, at a report, and when something is due."""
        poll = select.poll()
        for end in (self._wakeups[0], *(place.report for place in self._places if place.report >= 0)):
            poll.register(end, select.POLLIN)
        due = min(self._kill_at, *(place.due for place in self._places))
        poll.poll(None if due == math.inf else max(0.0, due - time.monotonic()) * 1000)
        try:
            os.read(self._wakeups[0], 4096)
        except BlockingIOError:
            return

    def _read_reports(self) -> None:
        ready = select.poll()
        for place in self._places:
            if place.report >= 0:
                ready.register(place.report, select.POLLIN)
        reporting = {end for end, _ in ready.poll(0)}
        for place in self._places:
            if place.report in reporting:
                with os.fdopen(place.report, "rb") as pipe:
                    greeting = pipe.read().decode()
                place.report = -1
                if greeting:  # empty if the process has died
                    self._listens(place, greeting)

    def _listens(self, place: _Place, greeting: str) -> None:
        place.listens = True
        if place.has_listened:
            log.info("worker %d listens again, as process %d", place.number, place.pid)
            return
        place.has_listened = True
        if place is self._places[0]:
            for other in self._places[1:]:
                other.due = time.monotonic()
        if all(one.has_listened for one in self._places):
            form = self._core.log_format
            click.echo(logs.printed(form, greeting.removesuffix("\n")), err=True)
            url = server.url(self._core.host, place.sock)
            count = len(self._places)
            click.echo(logs.printed(form, f"ByteBrew {__version__} with {count} workers is ready at {url}"))

    def _collect(self) -> None:
        """Finds the workers that have ended, and plans others in their places."""
        for place in self._places:
            if not place.pid or not (ended := os.waitpid(place.pid, os.WNOHANG))[0]:
                continue
            pid, place.pid = place.pid, 0
            code = os.waitstatus_to_exitcode(ended[1])
            if self._code is not None:
                self._code = self._code or (1 if code else 0)
            elif not place.has_listened:
                self._end(code if code > 0 else 1)
            else:
                soon = code != 0 and time.monotonic() - place.started < STEADY_SECONDS
                pause = 0.0 if code == 0 else PAUSES[min(place.deaths, len(PAUSES) - 1)]
                place.deaths = place.deaths + 1 if soon else 0
                place.due = time.monotonic() + pause
                how = f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
                if not place.listens:  # its clients shall go to others until one does
                    place.sock.close()
                    place.sock = self._bind()
                text = "worker %d, process %d, ended %s; the next starts in %g s"
                log.log(logging.WARNING if code else logging.INFO, text, place.number, pid, how, pause)

    def _end(self, code: int) -> None:
        """Lets the workers end, each with its running turns; the exit code is that of the supervisor."""
        self._code = code
        self._kill_at = time.monotonic() + self._core.drain_seconds + END_SECONDS
        os.close(self._life[1])
        for place in self._places:
            place.due = math.inf
            place.sock.close()

    def _kill(self) -> None:
        """Ends the workers at once: committed data is safe."""
        self._code, self._kill_at = 1, math.inf
        for place in self._places:
            if place.pid:
                os.kill(place.pid, signal.SIGKILL)
