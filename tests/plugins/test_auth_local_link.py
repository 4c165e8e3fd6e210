"""The token that lets the operator in: once, whatever the request looks like, and nobody who cannot read its file."""

import asyncio
import base64
import hashlib
import os
import pty
import re
import stat
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from bytebrew_auth_local.sign_in_token import SignInToken

from bytebrew.engine import Engine
from bytebrew.testing import served_engine
from tests.commands import BYTEBREW, start
from tests.local import SESSION, local_session, proof_of
from tests.processes import serving
from tests.stored import allow, refuse
from tests.tables import check_refusal

FILE = "local-session.token"


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[Engine, httpx.AsyncClient]]:
    """An engine and a client without a credential."""
    async with served_engine(data=tmp_path) as (engine, client):
        del client.headers["authorization"]
        yield engine, client


async def test_its_file_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with served_engine(data=tmp_path) as (engine, client):
            for _ in range(2):
                assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
                await local_session(engine, client)
            assert [path.name for path in tmp_path.iterdir() if "token" in path.name] == [FILE]
    finally:
        os.umask(before)


async def test_it_is_good_once_and_another_takes_its_place(served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, client = served
    first = proof_of(engine.data_dir)
    assert (await client.post(SESSION, headers=first)).status_code == 200
    assert check_refusal(await client.post(SESSION, headers=first))["error"] == "wrong_token"
    assert proof_of(engine.data_dir) != first
    assert (await client.post(SESSION, headers=proof_of(engine.data_dir))).status_code == 200


async def test_of_many_who_send_it_at_once_one_gets_in(served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, client = served
    proof = proof_of(engine.data_dir)
    answers = await asyncio.gather(*(client.post(SESSION, headers=proof) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers)[:2] == [200, 403]


async def test_a_start_makes_a_new_one(tmp_path: Path) -> None:
    async with served_engine(data=tmp_path):
        old = proof_of(tmp_path)
    async with served_engine(data=tmp_path) as (_, client):
        assert (await client.post(SESSION, headers=old)).status_code == 403
        assert (await client.post(SESSION, headers=proof_of(tmp_path))).status_code == 200


async def test_processes_that_share_a_data_folder_have_one_token(
    served: tuple[Engine, httpx.AsyncClient],
) -> None:
    engine, client = served
    first = proof_of(engine.data_dir)
    other = SignInToken(engine.data_dir)
    assert (await client.post(SESSION, headers=first)).status_code == 403
    second = proof_of(engine.data_dir)
    with other.taken(other.token) as by_other:
        assert by_other
        assert (await client.post(SESSION, headers=second)).status_code == 403
    assert (await client.post(SESSION, headers=second)).status_code == 403
    assert (await client.post(SESSION, headers=proof_of(engine.data_dir))).status_code == 200


async def test_it_proves_the_person_through_any_proxy_and_under_any_name(
    served: tuple[Engine, httpx.AsyncClient],
) -> None:
    engine, client = served
    for headers in (
        {"x-forwarded-for": "203.0.113.7", "via": "1.1 proxy"},
        {"host": "agents.example"},
        {"host": "agents.example", "origin": "https://agents.example", "sec-fetch-site": "same-origin"},
    ):
        assert (await client.post(SESSION, headers=headers | proof_of(engine.data_dir))).status_code == 200


async def test_a_page_of_another_origin_cannot_use_it_up(served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, client = served
    proof = proof_of(engine.data_dir)
    refused = await client.post(SESSION, headers={"origin": "https://evil.example"} | proof)
    assert check_refusal(refused)["error"] == "foreign_origin"
    assert (await client.post(SESSION, headers=proof)).status_code == 200


async def test_a_session_that_cannot_be_recorded_does_not_use_it_up(served: tuple[Engine, httpx.AsyncClient]) -> None:
    engine, client = served
    proof = proof_of(engine.data_dir)
    await engine.db.write(refuse, "insert on audit_changes")
    refused = await client.post(SESSION, headers=proof)
    assert (refused.status_code, refused.json()["error"]) == (503, "not_recorded")
    await engine.db.write(allow, "insert on audit_changes")
    assert (await client.post(SESSION, headers=proof)).status_code == 200


async def test_it_stays_good_where_no_other_can_be_written(
    served: tuple[Engine, httpx.AsyncClient], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, client = served
    proof = proof_of(engine.data_dir)

    def full(*given: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("tempfile.mkstemp", full)
        for _ in range(2):
            assert (await client.post(SESSION, headers=proof)).status_code == 200
    assert [record.levelname for record in caplog.records if "stays good" in record.message] == ["WARNING"] * 2
    assert (await client.post(SESSION, headers=proof)).status_code == 200
    assert (await client.post(SESSION, headers=proof)).status_code == 403


async def test_the_page_of_the_link_runs_its_own_script_alone_and_has_no_secret(
    served: tuple[Engine, httpx.AsyncClient],
) -> None:
    engine, client = served
    page = await client.get("/sign-in")
    assert "<meta name=viewport" in page.text, "it can be read on a telephone"
    policy = page.headers["content-security-policy"]
    assert page.headers["content-type"].startswith("text/html")
    for tag in ("script", "style"):
        [text] = re.findall(f"<{tag}>(.*?)</{tag}>", page.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert (engine.data_dir / FILE).read_text().strip() not in page.text


def test_the_link_is_printed_to_a_person_and_never_into_a_log(tmp_path: Path) -> None:
    with serving(tmp_path / "a") as process:
        token = (tmp_path / "a" / FILE).read_text().strip()
        process.stop()
        assert token not in process.errors + process.output
        assert "bytebrew session create" in process.errors
    settings = {"BYTEBREW_DATA_DIR": str(tmp_path / "b"), "BYTEBREW_PORT": "0"}
    mine, its = pty.openpty()
    running = start([*BYTEBREW, "serve"], settings, stdin=its, stdout=subprocess.PIPE, stderr=its)
    try:
        assert running.stdout is not None
        url = running.stdout.readline().decode().rsplit(" ", 1)[1].strip()
        shown = ""
        while not (links := re.findall(r"(http://\S+#t=\S+)\s", shown)):
            shown += os.read(mine, 10_000).decode()
        assert links[0] == f"{url}/#t={(tmp_path / 'b' / FILE).read_text().strip()}"
    finally:
        running.kill()
        running.communicate()
        os.close(mine)
        os.close(its)


async def test_without_the_page_the_link_opens_one_that_shows_the_token(tmp_path: Path) -> None:
    async with served_engine(data=tmp_path, settings={"BYTEBREW_DISABLED_PLUGINS": "page"}) as (engine, _):
        token = (tmp_path / FILE).read_text().strip()
        assert engine.auth_mode.link("http://here") == f"http://here/sign-in#t={token}"


@pytest.mark.sqlite
async def test_who_could_make_room_gets_in_where_the_disk_takes_nothing_more(tmp_path: Path) -> None:
    """Where no plugin looks at changes; the audit does without no login."""
    async with served_engine(data=tmp_path, settings={"BYTEBREW_DISABLED_PLUGINS": "audit,callbacks"}) as (
        engine,
        client,
    ):
        await engine.db._writer.run(lambda conn: conn.execute("pragma query_only = on").fetchall())
        token = await local_session(engine, client)
        answer = await client.get("/api/v1/auth/tokens", headers={"authorization": f"Bearer {token}"})
        assert answer.status_code == 200
