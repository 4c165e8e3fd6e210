"""Runs of indexing in the log."""

import anyio
import pytest
from bytebrew_knowledge.indexing_progress import IndexingProgress

from bytebrew.testing import served_engine
from tests.documents import create, put, settled


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Levels and messages of what the plugin has logged."""
    return [
        (one.levelname, one.getMessage()) for one in caplog.records if one.name.startswith("bytebrew_knowledge.index")
    ]


async def test_a_run_is_a_line_with_what_it_did(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with served_engine() as (_, client):
        await create(client)
        await put(client, "a.txt", b"The quokka sleeps.")
        await settled(client)
        while not lines(caplog):
            await anyio.sleep(0.01)
    ((level, words),) = lines(caplog)
    assert level == "INFO"
    assert words.startswith("indexed 1 files into 1 chunks in ")
    assert words.endswith(", 0 of them failed")


async def test_a_file_that_cannot_be_indexed_is_a_warning_and_so_is_its_run(caplog: pytest.LogCaptureFixture) -> None:
    async with served_engine() as (_, client):
        await create(client)
        await put(client, "a.pdf", b"%PDF-1.7 and no more")
        await settled(client)
        while len(lines(caplog)) < 2:
            await anyio.sleep(0.01)
    (_, of_file), (level, of_run) = lines(caplog)
    assert "is not indexed: " in of_file
    assert level == "WARNING"
    assert of_run.endswith(", 1 of them failed")


def test_a_long_run_has_a_line_each_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    moment = 0.0
    running = IndexingProgress(lambda: moment)
    for second in range(35):
        moment = float(second)
        running.files += 1
        if running.due():
            running.report(100 - running.files)
    assert [one.getMessage() for one in caplog.records] == [
        f"indexing: {n} files and 0 chunks so far, {100 - n} files to go" for n in (11, 21, 31)
    ]
