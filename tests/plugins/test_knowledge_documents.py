"""Knowledge bases as documents for other plugins: listed by name, read as one text, searched."""

import unicodedata

import pytest
from bytebrew_knowledge.documents import joined
from bytebrew_knowledge.reading.blocks import Block
from bytebrew_knowledge.reading.chunks import split
from hypothesis import given
from hypothesis import strategies as st

from bytebrew import DOCUMENTS, NotFound, PayloadTooLarge
from bytebrew.testing import served_engine
from tests.documents import create, put, settled

SENTENCE = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z", "M")), min_size=1, max_size=60)


async def test_documents_are_listed_by_the_names_of_base_and_file_page_by_page() -> None:
    async with served_engine() as (engine, client):
        for base, names in {"b": ("two.md", "one.md"), "a": ("z.txt",), "empty": ()}.items():
            await create(client, base)
            for name in names:
                await put(client, name, f"What {name} says.", base)
            await settled(client, base)
        documents = engine.state[DOCUMENTS]
        everything = await documents.page(("", ""), 10)
        assert [(one.base, one.name) for one in everything] == [("a", "z.txt"), ("b", "one.md"), ("b", "two.md")]
        assert [one.media_type for one in everything] == ["text/plain", "text/markdown", "text/markdown"]
        assert all(one.size == len(f"What {one.name} says.") for one in everything)
        first = await documents.page(("", ""), 1)
        assert first + await documents.page((first[0].base, first[0].name), 10) == everything


async def test_a_document_is_read_as_one_text_and_a_base_is_searched() -> None:
    text = "# Refunds\n\n" + " ".join(f"Rule {n} is about money." for n in range(300))
    async with served_engine() as (engine, client):
        base = await create(client, "docs")
        await put(client, "rules.md", text)
        await settled(client)
        documents = engine.state[DOCUMENTS]
        (listed,) = await documents.page(("", ""), 10)
        document, read = await documents.read(listed.base_id, listed.id)
        assert document == listed
        assert " ".join(read.split()) == " ".join(text.split())
        found = await documents.search("docs", "Rule 217")
        assert found[0].document == "rules.md"
        assert "Rule 217 " in found[0].text
        assert found == await documents.search(base["id"], "Rule 217")
        with pytest.raises(NotFound):
            await documents.read(listed.base_id, "nothing")
        with pytest.raises(NotFound):
            await documents.search("nothing", "Rule")


async def test_a_document_that_is_too_long_is_not_read() -> None:
    async with served_engine() as (engine, client):
        await create(client, "docs")
        await put(client, "long.txt", "word " * 250_000)
        await settled(client)
        (listed,) = await engine.state[DOCUMENTS].page(("", ""), 10)
        with pytest.raises(PayloadTooLarge):
            await engine.state[DOCUMENTS].read(listed.base_id, listed.id)


@given(st.lists(st.lists(SENTENCE, min_size=1, max_size=40).map(". ".join), min_size=1, max_size=8))
def test_chunks_joined_again_lose_no_word(paragraphs: list[str]) -> None:
    words = unicodedata.normalize("NFC", " ".join(paragraphs)).split()
    text = joined(split(Block((), paragraph) for paragraph in paragraphs)).split()
    assert [word for word in words if word not in text] == []
