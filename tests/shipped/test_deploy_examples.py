"""The examples of Kubernetes and Compose fit their schemas, and set what exists."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from bytebrew import __version__
from bytebrew.base.settings import rows
from bytebrew.engine import Engine
from tests.docs import ROOT
from tests.shipped.use import CACHE

pytestmark = pytest.mark.shipped

EXAMPLES = ROOT / "examples" / "deploy"
MANIFEST, COMPOSE = EXAMPLES / "kubernetes.yaml", EXAMPLES / "compose.yaml"
VALIDATORS = CACHE / "validators" / "bin"
FILES = [
    *EXAMPLES.iterdir(),
    ROOT / "packaging/container/Containerfile",
    ROOT / "packaging/systemd/bytebrew.service",
    ROOT / "docs/how-to/deploy.md",
]


def run(*command: str | Path, folder: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """A command to its end."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def manifests() -> dict[str, Any]:
    """The objects of Kubernetes by kind."""
    return {one["kind"]: one for one in YAML(typ="safe").load_all(MANIFEST.read_text())}


def test_the_manifest_fits_the_schemas_of_kubernetes(tmp_path: Path) -> None:
    validate = VALIDATORS / "kubernetes-validate"
    done = run(validate, "--strict", MANIFEST)
    assert (done.returncode, done.stderr.count(" passed ") + done.stdout.count(" passed ")) == (0, 5), done
    (tmp_path / "wrong.yaml").write_text(MANIFEST.read_text().replace("readOnlyRootFilesystem", "readOnlyRoot"))
    assert run(validate, "--strict", tmp_path / "wrong.yaml").returncode != 0


def test_one_pod_at_a_time_has_the_file_and_few_rights() -> None:
    deployment = manifests()["Deployment"]["spec"]
    pod = deployment["template"]["spec"]
    [container] = pod["containers"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    assert manifests()["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert pod["enableServiceLinks"] is pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"]
    rights = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert container["securityContext"] == rights
    assert all(container[f"{name}Probe"]["httpGet"]["path"] == "/api/v1/health" for name in ("startup", "readiness"))


def test_the_compose_file_fits_its_specification(tmp_path: Path) -> None:
    for name in ("compose.yaml", "Caddyfile"):
        shutil.copy(EXAMPLES / name, tmp_path)
    refused = run(VALIDATORS / "cmd", "compose.yaml", folder=tmp_path)
    assert "write it into .env" in refused.stdout + refused.stderr
    plain = ("-no-interpolation", "compose.yaml")
    read = YAML(typ="safe").load(run(VALIDATORS / "cmd", *plain, folder=tmp_path).stdout)
    assert {*read["services"]} == {"bytebrew", "backup", "caddy"}
    (tmp_path / "compose.yaml").write_text(COMPOSE.read_text().replace("read_only", "readonly"))
    wrong = run(VALIDATORS / "cmd", *plain, folder=tmp_path)
    assert "readonly" in wrong.stdout + wrong.stderr


def test_the_proxy_of_the_compose_file_is_the_trusted_one() -> None:
    services = YAML(typ="safe").load(COMPOSE.read_text())["services"]
    assert "ports" not in services["bytebrew"]  # nobody comes past the proxy
    address = services["caddy"]["networks"]["inner"]["ipv4_address"]
    assert services["bytebrew"]["environment"]["BYTEBREW_TRUSTED_PROXIES"] == address
    assert f"{{${'BYTEBREW_UPSTREAM'}:" in (EXAMPLES / "Caddyfile").read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_setting_that_is_named_exists(path: Path, tmp_path: Path) -> None:
    engine = Engine({"BYTEBREW_DATA_DIR": str(tmp_path)})
    known = {row.variable for row in rows(engine.plugins.tables())} | {"BYTEBREW_UPSTREAM"}  # the Caddyfile's own
    named = {*re.findall(r"BYTEBREW_\w+", path.read_text())}
    assert named <= known
    for tag in re.findall(r"image: bytebrew:(\S+)", path.read_text()):
        assert tag == __version__
