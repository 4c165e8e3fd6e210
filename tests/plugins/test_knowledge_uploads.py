"""Contents of files in each place that can keep them: a folder, the database, an S3-compatible bucket."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bytebrew.base.errors import SettingsError
from bytebrew.testing import served_engine
from tests.documents import BASES, create, found, put, settled, stored_blobs, upload
from tests.stored import ON_POSTGRESQL

BUCKET = "uploads"
LARGE = "Pears grow in the far orchard.\n" * 100_000
"""Three megabytes: several parts of a table."""


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The endpoint of an S3-compatible server with a bucket."""
    pytest.importorskip("obstore", reason="the extra `s3` is not installed")
    pytest.importorskip("moto", reason="moto[server] is not installed")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        url = next(line.split()[-1] for line in server.stderr if "Running on" in line)
        assert httpx.put(f"{url}/{BUCKET}").status_code == 200
        yield url
        server.send_signal(signal.SIGKILL)


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The settings of an engine whose uploads go into the bucket."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-bucket")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return {"BYTEBREW_UPLOADS_URL": f"s3://{BUCKET}/engine"}


def objects(s3: str) -> int:
    return httpx.get(f"{s3}/{BUCKET}?list-type=2").text.count("<Key>engine/")


async def check(settings: dict[str, str], data: Path, kept: list[int]) -> None:
    """Files are read, replaced, found after a restart, indexed again, and deleted; `kept` are numbers of contents."""

    async def count() -> int:
        if not settings:
            return len(await asyncio.to_thread(stored_blobs, data))
        return await asyncio.to_thread(objects, os.environ["AWS_ENDPOINT_URL"])

    async with served_engine(data=data, settings=settings) as (_, client):
        await create(client)
        await put(client, "pears.txt", LARGE)
        await put(client, "plums.txt", "Plums are blue.")
        assert {file["status"] for file in (await settled(client)).values()} == {"ready"}
        kept.append(await count())
        await put(client, "plums.txt", "Plums are red.")
        await settled(client)
        assert [hit["text"] for hit in await found(client, "plums")] == ["Plums are red."]
        assert (await upload(client, "empty.txt", "")).status_code == 400
        kept.append(await count())
    async with served_engine(data=data, settings=settings) as (_, client):
        for name in ("pears.txt", "plums.txt"):
            assert (await client.post(f"{BASES}/docs/files/{name}/reindex")).status_code < 300
        assert {file["status"] for file in (await settled(client)).values()} == {"ready"}
        assert (await client.delete(f"{BASES}/docs/files/pears.txt")).status_code == 204
        kept.append(await count())
        assert (await client.delete(f"{BASES}/docs")).status_code == 204
        kept.append(await count())


async def test_the_store_of_the_engine_keeps_them(tmp_path: Path) -> None:
    kept: list[int] = []
    await check({}, tmp_path, kept)
    assert kept == [2, 2, 1, 0]
    assert [*(tmp_path / "files").iterdir()] == []


async def test_a_bucket_keeps_them(tmp_path: Path, bucket: dict[str, str]) -> None:
    kept: list[int] = []
    await check(bucket, tmp_path, kept)
    assert kept == [2, 2, 1, 0]
    assert [*(tmp_path / "files").iterdir()] == []


async def test_contents_of_the_folder_move_to_the_bucket(tmp_path: Path, bucket: dict[str, str], s3: str) -> None:
    if ON_POSTGRESQL:
        pytest.skip("the folder is that of an engine on SQLite")
    async with served_engine(data=tmp_path) as (_, client):
        await create(client)
        await put(client, "plums.txt", "Plums are blue.")
        await settled(client)
    async with served_engine(data=tmp_path, settings=bucket) as (_, client):
        assert (await asyncio.to_thread(objects, s3), [*(tmp_path / "files").iterdir()]) == (1, [])
        assert (await client.delete(f"{BASES}/docs/files/plums.txt")).status_code == 204
        assert await asyncio.to_thread(objects, s3) == 0


async def test_a_bucket_that_is_not_there_is_told_without_its_key(
    tmp_path: Path, bucket: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served_engine(data=tmp_path, settings=bucket) as (_, client):
        await create(client)
    missing = {"BYTEBREW_UPLOADS_URL": "s3://nowhere"}
    async with served_engine(data=tmp_path, settings=missing) as (_, client):
        response = await upload(client, "plums.txt", "Plums are blue.")
        assert response.status_code == 503
        assert "BYTEBREW_UPLOADS_URL" in response.text
        assert "secret-of-the-bucket" not in response.text
        assert await settled(client) == {}


@pytest.mark.parametrize("url", ["gs://bucket", "s3://", "s3://key:secret@bucket", "bucket"])
async def test_what_is_no_bucket_is_refused_at_the_start(url: str) -> None:
    pytest.importorskip("obstore", reason="the extra `s3` is not installed")
    with pytest.raises(SettingsError, match="s3://bucket/prefix") as refused:
        async with served_engine(settings={"BYTEBREW_UPLOADS_URL": url}):
            pass
    assert "secret" not in str(refused.value)
