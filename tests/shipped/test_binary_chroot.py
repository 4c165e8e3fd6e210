"""The executable where nothing else is: an empty root with the file, /dev/null, /proc and /tmp."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bytebrew.testing import ADMIN, chat, names
from tests.commands import install
from tests.documents import create, found, pdf, put, settled
from tests.processes import SLOW, Process

pytestmark = [
    pytest.mark.shipped,
    pytest.mark.timeout(240),  # each command unpacks the file
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may make another root"),
]

ENTER = 'mount -t proc proc "$0/proc" && mount --bind /dev/null "$0/dev/null" && exec chroot "$0" "$@"'  # keeps the pid
SETTINGS = {"BYTEBREW_PLUGINS_DIR": "/plugins", "TMPDIR": "/tmp"}


class Root:
    """An empty root folder; `entry` is the program in it."""

    def __init__(self, folder: Path, entry: str = "/bytebrew") -> None:
        self.folder = folder
        self.engines: list[Process] = []
        for name in ("dev", "proc", "tmp", "plugins"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "dev" / "null").touch()
        self.command = ("unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER, str(folder), entry)

    def run(self, *arguments: str, data: str = "/tmp/data") -> str:
        """What a command prints; it has to succeed."""
        settings = {**SETTINGS, "BYTEBREW_DATA_DIR": data, "BYTEBREW_PORT": "0", "PATH": os.environ["PATH"]}
        done = subprocess.run([*self.command, *arguments], env=settings, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def serve(self, data: str = "/tmp/data") -> Process:
        self.engines.append(engine := Process(Path(data), SETTINGS, self.command))
        return engine

    def unpacked(self) -> list[str]:
        """The temporary folders of the one-file form."""
        return [path.name for path in (self.folder / "tmp").glob("bytebrew-unpacked-*")]


@pytest.fixture
def root(tmp_path: Path, one_file: Path) -> Iterator[Root]:
    """With the one file, and a plugin in a folder."""
    root = Root(tmp_path / "root")
    shutil.copy(one_file, root.folder / "bytebrew")
    install(root.folder / "plugins", "slow", SLOW)
    yield root
    for engine in root.engines:
        if engine.process.poll() is None:
            engine.kill()
    shutil.rmtree(root.folder)


def calling(engine: Process) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=engine.url, headers={"Authorization": f"Bearer {ADMIN}"}, timeout=30)


async def sessions(engine: Process) -> set[str]:
    async with calling(engine) as client:
        return {one["id"] for one in (await client.get("/api/v1/sessions")).json()["sessions"]}


async def test_the_one_file_does_all_that_an_engine_does(root: Root) -> None:
    assert "ok  serve:" in root.run("doctor")
    assert "loaded" in next(line for line in root.run("plugins").splitlines() if line.startswith("slow "))
    engine = root.serve()
    async with calling(engine) as client:
        assert "<html" in (await client.get("/", headers={"Accept": "text/html"})).text
        # chat, streamed, with a tool; by the plugin in the folder too
        assert names(await chat(client, "demo", "Hello! What is the current_time?"))[-1] == "done"
        for path, body in {
            "models": {"name": "slow", "type": "slow", "model_name": "slow"},
            "agents": {"name": "slow", "model": "slow"},
            "schemas": {"name": "slow", "entry_agent": "slow", "chat_enabled": True},
        }.items():
            assert (await client.post(f"/api/v1/{path}", json=body)).status_code == 201
        events = await chat(client, "slow", "3")
        assert [event.event for event in events].count("message_delta") == 3
        # a PDF, read by a process of its own
        await create(client)
        await put(client, "zoo.pdf", pdf("A cover", "The quokka sleeps"))
        assert [file["status"] for file in (await settled(client)).values()] == ["ready"]
        [result] = await found(client, "quokka")
        assert "The quokka sleeps" in result["text"]
        # zones of schedules, and a credential that has to be sealed
        schedule = {"name": "daily", "cron": "0 9 * * *", "timezone": "Europe/Berlin", "agent": "slow", "message": "1"}
        assert (await client.post("/api/v1/schedules", json=schedule)).status_code == 201
        model = {"name": "gpt", "type": "openai_compatible", "model_name": "x", "api_key": "secret-of-the-vendor"}
        assert (await client.post("/api/v1/models", json={**model, "base_url": "https://x.example/v1"})).is_success
    before = await sessions(engine)
    assert '"status":"ok"' in root.run("status", "--json")
    root.run("backup", "/tmp/engine.tar.gz")
    # a kill leaves what was unpacked, which the next start clears away
    left = root.unpacked()
    engine.kill()
    assert root.unpacked() == left != []
    engine = root.serve()
    assert len(root.unpacked()) == 1
    assert root.unpacked() != left
    assert await sessions(engine) == before
    assert engine.stop() == 0
    assert root.unpacked() == []
    # another data folder, from the backup
    root.run("restore", "/tmp/engine.tar.gz", data="/tmp/other")
    assert "opens all 1 stored credentials" in root.run("doctor", data="/tmp/other")
    engine = root.serve("/tmp/other")
    assert await sessions(engine) == before
    async with calling(engine) as client:
        assert [result["text"] for result in await found(client, "quokka")] == [result["text"]]
    assert engine.stop() == 0


def test_the_folder_has_certificates_zones_and_vectors_of_its_own(unpacked: Path, tmp_path: Path) -> None:
    shutil.copytree(unpacked, tmp_path / "root" / "engine", symlinks=True)
    root = Root(tmp_path / "root", "/engine/bin/python")
    code = """
import httpx, sqlite3, sqlite_vec, zoneinfo
print("authorities:", len(httpx.create_ssl_context().get_ca_certs()))
print("zone:", zoneinfo.ZoneInfo("Europe/Berlin").key)
conn = sqlite3.connect(":memory:")
if hasattr(conn, "enable_load_extension"):
    conn.enable_load_extension(True)
    sqlite_vec.load(conn)
    print("vectors:", conn.execute("select vec_version()").fetchone()[0])
"""
    printed = dict(line.split(": ") for line in root.run("-I", "-c", code).splitlines())
    assert int(printed["authorities"]) > 100
    assert printed["zone"] == "Europe/Berlin"
    # the Python that runs the tests is the one that went in; not each was built to load extensions of SQLite
    assert ("vectors" in printed) is hasattr(sqlite3.Connection, "enable_load_extension")
    shutil.rmtree(root.folder)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("noexec", "cannot unpack itself into {}, which is mounted noexec; set TMPDIR"),
        ("size=4m", "no space left on device; set TMPDIR"),
        ("ro", "read-only file system; set TMPDIR"),
    ],
)
def test_a_folder_that_it_cannot_unpack_into_is_named(options: str, words: str, one_file: Path, tmp_path: Path) -> None:
    script = 'mount -t tmpfs -o "$0" none "$1" && TMPDIR="$1" exec "$2" --version'
    command = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        script,
        options,
        str(tmp_path),
        str(one_file),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(f"bytebrew: cannot unpack itself into {tmp_path}")
    assert words.format(tmp_path) in done.stderr
