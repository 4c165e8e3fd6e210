"""The unit of systemd: what it leaves open, and the engine as a service under a systemd of its own."""

import asyncio
import os
import re
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


PAGE = re.findall(
    r"```sh\n(.*?)```",
    (ROOT / "docs/how-to/deploy.md").read_text().partition("\n## As a service")[2].partition("\n## ")[0],
    re.DOTALL,
)
"""The commands of the page: those that install the service, and the one that lets in."""


class Machine:
    """A systemd in namespaces of its own, in which the page was followed; the network is the machine's."""

    def __init__(self, folder: Path) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        settings = {"PORT": str(port), "BOOTSTRAP_ADMIN_TOKEN": ADMIN}
        lines = "".join(f"BYTEBREW_{name}={value}\n" for name, value in settings.items())
        (folder / "bytebrew.env").write_text(lines)
        (folder / "opt").mkdir()
        shutil.copy(UNIT, folder)
        shutil.copy(archive(), folder)
        spaces = ["--fork", "--kill-child", "--pid", "--mount", "--cgroup", "--ipc", "--uts"]
        boot = [str(ROOT / "tests/shipped/boot.sh"), str(folder)]
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["unshare", *spaces, *boot], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self._wait()
            self.check("install -D -m 0600 bytebrew.env /etc/bytebrew/bytebrew.env")
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

    def check(self, command: str) -> str:
        """What a command of the shell prints; it must end well."""
        done = self.run("sh", "-euc", f"cd /run/files; {command}")
        assert done.returncode == 0, f"{done.stderr}{self.log.read_text()[-2000:]}"
        return done.stdout.strip()

    def shown(self, name: str) -> str:
        """A property of the service."""
        return self.check(f"systemctl show --value -p {name} bytebrew")

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
    """That machine."""
    if os.geteuid() != 0:
        pytest.skip("only root starts a systemd")
    booted = Machine(tmp_path)
    yield booted
    booted.close()


def test_who_follows_the_page_has_the_engine_as_a_service(machine: Machine) -> None:
    install, enter = PAGE
    machine.check(install)
    before = machine.health()
    asyncio.run(use(machine.url))
    assert machine.check("stat -c '%U %a' /var/lib/bytebrew") == "bytebrew 700"
    admin = {"Authorization": f"Bearer {machine.check(enter)}"}
    assert httpx.get(f"{machine.url}/api/v1/agents", headers=admin).status_code == 200

    machine.check("systemctl kill --kill-whom=main --signal=KILL bytebrew")
    machine.health(before)
    assert machine.shown("NRestarts") == "1"
    assert httpx.get(f"{machine.url}/api/v1/sessions", headers=admin).json()["total"] == 1

    machine.check("systemctl stop bytebrew")
    assert (machine.shown("ActiveState"), machine.shown("Result")) == ("inactive", "success")


def test_wrong_settings_are_not_tried_again(machine: Machine) -> None:
    machine.check("echo BYTEBREW_MAX_TURN=5 >>/etc/bytebrew/bytebrew.env")
    machine.check(PAGE[0])
    until = time.monotonic() + 20
    while machine.shown("ActiveState") != "failed" and time.monotonic() < until:
        time.sleep(0.05)
    shown = [machine.shown(name) for name in ("ActiveState", "ExecMainStatus", "NRestarts")]
    assert shown == ["failed", "2", "0"]
