"""Each proxy of examples/deploy, as its file is, with TLS: streams, resumes, uploads, and the client's address."""

import asyncio
import hashlib
import json
import os
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from bytebrew import MessageDelta, Request, Route
from bytebrew.engine import Engine
from bytebrew.store import journal
from bytebrew.testing import ScriptedProvider, events_of, plugin, providing, scripted_schema, served_engine
from bytebrew.web.http_state import http_state
from tests.peers.test_proxies import CADDY, DEBIAN, HAPROXY, LIBRARIES, NGINX, ROOT, free_port

pytestmark = [pytest.mark.peers, pytest.mark.timeout(60)]

EXAMPLES = ROOT / "examples" / "deploy"
NAME = "agents.example"
DELTAS = 100
CLIENT, PROXY = "127.0.0.5", "127.0.0.1"
UPLOAD_MEGABYTES = 45
SPOOFED = {"X-Forwarded-For": "203.0.113.66", "Forwarded": "for=203.0.113.66", "X-Forwarded-Host": "evil.example"}
CHAT = "/api/v1/schemas/test/chat"
Command = Sequence[str | Path]


class Ports:
    """Where a proxy listens, and the engine."""

    def __init__(self, engine: int) -> None:
        self.http, self.https, self.engine = free_port(), free_port(), engine


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    """The text with addresses and files of this test; each must be there."""
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


def nginx(folder: Path, ports: Ports) -> Command:
    example = replaced(
        (EXAMPLES / "nginx.conf").read_text(),
        ("[::]:80", f"127.0.0.2:{ports.http}"),
        ("listen 80", f"listen 127.0.0.1:{ports.http}"),
        ("[::]:443", f"127.0.0.2:{ports.https}"),
        ("listen 443", f"listen 127.0.0.1:{ports.https}"),
        ("/etc/ssl/agents.example", str(folder)),
        ("/var/log/nginx", str(folder)),
        ("127.0.0.1:8443", f"127.0.0.1:{ports.engine}"),
    )
    (folder / "bytebrew.conf").write_text(example)
    names = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    kept = "access_log off;" + "".join(f"{name}_temp_path {folder}/{name};" for name in names)
    user = "user root;" if os.geteuid() == 0 else ""
    http = f"http {{ {kept} include {folder}/bytebrew.conf; }}"
    (folder / "nginx.conf").write_text(f"daemon off; pid {folder}/pid; {user} events {{}} {http}")
    return [NGINX, "-e", "stderr", "-p", folder, "-c", folder / "nginx.conf"]


def caddy(folder: Path, ports: Ports) -> Command:
    tests = ("admin off", "local_certs", "skip_install_trust", f"http_port {ports.http}", f"https_port {ports.https}")
    example = replaced((EXAMPLES / "Caddyfile").read_text(), ("127.0.0.1:8443", f"127.0.0.1:{ports.engine}"))
    (folder / "Caddyfile").write_text("\n".join(["{", *tests, "}", example]))
    return [CADDY, "run", "--config", folder / "Caddyfile"]


def haproxy(folder: Path, ports: Ports) -> Command:
    example = replaced(
        (EXAMPLES / "haproxy.cfg").read_text(),
        ("bind :::80 v4v6", f"bind 127.0.0.1:{ports.http}"),
        ("bind :::443 v4v6", f"bind 127.0.0.1:{ports.https}"),
        ("/etc/haproxy", str(folder)),
        ("127.0.0.1:8443", f"127.0.0.1:{ports.engine}"),
    )
    (folder / "haproxy.cfg").write_text(example)
    return [HAPROXY, "-db", "-f", folder / "haproxy.cfg"]


class Behind:
    """An engine behind a proxy; `released` lets the model say its next delta."""

    def __init__(self, engine: Engine, direct: httpx.AsyncClient, ports: Ports, gates: list[asyncio.Event]) -> None:
        self.engine, self.direct, self.ports, self.gates = engine, direct, ports, gates
        self.trust = ssl.create_default_context()
        self.trust.check_hostname, self.trust.verify_mode = False, ssl.CERT_NONE

    def client(self, *, http2: bool) -> httpx.AsyncClient:
        """A client of the proxy with an address of its own."""

        async def name(request: httpx.Request) -> None:
            request.extensions["sni_hostname"] = NAME

        return httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(http1=not http2, http2=http2, verify=self.trust, local_address=CLIENT),
            base_url=f"https://{PROXY}:{self.ports.https}",
            headers={**self.direct.headers, "Host": NAME},
            event_hooks={"request": [name]},
            timeout=20,
        )


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate and its key, as the examples name them."""
    folder = tmp_path_factory.mktemp("certificate")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    files = ["-keyout", str(folder / "privkey.pem"), "-out", str(folder / "fullchain.pem")]
    subprocess.run([*command, *files, "-days", "2", "-subj", f"/CN={NAME}"], check=True, capture_output=True)
    both = [(folder / name).read_text() for name in ("fullchain.pem", "privkey.pem")]
    (folder / f"{NAME}.pem").write_text("".join(both))
    return folder


@asynccontextmanager
async def behind(make: Callable[[Path, Ports], Command], certificate: Path, folder: Path) -> AsyncIterator[Behind]:
    """An engine behind the proxy of an example."""
    if not DEBIAN.exists():
        pytest.skip("tests/peers/setup.sh has not unpacked the proxies")
    gates = [asyncio.Event() for _ in range(DELTAS)]
    script = [step for n in range(DELTAS) for step in (MessageDelta(content=f"{n} "), gates[n])]
    settings = {"BYTEBREW_TRUSTED_PROXIES": PROXY, "BYTEBREW_MAX_BODY_BYTES": "65536"}
    async with served_engine(providing(ScriptedProvider(script)), COUNTING, settings=settings) as (engine, direct):
        await scripted_schema(engine)
        shutil.copytree(certificate, folder, dirs_exist_ok=True)
        ports = Ports(direct.base_url.port or 0)
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LD_LIBRARY_PATH": LIBRARIES}
        arguments = make(folder, ports)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(arguments, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            served = Behind(engine, direct, ports, gates)
            await started(served, process, folder / "log")
            yield served
        finally:
            process.terminate()
            process.wait()


async def started(served: Behind, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Returns once the proxy passes on requests."""
    async with asyncio.timeout(20), served.client(http2=False) as client:
        while process.poll() is None:
            try:
                (await client.get("/api/v1/health")).raise_for_status()
                return
            except httpx.HTTPError:
                await asyncio.sleep(0.05)
    raise AssertionError(log.read_text())


async def count(request: Request[AsyncIterator[bytes]]) -> dict[str, str]:
    """The digest of a body."""
    digest = hashlib.sha256()
    async for piece in request.body:
        digest.update(piece)
    return {"sha256": digest.hexdigest()}


COUNT = Route("POST", "/api/v1/count", "config", count, "Count", stream_body=True, answer=dict[str, str])
COUNTING = plugin("counting", register_routes=lambda register: register(COUNT))
PROXIES = pytest.mark.parametrize("proxy", [nginx, caddy, haproxy])


async def deltas(response: httpx.Response, served: Behind, said: list[str], most: int) -> str:
    """Reads deltas up to so many in all, and lets the model say the next after each; returns the last event's id."""
    last = ""
    async with asyncio.timeout(20):
        async for event in events_of(response):
            last = event.id or last
            if event.event == "message_delta":
                said.append(json.loads(event.data)["content"])
                if len(said) >= most:
                    return last
                served.gates[len(said) - 1].set()
    return last


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
@PROXIES
async def test_each_delta_arrives_before_the_next_is_said_and_a_stream_resumes(
    proxy: Callable[[Path, Ports], Command],
    http2: bool,
    certificate: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The model says a delta after the client has the one before: a proxy that held one back would hold up the turn."""
    monkeypatch.setattr(journal, "HEARTBEAT_SECONDS", 0.1)
    said: list[str] = []
    async with behind(proxy, certificate, tmp_path) as served, served.client(http2=http2) as client:
        async with (
            served.client(http2=http2) as cut,  # httpx ends a stream of HTTP/2 with its connection only
            cut.stream("POST", CHAT, json={"message": "Count"}) as response,
        ):
            assert response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
            last = await deltas(response, served, said, DELTAS // 2)
        async with asyncio.timeout(20):
            while http_state(served.engine).streams:  # the proxy says that the client has left
                await asyncio.sleep(0.01)
        url, headers = f"/api/v1/sessions/{response.headers['x-session-id']}/events", {"Last-Event-ID": last}
        async with client.stream("GET", url, headers=headers) as response:
            async with asyncio.timeout(20):
                async for chunk in response.aiter_bytes():
                    if b": ping" in chunk:
                        break
        served.gates[DELTAS // 2 - 1].set()
        async with client.stream("GET", url, headers=headers) as response:
            await deltas(response, served, said, DELTAS)
        assert said == [f"{n} " for n in range(DELTAS)]


async def curl(served: Behind, path: str, body: Path, *, http2: bool) -> Any:
    """The answer to an upload by curl, whose HTTP/2 reads while it sends."""
    port = served.ports.https
    to = ["--interface", CLIENT, "--resolve", f"{NAME}:{port}:{PROXY}", f"https://{NAME}:{port}{path}"]
    headers = ["-H", f"Authorization: {served.direct.headers['authorization']}", "-H", "Content-Type: application/json"]
    version = "--http2" if http2 else "--http1.1"
    command = ["curl", "-sk", version, "--max-time", "30", *headers, "--data-binary", f"@{body}", *to]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return json.loads(output) if output else None


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
@PROXIES
async def test_an_upload_passes_and_the_engine_sees_who_sends_it(
    proxy: Callable[[Path, Ports], Command], http2: bool, certificate: Path, tmp_path: Path
) -> None:
    async with behind(proxy, certificate, tmp_path) as served, served.client(http2=http2) as client:
        (tmp_path / "body").write_bytes(body := os.urandom(1024 * 1024) * UPLOAD_MEGABYTES)
        answer = await curl(served, "/api/v1/count", tmp_path / "body", http2=http2)
        assert answer == {"sha256": hashlib.sha256(body).hexdigest()}
        (tmp_path / "body").write_bytes(b" " * 200_000)  # Go's servers close after 256 KB that nobody reads
        refused = await curl(served, "/api/v1/models", tmp_path / "body", http2=http2)
        if refused or not http2:  # HAProxy may reset a stream of HTTP/2 that is answered before its body has come
            assert refused["error"] == "payload_too_large"

        rule = {"name": "addresses", "per": "ip", "tiers": {"all": {"requests": 2, "window": "1h"}}}
        assert (await client.post("/api/v1/rate-limits", json=rule, headers=SPOOFED)).status_code == 201
        audit = await client.get("/api/v1/audit")
        assert audit.json()["data"][0]["details"]["client"] == CLIENT
        assert "strict-transport-security" in audit.headers
        statuses = [(await client.get("/api/v1/sessions", headers=SPOOFED)).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        assert (await served.direct.get("/api/v1/sessions")).status_code == 200

        session = await client.post("/api/v1/auth/local-session", headers={"Authorization": ""})
        assert (session.status_code, session.json()["error"]) == (403, "forwarded")
        metadata = await client.post("/mcp", headers={"Authorization": ""})
        assert f'resource_metadata="https://{NAME}/' in metadata.headers["www-authenticate"]


@PROXIES
async def test_what_comes_without_tls_is_sent_to_where_there_is_some(
    proxy: Callable[[Path, Ports], Command], certificate: Path, tmp_path: Path
) -> None:
    async with behind(proxy, certificate, tmp_path) as served:
        async with httpx.AsyncClient() as client:
            plain = await client.get(f"http://{PROXY}:{served.ports.http}/docs?a=1", headers={"Host": NAME})
        assert plain.status_code == 308
        assert plain.headers["location"].removesuffix("/docs?a=1") in (
            f"https://{NAME}",
            f"https://{NAME}:{served.ports.https}",
        )


@PROXIES
async def test_a_ticket_in_an_address_opens_its_stream_and_is_in_no_log(
    proxy: Callable[[Path, Ports], Command], certificate: Path, tmp_path: Path
) -> None:
    async with behind(proxy, certificate, tmp_path) as served, served.client(http2=False) as client:
        for gate in served.gates:
            gate.set()
        session = (await client.post(CHAT, json={"message": "Count", "stream": False})).json()["session_id"]
        path = f"/api/v1/sessions/{session}/events"
        ticket = (await client.post("/api/v1/auth/tickets", json={"path": path})).json()["ticket"]
        del client.headers["authorization"]
        async with client.stream("GET", path, params={"ticket": ticket}) as stream:
            assert (await anext(events_of(stream))).event == "message_delta"
        assert (await client.get(path, params={"ticket": f"{ticket}A"})).status_code == 401
    logs = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert ticket.encode() not in logs
    if proxy is nginx:
        assert f'"GET {path} HTTP/1.1" 401'.encode() in logs
