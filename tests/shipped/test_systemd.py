"""The unit of systemd: what it leaves open, and the engine as a service under a systemd of its own."""

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bytebrew.base.settings import Core
from bytebrew.testing import ADMIN
from tests.docs import ROOT
from tests.peers.test_proxies import free_port
from tests.shipped.use import archive, use

pytestmark = [
    pytest.mark.shipped,
    pytest.mark.timeout(90),
    pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="this machine has no systemd"),
]

UNIT = ROOT / "packaging" / "systemd" / "bytebrew.service"
EXPOSURE = 1.5
"""The most that systemd-analyze may say, of 10; what is left is the network and the system calls of limits."""


def test_systemd_finds_no_fault_with_the_unit(tmp_path: Path) -> None:
    there = UNIT.read_text().replace("/opt/bytebrew/bytebrew", shutil.which("true") or "")
    (tmp_path / UNIT.name).write_text(there)
    done = subprocess.run(["systemd-analyze", "verify", tmp_path / UNIT.name], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_little_is_left_open_to_the_engine() -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE * 10:.0f}"]
    done = subprocess.run([*command, UNIT], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "Overall exposure level" in done.stdout


def test_a_stop_waits_for_the_drain() -> None:
    [seconds] = [line for line in UNIT.read_text().splitlines() if line.startswith("TimeoutStopSec=")]
    assert int(seconds.partition("=")[2]) >= Core().drain_seconds + 10  # cli/serve.py gives up so long after the drain


class Machine:
    """A systemd in namespaces of its own, with the unit; the network is the machine's."""

    def __init__(self, engine: Path, folder: Path) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        extra = f"[Service]\nEnvironment=BYTEBREW_PORT={port} BYTEBREW_BOOTSTRAP_ADMIN_TOKEN={ADMIN}\n"
        (folder / UNIT.name).write_text(UNIT.read_text() + extra)
        spaces = ["--fork", "--kill-child", "--pid", "--mount", "--cgroup", "--ipc", "--uts"]
        boot = [ROOT / "tests/shipped/boot.sh", engine, folder / UNIT.name]
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["unshare", *spaces, *boot], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def _wait(self) -> None:
        until = time.monotonic() + 20
        while self.process.poll() is None and time.monotonic() < until:
            if self.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"):
                return
            time.sleep(0.05)
        pytest.skip(f"systemd does not start in namespaces here: {self.log.read_text()[-300:]}")

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """A command beside that systemd."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        enter = ["nsenter", "--target", children[0] if children else "0", "--pid", "--mount", "--cgroup", "--"]
        return subprocess.run([*enter, *command], capture_output=True, text=True, timeout=60, check=False)

    def systemctl(self, *command: str) -> str:
        """What systemctl prints; it must end well."""
        done = self.run("systemctl", *command)
        assert done.returncode == 0, f"{done.stderr}{self.log.read_text()[-2000:]}"
        return done.stdout.strip()

    def shown(self, name: str) -> str:
        """A property of the service."""
        return self.systemctl("show", "--value", "-p", name, "bytebrew")

    def health(self, other_than: str = "") -> str:
        """When the engine was started that answers now, once another answers than before."""
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                started: str = httpx.get(f"{self.url}/api/v1/health").raise_for_status().json()["started_at"]
            except httpx.HTTPError:
                started = other_than
            if started != other_than:
                return started
            time.sleep(0.05)
        raise AssertionError(self.log.read_text()[-2000:])

    def close(self) -> None:
        """Ends it with all that runs there."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """That machine, with the engine where the unit looks for it."""
    if os.geteuid() != 0:
        pytest.skip("only root starts a systemd")
    (unpacked := tmp_path / "unpacked").mkdir()
    subprocess.run(["tar", "xzf", archive(), "-C", unpacked, "--strip-components=1"], check=True)
    booted = Machine(unpacked, tmp_path)
    yield booted
    booted.close()


def test_the_engine_works_as_a_service(machine: Machine) -> None:
    machine.systemctl("start", "bytebrew")
    before = machine.health()
    asyncio.run(use(machine.url))
    assert machine.run("stat", "-c", "%U %a", "/var/lib/bytebrew").stdout == "bytebrew 700\n"
    as_user = ["setpriv", "--reuid=bytebrew", "--regid=bytebrew", "--clear-groups", "env"]
    command = [*as_user, "BYTEBREW_DATA_DIR=/var/lib/bytebrew", "/opt/bytebrew/bytebrew"]
    assert machine.run(*command, "status").returncode == 0
    token = machine.run(*command, "session", "create").stdout.strip()
    admin = {"Authorization": f"Bearer {token}"}
    assert httpx.get(f"{machine.url}/api/v1/agents", headers=admin).status_code == 200

    machine.systemctl("kill", "--kill-whom=main", "--signal=KILL", "bytebrew")
    machine.health(before)
    assert machine.shown("NRestarts") == "1"
    assert httpx.get(f"{machine.url}/api/v1/sessions", headers=admin).json()["total"] == 1

    machine.systemctl("stop", "bytebrew")
    assert (machine.shown("ActiveState"), machine.shown("Result")) == ("inactive", "success")


def test_wrong_settings_are_not_tried_again(machine: Machine) -> None:
    machine.run("sh", "-c", "printf '[Service]\\nEnvironment=BYTEBREW_MAX_TURN=5\\n' >>/run/units/bytebrew.service")
    machine.systemctl("daemon-reload")
    machine.systemctl("start", "bytebrew")
    until = time.monotonic() + 20
    while machine.shown("ActiveState") != "failed" and time.monotonic() < until:
        time.sleep(0.05)
    shown = [machine.shown(name) for name in ("ActiveState", "ExecMainStatus", "NRestarts")]
    assert shown == ["failed", "2", "0"]
