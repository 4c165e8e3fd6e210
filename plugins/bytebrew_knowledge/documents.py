"""The files of knowledge bases as documents for other plugins: their texts, and searches in a base."""

import mimetypes
from collections.abc import Iterable

from bytebrew import Connection, Document, Engine, NotFound, Passage, PayloadTooLarge, Row

from . import bases
from .reading.chunks import OVERLAP
from .search import Query, search

SCOPE = "agents:read"
MOST_CHARACTERS = 1_000_000
RESULTS = 10
LEAST_OVERLAP = 20
"""Characters that a chunk has in common with the one before by more than chance."""
_SELECT = """select f.base_id, b.name as base, f.id, f.name, f.size, f.indexed_at, f.created_at, i.id as index_id
  from knowledge_bases b join knowledge_files f on f.base_id = b.id
  join knowledge_indexes i on i.file_id = f.id and i.state = 'live'"""


class KnowledgeDocuments:
    """The indexed files of all bases of an engine."""

    scope = SCOPE

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def page(self, after: tuple[str, str], most: int) -> list[Document]:
        """At most `most` documents, by the names of base and file, after those names."""
        return await self._engine.db.scan(_page, after, most)

    async def read(self, base_id: str, document_id: str) -> tuple[Document, str]:
        """A document with the text of its chunks; NotFound, or PayloadTooLarge for too long a text."""
        return await self._engine.db.scan(_read, base_id, document_id)

    async def search(self, base: str, query: str) -> list[Passage]:
        """The chunks of a base that fit a query best; NotFound if there is no such base."""
        base_id = await self._engine.db.read(bases.identify, base)
        found = await search(self._engine, Query(text=query, bases=(base_id,), limit=RESULTS))
        return [Passage(hit.file_name, hit.heading, hit.text) for hit in found.hits]


def _page(conn: Connection, after: tuple[str, str], most: int) -> list[Document]:
    sql = f"{_SELECT} where (b.name, f.name) > (?, ?) order by b.name, f.name limit ?"
    return [_document(row) for row in conn.execute(sql, (*after, most))]


def _read(conn: Connection, base_id: str, document_id: str) -> tuple[Document, str]:
    row = conn.execute(f"{_SELECT} where f.base_id = ? and f.id = ?", (base_id, document_id)).fetchone()
    if row is None:
        raise NotFound("There is no such document")
    index = (row["index_id"],)
    size = conn.execute("select sum(length(text)) as size from knowledge_chunks where index_id = ?", index).fetchone()
    if (size["size"] or 0) > MOST_CHARACTERS:
        raise PayloadTooLarge(f"The document has more than {MOST_CHARACTERS} characters; search in its base instead")
    sql = "select heading, text from knowledge_chunks where index_id = ? order by position"
    return _document(row), joined((chunk["heading"], chunk["text"]) for chunk in conn.execute(sql, index))


def joined(chunks: Iterable[tuple[str, str]]) -> str:
    """The text of chunks with their headings, without what each repeats of the one before."""
    sections: list[tuple[str, str]] = []
    before = ""
    for heading, text in chunks:
        if sections and sections[-1][0] == heading:
            ends = [n for n in range(LEAST_OVERLAP, OVERLAP + 1) if text[n : n + 1] == "\n"]
            repeated = next((n for n in reversed(ends) if before.endswith(text[:n])), 0)
            sections[-1] = (heading, sections[-1][1] + ("" if repeated else "\n") + text[repeated:])
        else:
            sections.append((heading, text))
        before = text
    return "\n\n".join(f"# {heading}\n\n{text}" if heading else text for heading, text in sections)


def _document(row: Row) -> Document:
    media_type = mimetypes.guess_type(row["name"])[0] or "application/octet-stream"
    changed_at = row["indexed_at"] or row["created_at"]
    return Document(row["base_id"], row["base"], row["id"], row["name"], media_type, row["size"], changed_at)
