"""The image that packaging/container/Containerfile makes, built and run by Podman as its examples run it."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML

from bytebrew import __version__
from bytebrew.testing import ADMIN
from tests.docs import ROOT
from tests.peers.test_proxies import free_port
from tests.shipped.use import CACHE, archive, use

pytestmark = [
    pytest.mark.shipped,
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root runs containers here"),
]

DEBIAN = CACHE / "podman"
LIBRARIES = ":".join(str(path) for where in ("usr/lib", "lib") for path in DEBIAN.glob(f"{where}/*-linux-gnu"))
STORAGE = '[storage]\ndriver = "overlay"\ngraphroot = "{folder}/root"\nrunroot = "{folder}/run"\n'
CONF = """
[containers]
log_driver = "k8s-file"
netns = "host"
cgroups = "disabled"
default_ulimits = ["nofile=1024:4096", "nproc=1024:1024"]
seccomp_profile = "{debian}/usr/share/containers/seccomp.json"
[network]
network_config_dir = "{folder}/networks"
[engine]
lock_type = "file"
cgroup_manager = "cgroupfs"
events_logger = "file"
conmon_path = ["{debian}/usr/bin/conmon"]
static_dir = "{folder}/static"
tmp_dir = "{folder}/tmp"
volume_path = "{folder}/volumes"
runtime = "crun"
[engine.runtimes]
crun = ["{folder}/crun"]
"""
CRUN = '#!/bin/sh\nLD_LIBRARY_PATH={libraries} exec {debian}/usr/bin/crun "$@"\n'
PAGE = (
    re.findall(r"```sh\n(podman .*?)```", (ROOT / "docs/how-to/deploy.md").read_text(), re.DOTALL)[0]
    .replace("\\\n", "")
    .splitlines()
)
"""The commands of the page, one a line."""
READ_ONLY = ("--read-only", "--read-only-tmpfs=false")
"""Without what Podman else adds: Docker and Kubernetes give no folder for temporary files."""
COMPOSE: dict[str, Any] = YAML(typ="safe").load((ROOT / "examples/deploy/compose.yaml").read_text())
LIST = "import os; print(*os.listdir('/backups'))"
IMAGE = f"bytebrew:{__version__}"
SECRET = "a secret of this test"


class Podman:
    """Podman with a storage of its own, and the image."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        names = {"folder": folder, "debian": DEBIAN, "libraries": LIBRARIES}
        for name, text in (("storage.conf", STORAGE), ("containers.conf", CONF), ("crun", CRUN)):
            (folder / name).write_text(text.format(**names))
        (folder / "crun").chmod(0o755)
        (folder / ".config/containers").mkdir(parents=True)
        shutil.copy(DEBIAN / "etc/containers/policy.json", folder / ".config/containers")
        self._environment = {
            "PATH": f"{DEBIAN}/usr/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(folder),
            "LD_LIBRARY_PATH": LIBRARIES,
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_REGISTRIES_CONF": f"{DEBIAN}/etc/containers/registries.conf",
            "DISABLE_HC_SYSTEMD": "true",  # the timer of health checks
        }
        command = ["unshare", "--mount", "--cgroup", str(ROOT / "tests/shipped/holder.sh")]
        self._holder = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self._holder.stdout is not None and self._holder.stderr is not None
        if self._holder.stdout.readline() != "ready\n":
            pytest.skip(f"no namespaces for Podman here: {self._holder.stderr.read()[-300:]}")

    def run(self, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        """A command of Podman to its end."""
        return self._within("podman", *arguments)

    def _within(self, *command: str | Path) -> "subprocess.CompletedProcess[str]":
        enter = ["nsenter", f"--target={self._holder.pid}", "--mount", "--cgroup", f"--wd={ROOT}", *command]
        return subprocess.run(enter, env=self._environment, capture_output=True, text=True, timeout=120, check=False)

    def check(self, *arguments: str | Path) -> str:
        """What a command prints; it must end well."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def shown(self, container: str, field: str) -> str:
        """A field of a container."""
        return self.check("inspect", container, f"--format={{{{.{field}}}}}")

    def follow(self, command: str, **settings: str) -> str:
        """What a command of the page prints, with the folder of the archive and further settings."""
        more = "".join(f"-e BYTEBREW_{name}={value} " for name, value in settings.items())
        here = command.replace(" dist", f" {archive().parent}").replace(" -v ", f" {more}-v ")
        here = here.replace("bytebrew.env", f"{self._folder}/bytebrew.env")
        done = self._within("bash", "-euc", here)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def close(self) -> None:
        """Ends all containers."""
        self.run("rm", "--all", "--force", "--time=0")
        with self._holder:
            self._holder.kill()


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """Podman, with the image built from the executable's folder form."""
    if not DEBIAN.exists():
        pytest.skip("tests/shipped/setup.sh has not unpacked Podman")
    made = Podman(tmp_path_factory.mktemp("podman"))
    try:
        made.follow(next(line for line in PAGE if line.startswith("podman build")))
        yield made
    finally:
        made.close()


def service(name: str, **settings: str) -> list[str]:
    """The arguments that run a service of the Compose example, but for its network."""
    one = COMPOSE["services"][name]
    assert one["read_only"]
    arguments = [*READ_ONLY, *(f"--cap-drop={what}" for what in one["cap_drop"])]
    arguments += [f"--security-opt={what.removesuffix(':true')}" for what in one["security_opt"]]
    arguments += [f"--volume={volume}" for volume in one["volumes"]]
    environment = {**one.get("environment", {}), **{f"BYTEBREW_{key}": value for key, value in settings.items()}}
    arguments += [f"--env={key}={value}" for key, value in environment.items()]
    return [*arguments, IMAGE, *one.get("command", ())]


def test_the_image_runs_nothing_as_root_and_asks_how_people_get_in(podman: Podman) -> None:
    [image] = json.loads(podman.check("image", "inspect", IMAGE))
    assert (image["Config"]["User"], image["Config"]["Volumes"]) == ("65532:65532", {"/data": {}})
    assert image["Healthcheck"]["Test"] == ["CMD", "bytebrew", "status"]
    podman.check("run", "--detach", "--name=open", *READ_ONLY, IMAGE)
    while podman.shown("open", "State.Running") == "true":
        pass  # each look takes a tenth of a second
    assert podman.shown("open", "State.ExitCode") == "2"
    assert "BYTEBREW_LOCAL_SESSION_SECRET" in podman.run("logs", "open").stderr
    assert podman.run("run", "--entrypoint=/bin/sh", IMAGE).returncode == 127  # there is no shell


def test_the_engine_works_in_a_container_with_a_root_that_is_read_only(podman: Podman) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}"
    settings = {"PORT": str(port), "BOOTSTRAP_ADMIN_TOKEN": ADMIN, "LOCAL_SESSION_SECRET": SECRET}
    podman.check("run", "--detach", "--name=engine", *service("bytebrew", **settings))
    healthy(podman)
    asyncio.run(use(url))

    process = podman.shown("engine", "State.Pid")
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    assert (status["Uid"].split()[0], int(status["CapEff"], 16), status["NoNewPrivs"]) == ("65532", 0, "1")
    token = podman.check("exec", "engine", "bytebrew", "session", "create")
    admin = {"Authorization": f"Bearer {token}"}
    assert httpx.get(f"{url}/api/v1/agents", headers=admin).status_code == 200

    podman.check("run", "--detach", "--name=backup", "--network=none", *service("backup"))
    while not podman.check("exec", "backup", "/opt/bytebrew/bin/python", "-c", LIST).endswith(".tar"):
        assert podman.shown("backup", "State.Running") == "true", podman.run("logs", "backup")

    podman.check("kill", "--signal=KILL", "engine")
    assert podman.run("healthcheck", "run", "engine").returncode != 0
    podman.check("start", "engine")
    healthy(podman)
    assert httpx.get(f"{url}/api/v1/sessions", headers=admin).json()["total"] == 1
    podman.check("stop", "engine")
    assert podman.shown("engine", "State.ExitCode") == "0"


def test_the_commands_of_the_page_lead_to_a_token(podman: Podman) -> None:
    _, secret, run, enter = PAGE
    port = free_port()
    podman.follow(secret)
    podman.follow(run, PORT=str(port))
    healthy(podman, "bytebrew")
    admin = {"Authorization": f"Bearer {podman.follow(enter)}"}
    assert httpx.get(f"http://127.0.0.1:{port}/api/v1/agents", headers=admin).status_code == 200
    podman.check("rm", "--force", "--time=0", "bytebrew")


def healthy(podman: Podman, name: str = "engine") -> None:
    """Returns once the image's health check is content."""
    for _ in range(60):  # each takes as long as a start of Python
        if podman.run("healthcheck", "run", name).returncode == 0:
            return
    raise AssertionError(podman.run("logs", name).stderr)
