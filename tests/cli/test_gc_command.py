"""`bytebrew gc`, in a process of its own."""

import re
from pathlib import Path

import httpx
import pytest

from bytebrew.testing import ADMIN
from tests.commands import run
from tests.processes import serving
from tests.stored import ON_POSTGRESQL, changed, opened

HEADERS = {"Authorization": f"Bearer {ADMIN}"}
CHAT = "/api/v1/schemas/demo/chat"


def make_old(data: Path, session_id: str) -> None:
    """A session of long ago, with a result of 10 MB."""
    old = "2020-01-01T00:00:00.000000Z"
    with changed(data) as conn:
        conn.execute("update sessions set created_at = ?, updated_at = ? where id = ?", (old, old, session_id))
        conn.execute("update turns set finished_at = ? where session_id = ?", (old, session_id))
        turn = conn.execute("select id from turns where session_id = ?", (session_id,)).fetchone()[0]
        conn.execute("insert into results values (?, 'c', ?, ?)", (turn, session_id, "x" * 10_000_000))


@pytest.mark.parametrize("running", [True, False])
def test_gc_clears_away_what_is_due_whether_the_engine_runs_or_not(running: bool, tmp_path: Path) -> None:
    settings = {"BYTEBREW_DATA_DIR": str(tmp_path)}
    with serving(tmp_path) as engine, httpx.Client(base_url=engine.url, headers=HEADERS, timeout=20) as client:
        old, young = (client.post(CHAT, json={"message": "hi"}).headers["x-session-id"] for _ in range(2))
        key = "/api/v1/settings/retention.sessions"
        assert client.put(key, json={"value": 30}).status_code == 200
        if not running:
            assert engine.stop() == 0
        make_old(tmp_path, old)
        done = run("gc", settings=settings)
        if running:
            assert client.get(f"/api/v1/sessions/{old}").status_code == 404
            assert "event: done" in client.post(CHAT, json={"message": "hi", "session_id": young}).text
    assert (done.returncode, done.stderr) == (0, "")
    assert "cleared away: 0 idempotency keys, " in done.stdout
    assert ", 1 sessions, 0 tasks, 0 turns packed, 0 versions, 0 rows of " in done.stdout
    before, after = map(int, re.findall(r"\b\d+\b", done.stdout.splitlines()[-1])[-2:])
    assert ON_POSTGRESQL or after < before - 9_000_000  # where autovacuum makes the space usable again
    with opened(tmp_path) as conn:
        assert [row[0] for row in conn.execute("select id from sessions")] == [young]
        if not ON_POSTGRESQL:
            assert (tmp_path / "bytebrew.db").stat().st_size < 5_000_000
            assert conn.execute("pragma integrity_check").fetchone()[0] == "ok"
            assert conn.execute("pragma freelist_count").fetchone()[0] < 20


def test_gc_of_a_folder_without_a_database_is_told_so_and_makes_nothing(tmp_path: Path) -> None:
    done = run("gc", settings={"BYTEBREW_DATA_DIR": str(tmp_path)})
    assert (done.returncode, done.stdout) == (1, "")
    assert f"there is no {'key' if ON_POSTGRESQL else 'database'} at" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.sqlite
def test_gc_of_a_damaged_database_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "bytebrew.db").write_bytes(b"no database" * 1000)
    done = run("gc", settings={"BYTEBREW_DATA_DIR": str(tmp_path)})
    assert (done.returncode, done.stdout) == (1, "")
    assert "file is not a database" in done.stderr
    assert "Traceback" not in done.stderr
