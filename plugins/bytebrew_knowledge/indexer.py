"""Indexes files in the background: extracts, embeds and stores chunks, and resumes after a restart."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import msgspec

from bytebrew import Engine, EngineError, ProviderError, Sample, Target

from . import bases, files, indexes, search_terms
from .blobs import Blobs
from .embedding import embed
from .indexing_progress import IndexingProgress
from .reader import Reader, ReadFailed
from .signs import SIGNS
from .vectors import unit

log = logging.getLogger(__name__)

READERS = 2
FILES = 2
"""Files that are indexed concurrently per embedding model, and without one."""
BATCH = 50
"""Chunks per transaction and per request for embeddings."""
RETRIES = 5
PAUSE = 1.0
"""Seconds before a retry after an internal failure."""
_LINE = msgspec.json.Decoder(tuple[str, str])


class Indexer:
    """Indexes waiting files, a few per embedding model at a time; `wake` announces new ones.

    The limit per model keeps a slow model from delaying the others.
    """

    def __init__(self, engine: Engine, blobs: Blobs, reader: Callable[[], Reader]) -> None:
        self._engine = engine
        self._blobs = blobs
        self._readers = [reader() for _ in range(READERS)]
        self._reading = asyncio.Semaphore(READERS)
        self._busy: dict[str, str] = {}
        self._progress: IndexingProgress | None = None
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Indexes until it is cancelled, and resumes unfinished indexes."""
        await self._engine.db.write(indexes.refresh)
        self.wake()
        await self._watch()

    async def stop(self) -> None:
        """Stops; unfinished indexes are resumed at the next start."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._close()

    def samples(self) -> Iterator[Sample]:
        """Metrics of files in progress and of the current run."""
        progress = self._progress
        done, failed = (progress.files - progress.failed, progress.failed) if progress else (0, 0)
        for state, count in (("in_work", len(self._busy)), ("done", done), ("failed", failed)):
            description = "Files of the present run of indexing."
            yield Sample("bytebrew_knowledge_indexing_files", count, {"state": state}, help=description)

    def wake(self) -> None:
        """Announces that files may be waiting."""
        self._wake.set()

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            async with self._patient():
                while file := await self._engine.db.read(files.waiting, list(self._busy), self._full()):
                    self._busy[file.id] = file.model or ""
                    self._progress = self._progress or IndexingProgress()
                    self._begin(self._work(file))
                if not self._busy:
                    if self._progress is not None:
                        self._progress.end()
                        self._progress = None
                    await self._close()
                    if (last := await self._engine.db.write(indexes.sweep)) is not None:
                        await self._engine.state[SIGNS].forget(last)
                        self.wake()

    async def _work(self, file: files.Waiting) -> None:
        try:
            async with self._patient():
                await self._index(file)
        finally:
            del self._busy[file.id]
            self.wake()

    @asynccontextmanager
    async def _patient(self) -> AsyncIterator[None]:
        """Logs internal failures, and waits before the retry."""
        try:
            yield
        except EngineError as error:
            log.warning("the knowledge indexer waits: %s", error.message)
        except Exception:
            log.exception("the knowledge indexer failed; it goes on in a moment")
        else:
            return
        await asyncio.sleep(PAUSE)
        self.wake()

    def _full(self) -> list[str]:
        return [model for model, count in Counter(self._busy.values()).items() if count >= FILES]

    async def _read(self, file: files.Waiting, spool: Path) -> int:
        async with self._reading:
            reader = self._readers.pop()
            try:
                async with self._blobs.reading(file.blob) as source:
                    return await reader.read(source, file.type, spool)
            finally:
                self._readers.append(reader)

    async def _close(self) -> None:
        for reader in self._readers:
            await reader.close()

    async def _index(self, file: files.Waiting) -> None:
        db = self._engine.db
        spool = self._blobs.spool()
        try:
            total = await self._read(file, spool)
            if not total:
                raise ReadFailed("There is no text in it")
            target = await db.read(bases.target, file.model)
            building = await db.write(indexes.begin, file, bases.signature(target), total)
            if building is not None:
                await self._fill(file, building, target, spool)
            self._count(files=1)
        except ReadFailed as error:
            await self._fail(file, str(error))
        except ProviderError as error:
            await self._fail(file, f"The embedding model failed: {error.message}")
        except EngineError:  # a failure of the database, not of the file
            raise
        except Exception:
            log.exception("file %s cannot be indexed", file.id)
            await self._fail(file, "The engine failed at it; its log has the trace")
        finally:
            await asyncio.to_thread(spool.unlink, missing_ok=True)

    async def _fail(self, file: files.Waiting, fault: str) -> None:
        if not await self._engine.db.write(indexes.fail, file, fault):
            return
        log.warning("file %s of knowledge base %s is not indexed: %s", file.id, file.base_id, fault)
        self._count(files=1, failed=1)

    def _count(self, *, files: int = 0, failed: int = 0, chunks: int = 0) -> None:
        if (progress := self._progress) is not None:
            progress.files += files
            progress.failed += failed
            progress.chunks += chunks

    async def _fill(self, file: files.Waiting, building: indexes.Building, target: Target | None, spool: Path) -> None:
        db, fault = self._engine.db, None
        if file.model and target is None:
            fault = f"There is no embedding model '{file.model}' any more; only words are searched"
        with spool.open("rb") as lines:
            await asyncio.to_thread(_skip, lines, building.done)
            done = building.done
            while batch := await asyncio.to_thread(_next, lines):
                vectors: list[bytes | None] = [None] * len(batch)
                if target is not None:
                    try:
                        texts = [f"{heading}\n{text}" if heading else text for heading, text in batch]
                        found = await embed(self._engine, target, texts, retries=RETRIES)
                        vectors = [unit(vector).tobytes() if any(vector) else None for vector in found]
                    except ProviderError as error:
                        if building.replaces:
                            raise
                        target, fault = None, f"Only words are searched, the embedding model failed: {error.message}"
                terms = await db.read(search_terms.term_vectors, batch, file.base_id)
                chunks = [indexes.Chunk(*each[0], *each[1:]) for each in zip(batch, vectors, terms, strict=True)]
                if not await db.write(indexes.add, file, building, done, chunks, fault):
                    return
                done += len(chunks)
                self._count(chunks=len(chunks))
                if self._progress is not None and self._progress.due():
                    self._progress.report(await db.read(files.count_waiting))


def _skip(lines: BinaryIO, count: int) -> None:
    for _ in islice(lines, count):
        pass


def _next(lines: BinaryIO) -> list[tuple[str, str]]:
    return [_LINE.decode(line) for line in islice(lines, BATCH)]
