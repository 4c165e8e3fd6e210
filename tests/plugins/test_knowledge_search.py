"""Facts that are planted among many files are found first; KNOWLEDGE_FILES=2000 plants them among as many as promised.

What it costs in the size of the base is for the bench to show.
"""

import os

import anyio
import pytest

from bytebrew.testing import served_engine
from tests.documents import BASES, create, found, put, settled
from tests.facts import documents, facts

FILES = int(os.environ.get("KNOWLEDGE_FILES", "250"))


@pytest.mark.timeout(300)
async def test_of_50_planted_facts_words_alone_find_45_first() -> None:
    async with served_engine() as (_, client):
        await create(client)
        progress = []
        for name, text in documents(FILES):
            await put(client, name, text)
        with anyio.fail_after(200):
            while (base := (await client.get(f"{BASES}/docs")).json())["status"] == "indexing":
                progress.append(base["indexed_files"])
                await anyio.sleep(0.02)
        assert progress == sorted(progress)
        files = await settled(client)
        assert len(files) == FILES
        assert {file["status"] for file in files.values()} == {"ready"}
        first = 0
        for fact in facts(FILES):
            hits = await found(client, fact.question)
            first += bool(hits) and hits[0]["file_name"] == fact.file and fact.sentence in hits[0]["text"]
        assert first >= 45
