"""`bytebrew status`: how an engine is, to its own user, without a token and whatever it listens on."""

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import httpx
import pytest

from bytebrew.testing import ADMIN, served_engine
from tests.commands import BYTEBREW, environment, run
from tests.processes import serving

HEADERS = {"Authorization": f"Bearer {ADMIN}"}
DEAD = "http://127.0.0.1:9/v1"


def settings(data: Path) -> dict[str, str]:
    return {"BYTEBREW_DATA_DIR": str(data)}


def talk(url: str) -> None:
    """A model whose vendor is away, and a few turns that fail at it; an MCP server that is away too."""
    with httpx.Client(base_url=f"{url}/api/v1", headers=HEADERS, timeout=60) as client:
        model = {"name": "away", "type": "openai_compatible", "model_name": "m", "base_url": DEAD, "api_key": "k"}
        assert client.post("/models", json=model).status_code == 201
        assert client.post("/agents", json={"name": "a", "model": "away"}).status_code == 201
        entry = {"name": "s", "entry_agent": "a", "chat_enabled": True}
        assert client.post("/schemas", json=entry).status_code == 201
        server = {"name": "files", "type": "http", "url": "http://127.0.0.1:9/"}
        assert client.post("/mcp-servers", json=server).status_code in (201, 202)
        for _ in range(5):
            client.post("/schemas/s/chat", json={"message": "hi", "stream": False})
        client.get("/agents", headers={"Authorization": "Bearer no"})


def test_it_shows_health_turns_queues_models_servers_indexing_and_disk(tmp_path: Path) -> None:
    with serving(tmp_path, {"BYTEBREW_PROVIDER_RETRIES": "0"}) as engine:
        talk(engine.url)
        done = run("status", settings=settings(tmp_path))
        found = json.loads(run("status", "--json", settings=settings(tmp_path)).stdout)
        assert engine.stop() == 0
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("engine     ok; ByteBrew ")
    for words in (
        "turns      0 run, 0 of them wait for a person; 0 wait for another",
        "tasks      none open",
        "away: 5 failures lately, breaker open, tried again in ",
        "callers    1 refused since the start",
        "disk       database ",
        "mcp_server_tools (server files, status ",
        "knowledge_indexing_files (state in_work): 0",
    ):
        assert words in done.stdout, done.stdout
    assert found["status"] == "ok"
    assert [(one["name"], one["breaker"], one["failures"]) for one in found["models"]] == [("away", "open", 5)]
    assert found["disk_free_bytes"] > 0
    assert not (tmp_path / "engine.sock").exists()


def test_without_an_engine_it_says_so(tmp_path: Path) -> None:
    for _ in range(2):
        done = run("status", settings=settings(tmp_path))
        assert (done.returncode, done.stdout) == (1, "")
        assert f"no engine runs on {tmp_path}" in done.stderr
        with serving(tmp_path) as engine:
            engine.kill()  # which leaves its socket


def test_a_killed_engine_leaves_nothing_in_the_way_of_the_next(tmp_path: Path) -> None:
    for _ in range(2):
        with serving(tmp_path) as engine:
            assert run("status", settings=settings(tmp_path)).returncode == 0
            engine.kill()


def test_a_data_folder_with_a_long_name_is_reached(tmp_path: Path) -> None:
    data = tmp_path / ("long" * 30) / ("name" * 30)
    with serving(data) as engine:
        assert run("status", settings=settings(data)).returncode == 0
        assert engine.stop() == 0


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can be somebody else")
def test_nobody_else_reaches_it(tmp_path: Path) -> None:
    with serving(tmp_path) as engine:
        assert stat.S_IMODE((tmp_path / "engine.sock").stat().st_mode) == 0o600
        reads = "-all,+dac_read_search"  # the interpreter may lie in root's home
        somebody = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups", f"--inh-caps={reads}"]
        somebody += [f"--ambient-caps={reads}", f"--bounding-set={reads}"]
        command = [*somebody, *BYTEBREW, "status"]
        done = subprocess.run(command, env=environment(settings(tmp_path)), capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stdout) == (1, "")
        assert "is another user's: run this as the engine's own user" in done.stderr
        assert engine.stop() == 0


async def test_what_it_shows_of_plugins_is_in_the_metrics_too() -> None:
    async with served_engine() as (_, client):
        page = (await client.get("/metrics")).text
    assert 'bytebrew_knowledge_indexing_files{state="in_work"} 0.0' in page
