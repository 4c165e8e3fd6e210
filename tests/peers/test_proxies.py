"""No proxy hands out the operator's session, whoever runs it and whatever it leaves out; nor does another user."""

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.commands import BYTEBREW
from tests.processes import Process, serving

pytestmark = pytest.mark.peers

ROOT = Path(__file__).parents[2]
DEBIAN = ROOT / ".cache/peers/proxies"
LIBRARIES = ":".join(str(path) for where in ("usr/lib", "lib") for path in DEBIAN.glob(f"{where}/*-linux-gnu"))
SESSION = "/api/v1/auth/local-session"
SELF, OTHER = os.geteuid(), 65534
SOCAT, CADDY = DEBIAN / "usr/bin/socat", DEBIAN / "usr/bin/caddy"
NGINX, HAPROXY = DEBIAN / "usr/sbin/nginx", DEBIAN / "usr/sbin/haproxy"
NGINX_CONF = """
daemon off; pid {folder}/pid; error_log stderr; {user}
events {{}}
http {{
  access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{
    listen 127.0.0.1:{front};
    location / {{
      proxy_pass http://127.0.0.1:{engine}; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_set_header Host {host};
    }}
  }}
}}
"""
HAPROXY_CONF = """
defaults
  mode {mode}
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend front
  bind 127.0.0.1:{front}
  default_backend engine
backend engine
  server engine 127.0.0.1:{engine}
"""
CADDY_CONF = """
{{
  admin off
  auto_https off
}}
http://:{front} {{
  bind 127.0.0.1
  reverse_proxy 127.0.0.1:{engine} {{
    {silence}
  }}
}}
"""
SILENT = "\n".join(f"header_up -X-Forwarded-{name}" for name in ("For", "Proto", "Host"))

Command = Callable[[Path, int, int], Sequence[str | Path]]
"""The command of a proxy, which finds its configuration in the folder and leads from one port to another."""


def nginx(host: str) -> Command:
    def command(folder: Path, front: int, engine: int) -> Sequence[str | Path]:
        user = "user root;" if folder.stat().st_uid == 0 else ""
        text = NGINX_CONF.format(folder=folder, user=user, front=front, engine=engine, host=host)
        (folder / "conf").write_text(text)
        return [NGINX, "-e", "stderr", "-p", folder, "-c", folder / "conf"]

    return command


def haproxy(mode: str) -> Command:
    def command(folder: Path, front: int, engine: int) -> Sequence[str | Path]:
        (folder / "conf").write_text(HAPROXY_CONF.format(mode=mode, front=front, engine=engine))
        return [HAPROXY, "-db", "-f", folder / "conf"]

    return command


def caddy(silence: str) -> Command:
    def command(folder: Path, front: int, engine: int) -> Sequence[str | Path]:
        (folder / "conf").write_text(CADDY_CONF.format(front=front, engine=engine, silence=silence))
        return [CADDY, "run", "--adapter", "caddyfile", "--config", folder / "conf"]

    return command


def socat(to: str, options: str = ",fork") -> Command:
    def command(folder: Path, front: int, engine: int) -> Sequence[str | Path]:
        listen = f"TCP-LISTEN:{front},bind=127.0.0.1,reuseaddr{options}"
        return [SOCAT, listen, to.format(engine=engine, socat=SOCAT)]

    return command


PROXIES = {
    "nginx with any host": nginx("$http_host"),
    "nginx with a host of its own": nginx("localhost"),
    "nginx with one upstream's name": nginx("127.0.0.1"),
    "haproxy of http": haproxy("http"),
    "haproxy of tcp": haproxy("tcp"),
    "caddy": caddy(""),
    "caddy that names nobody": caddy(SILENT),
    "socat": socat("TCP:127.0.0.1:{engine}"),
    "socat through a socket pair": socat("EXEC:{socat} - TCP\\:127.0.0.1\\:{engine}"),
    "socat through pipes": socat("EXEC:{socat} - TCP\\:127.0.0.1\\:{engine},pipes"),
    "socat through a terminal": socat("EXEC:{socat} - TCP\\:127.0.0.1\\:{engine},pty,rawer"),
    "socat through a terminal of its own": socat("EXEC:{socat} - TCP\\:127.0.0.1\\:{engine},pty,ctty,setsid,rawer"),
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def passing(command: Command, engine: str, uid: int) -> Iterator[str]:
    """The URL of a proxy that this user runs before an engine."""
    if not DEBIAN.exists():
        pytest.skip("tests/peers/setup.sh has not unpacked the proxies")
    front = free_port()
    folder = Path(tempfile.mkdtemp(prefix="proxy-", dir="/tmp"))
    os.chown(folder, uid, -1)
    arguments = command(folder, front, httpx.URL(engine).port or 0)
    folder.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LD_LIBRARY_PATH": LIBRARIES}
    with (folder / "log").open("wb") as log:
        identity: dict[str, Any] = {} if uid == SELF else {"user": uid, "group": uid, "extra_groups": []}
        process = subprocess.Popen(arguments, env=environment, stdin=subprocess.DEVNULL, stderr=log, **identity)
    try:
        until = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < until:
            try:
                httpx.get(f"http://127.0.0.1:{front}/api/v1/health").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.05)
        else:
            raise AssertionError((folder / "log").read_text())
        yield f"http://127.0.0.1:{front}"
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


def curl(url: str, uid: int = SELF, *more: str) -> dict[str, str]:
    """The answer to the API reference's command, as this user runs it."""
    command = ["curl", "-s", "-X", "POST", f"{url}{SESSION}", *more]
    identity: dict[str, Any] = {} if uid == SELF else {"user": uid, "group": uid, "extra_groups": []}
    done = subprocess.run(command, **identity, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=20)
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


def link_of(data: Path) -> str:
    return (data / "local-session.token").read_text().strip()


def check_guarded(url: str, data: Path) -> None:
    """Nothing is opened at this URL but with the token, and that once."""
    for host in ("localhost", "localhost:8443", "127.0.0.1", "[::1]"):
        refused = httpx.post(f"{url}{SESSION}", headers={"Host": host})
        assert refused.status_code == 403, refused.text
        assert "access_token" not in refused.text
        assert refused.json()["error"] in ("proof_required", "forwarded")
        assert "local-session.token" in refused.json()["message"]
    proof = {"Authorization": f"Bearer {link_of(data)}"}
    session = httpx.post(f"{url}{SESSION}", headers=proof).json()["access_token"]
    admin = {"Authorization": f"Bearer {session}"}
    assert httpx.get(f"{url}/api/v1/auth/tokens", headers=admin).status_code == 200
    assert httpx.post(f"{url}{SESSION}", headers=proof).status_code in (403, 429)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of an engine of the tests' own user."""
    return tmp_path_factory.mktemp("engine") / "data"


@pytest.fixture(scope="module")
def engine(data: Path) -> Iterator[Process]:
    """That engine."""
    with serving(data) as process:
        yield process


@pytest.mark.parametrize("uid", [SELF, OTHER], ids=["of the same user", "of another user"])
@pytest.mark.parametrize("name", PROXIES)
def test_a_proxy_is_handed_no_session(engine: Process, data: Path, name: str, uid: int) -> None:
    if uid != SELF and SELF != 0:
        pytest.skip("only root runs a proxy as another user")
    with passing(PROXIES[name], engine.url, uid) as url:
        check_guarded(url, data)
    assert "access_token" in curl(engine.url)


def test_a_socket_in_the_file_system_is_no_way_round(engine: Process, data: Path) -> None:
    port = httpx.URL(engine.url).port
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = Path(folder) / "front"
        command: list[str | Path] = [SOCAT, f"UNIX-LISTEN:{path},fork", f"TCP:127.0.0.1:{port}"]
        process = subprocess.Popen(command, env={"LD_LIBRARY_PATH": LIBRARIES}, stdin=subprocess.DEVNULL)
        try:
            while not path.exists():
                time.sleep(0.02)
            assert curl(engine.url, SELF, "--unix-socket", str(path))["error"] == "proof_required"
        finally:
            process.terminate()
            process.wait()


def test_another_user_of_the_machine_is_handed_none(engine: Process, data: Path) -> None:
    if SELF != 0:
        pytest.skip("only root becomes another user")
    assert curl(engine.url, OTHER)["error"] == "proof_required"
    assert "access_token" in curl(engine.url, SELF)
    assert "access_token" in curl(engine.url, OTHER, "-H", f"Authorization: Bearer {link_of(data)}")


def shared_command() -> Sequence[str] | None:
    """How another user runs this very engine, if there is a Python that they may run."""
    for python in (sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"):
        paths = [sysconfig.get_path("purelib"), str(ROOT), str(ROOT / "plugins")]
        prefix = ["setpriv", f"--reuid={OTHER}", f"--regid={OTHER}", "--clear-groups"]
        command = [*prefix, "env", f"PYTHONPATH={':'.join(paths)}", python, "-m", *BYTEBREW[2:]]
        if subprocess.run([*command, "--version"], capture_output=True, check=False, cwd="/").returncode == 0:
            return command
    return None


@pytest.mark.parametrize("name", ["nginx with a host of its own", "haproxy of tcp", "socat"])
@pytest.mark.parametrize("uid", [OTHER, 0], ids=["of the same user", "of root"])
def test_an_engine_of_a_user_with_few_rights_is_guarded_too(name: str, uid: int) -> None:
    if SELF != 0 or (command := shared_command()) is None:
        pytest.skip("only root becomes another user, who needs a Python to run")
    folder = Path(tempfile.mkdtemp(prefix="engine-", dir="/tmp"))
    try:
        os.chown(folder, OTHER, OTHER)
        with serving(folder / "data", command=command) as process:
            assert "access_token" in curl(process.url, OTHER)
            assert curl(process.url, 0)["error"] == "proof_required"
            with passing(PROXIES[name], process.url, uid) as url:
                check_guarded(url, folder / "data")
    finally:
        shutil.rmtree(folder)
