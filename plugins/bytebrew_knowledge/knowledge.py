"""The knowledge of an engine: blobs, folders, indexer, search, and the tool `knowledge_search`."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from bytebrew import (
    Agent,
    Call,
    Connection,
    Duration,
    Engine,
    EngineError,
    Record,
    Request,
    Sample,
    StateKey,
    Tool,
    ToolError,
    Toolset,
)

from . import bases, files, indexes, search_terms, uploads
from .blobs import Blobs
from .bucket_blobs import BucketBlobs
from .database_blobs import DatabaseBlobs
from .folders import Folders
from .indexer import Indexer
from .reader import Reader
from .search import Hit, Query, SearchResult, search
from .signs import SIGNS

log = logging.getLogger(__name__)

MOST_RESULTS = 20
DUTY = "knowledge"
START_SECONDS = 5.0
"""How long the engine's start waits for the scan of folders; slower scans continue while it serves."""


class Limits(Struct, frozen=True, kw_only=True):
    """Limits for reading a file, and where uploads are kept."""

    knowledge_read_timeout: Annotated[Duration, Meta(description="longest reading of a file for a knowledge base")] = (
        Duration(60)
    )
    knowledge_read_bytes: Annotated[
        int, Meta(ge=64 * 1024 * 1024, description="most memory for reading a file for a knowledge base")
    ] = 1024 * 1024 * 1024
    uploads_url: Annotated[
        str, Meta(description="an S3-compatible bucket for uploads, as s3://bucket/prefix; credentials are in AWS_*")
    ] = ""


class Knowledge(Toolset):
    """Offers `knowledge_search` to agents that are linked to a base and have the capability."""

    lists = ("capabilities",)
    reserves = ("knowledge_search",)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.blobs = _blobs(engine)
        limits = engine.settings.of(Limits)
        self._indexer = Indexer(
            engine, self.blobs, lambda: Reader(limits.knowledge_read_timeout, limits.knowledge_read_bytes)
        )
        self._folders = Folders(engine, self.blobs, self._indexer.wake)
        self.folder = self._folders.path
        self._starting: asyncio.Task[None] | None = None
        self._loading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Scans the folders and indexes while this node leads."""
        await asyncio.to_thread(self.blobs.make_folder)
        await self._engine.db.write(search_terms.prepare)
        while await self._engine.db.write(search_terms.complete):
            pass
        if await self._engine.db.read(bases.have_vectors):
            self._loading = asyncio.create_task(self._load())
        self._engine.duties.add(DUTY, self._run, self._indexer.wake)
        if self._engine.node.leads:
            await self.blobs.clear(starting=True)
            self._starting = asyncio.create_task(self._begin())
            await asyncio.wait([self._starting], timeout=START_SECONDS)

    async def stop(self) -> None:
        """Stops the scans and the indexer."""
        for task in filter(None, (self._starting, self._loading)):
            task.cancel()
            await asyncio.wait([task])
        await self._indexer.stop()

    async def _run(self) -> None:
        if self._starting is None:  # it did not lead at its start
            await self.blobs.clear(starting=True)
            self._starting = asyncio.create_task(self._begin())
        await self._indexer.run()

    def _wake(self) -> None:
        self._engine.duties.wake(DUTY)

    def samples(self) -> Iterator[Sample]:
        """Metrics of indexing."""
        return self._indexer.samples()

    async def follow(self) -> None:
        """Updates every base from its folder, and deletes unreferenced blobs; the node that leads does so."""
        if not self._engine.node.leads:
            return
        await self._folders.follow()
        await self.blobs.clear()
        self._wake()

    async def _begin(self) -> None:
        try:
            await self.follow()
        except Exception:
            log.exception("the folders of knowledge bases could not be followed")

    async def _load(self) -> None:
        """Reads vectors ahead of the first search, which does so otherwise."""
        try:
            await self._engine.state[SIGNS].load(self._engine)
        except EngineError as error:
            log.warning("the vectors of knowledge bases are read by the first search: %s", error.message)

    async def all(self) -> Sequence[Tool]:
        return [KnowledgeSearch(self, bases.KnowledgeConfig())]

    async def tools(self, agent: Agent) -> Sequence[Tool]:
        capability = agent.capability("knowledge")
        if capability is None or not await self._engine.db.read(bases.linked, agent.name):
            return ()
        return [KnowledgeSearch(self, msgspec.convert(capability.config, bases.KnowledgeConfig))]

    def knows(self, conn: Connection, agent: Agent, gate: str) -> bool:
        return gate in self.reserves and agent.capability("knowledge") is not None

    def has(self, conn: Connection, name: str) -> bool:
        return name == KnowledgeSearch.name

    def missing(self, conn: Connection, agent: Agent) -> Iterable[str]:
        on = agent.capability("knowledge") is not None
        how = f"POST /api/v1/knowledge-bases/{{id}}/agents/{agent.name}"
        if on and not bases.linked(conn, agent.id):
            yield f"capabilities: no knowledge base is linked yet: link one with {how}"
        elif KnowledgeSearch.name in agent.tools and not on:
            yield f"tools: '{KnowledgeSearch.name}' is there once a knowledge base is linked, with {how}"

    async def update(self, key: str, patch: bases.BasePatch, record: Record) -> bases.Base:
        """The base with the patch merged in; with another model its files are indexed again."""

        def update(conn: Any) -> bases.Base:
            base = bases.update(conn, key, patch)
            indexes.refresh(conn, base.id)
            base = bases.get(conn, base.id)
            record(conn, base)
            return base

        base = await self._engine.db.write(update)
        self._wake()
        return base

    async def delete_base(self, key: str, record: Record) -> None:
        """Deletes a base with its files."""

        def delete(conn: Connection) -> list[str]:
            spare = bases.delete(conn, key)
            record(conn, None)
            return spare

        await self.blobs.forget(await self._engine.db.write(delete))
        self._wake()

    async def upload(
        self, request: Request[AsyncIterator[bytes]], find: Callable[[Connection, str], str], key: str
    ) -> files.File:
        """Receives the file of a form, then stores it in the base with this key."""
        durable = self._engine.settings.core.db_synchronous == "full"
        async with self.blobs.arriving() as target:
            upload = await uploads.received(request.body, request.headers, target, durable=durable)
            await self.blobs.keep(upload.blob)

            def put(conn: Connection) -> tuple[files.File, str]:
                file, spare = files.put(conn, find(conn, key), upload)
                request.record(conn, file)
                return file, spare

            try:
                file, spare = await self._engine.db.write(put)
            except EngineError:  # a cancelled write may still be committed; otherwise `clear` deletes its blob
                await self.blobs.forget([upload.blob])
                raise
        await self.blobs.forget([spare])
        self._wake()
        return file

    async def delete_file(self, base_ids: Sequence[str], key: str, record: Record) -> None:
        """Deletes a file of some bases by id or name."""

        def delete(conn: Connection) -> str:
            spare = files.delete(conn, base_ids, key)
            record(conn, None)
            return spare

        await self.blobs.forget([await self._engine.db.write(delete)])
        self._wake()

    async def reindex(self, base_ids: Sequence[str], key: str = "", *, record: Record) -> None:
        """Queues a file of some bases, or all of them, for indexing."""

        def reindex(conn: Connection) -> None:
            files.reindex(conn, base_ids, key)
            record(conn, None)

        await self._engine.db.write(reindex)
        self._wake()

    async def search(self, query: Query) -> SearchResult:
        """The best chunks; files whose embedding model has changed are queued for indexing."""
        found = await search(self._engine, query)
        if found.stale:
            for base_id in found.stale:
                await self._engine.db.write(indexes.refresh, base_id, failed=False)
            self._wake()
        return found

    async def search_for(self, agent: str, text: str, limit: int, threshold: float | None) -> list[Hit]:
        """The best chunks of all bases of an agent."""
        found = await self._engine.db.read(bases.linked, agent)
        query = Query(text=text, bases=tuple(found), limit=limit, threshold=threshold)
        return (await self.search(query)).hits


def _blobs(engine: Engine) -> Blobs:
    if url := engine.settings.of(Limits).uploads_url:
        return BucketBlobs(engine, files.blobs, url)
    return (DatabaseBlobs if engine.settings.core.database_url else Blobs)(engine, files.blobs)


class KnowledgeSearch(Tool):
    """The tool that searches an agent's bases."""

    name = "knowledge_search"
    description = (
        "Searches the knowledge bases that you are given. Each result says where it is from; name that source for "
        "what you take from it."
    )
    input_schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "what to look for: a question, or its most telling words"},
            "limit": {"type": "integer", "minimum": 1, "maximum": MOST_RESULTS, "description": "number of results"},
        },
        "required": ["query"],
    }
    idempotent = True

    def __init__(self, knowledge: Knowledge, config: bases.KnowledgeConfig) -> None:
        self._knowledge = knowledge
        self._config = config

    async def run(self, call: Call, input: dict[str, Any]) -> str:
        query, limit = input.get("query"), input.get("limit") or self._config.top_k
        if not isinstance(query, str) or not query.strip():
            raise ToolError("The argument 'query' is a text of at least one word")
        if not isinstance(limit, int | float):
            raise ToolError(f"The argument 'limit' is a number from 1 to {MOST_RESULTS}")
        most = int(max(1, min(limit, MOST_RESULTS)))
        hits = await self._knowledge.search_for(call.agent, query[:10_000], most, self._config.similarity_threshold)
        if not hits:
            return f"Nothing in the knowledge bases fits '{query[:200]}'"
        return "\n\n".join(f"[{n}] {cited(hit)}\n{hit.text}" for n, hit in enumerate(hits, 1))


def cited(hit: Hit) -> str:
    """The citation of a chunk: file and headings."""
    where = f"{hit.file_name} > {hit.heading}" if hit.heading else hit.file_name
    return f"Source: {where} (part {hit.position})"


KNOWLEDGE = StateKey[Knowledge]("knowledge")
