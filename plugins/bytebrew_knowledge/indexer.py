"""Indexes files in the background: reads, cuts, embeds and stores them, and goes on where a stop has left it."""

import asyncio
import logging
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from bytebrew import EngineError, ProviderError, Target, new_uuid

from . import bases, files, indexes
from .blobs import SPOOL
from .embedding import embed
from .extraction import Reader, Unread
from .vectors import unit

if TYPE_CHECKING:
    from bytebrew import Engine

log = logging.getLogger(__name__)

WORKERS = 2
BATCH = 50
"""Chunks of one transaction and of one request for embeddings."""
RETRIES = 5
PAUSE = 1.0
"""Seconds before another try where the engine itself cannot go on."""
_LINE = msgspec.json.Decoder(tuple[str, str])


class Indexer:
    """Workers that take one waiting file at a time; `wake` tells them of new ones."""

    def __init__(self, engine: "Engine", folder: Path, reader: Callable[[], Reader]) -> None:
        self._engine = engine
        self._folder = folder
        self._reader = reader
        self._busy: list[str] = []
        self._wake = [asyncio.Event() for _ in range(WORKERS)]
        self._workers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Takes up the work where a stop has left it."""
        await self._engine.db.write(indexes.refresh)
        self.wake()
        self._workers = [asyncio.create_task(self._work(one)) for one in self._wake]

    async def stop(self) -> None:
        """Leaves everything where it is."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    def wake(self) -> None:
        """Says that there may be work."""
        for event in self._wake:
            event.set()

    async def _work(self, woken: asyncio.Event) -> None:
        reader = self._reader()
        try:
            while True:
                await woken.wait()
                woken.clear()
                try:
                    while file := await self._engine.db.read(files.waiting, self._busy):
                        if file.id in self._busy:  # the other worker has been quicker
                            continue
                        self._busy.append(file.id)
                        try:
                            await self._index(file, reader)
                        finally:
                            self._busy.remove(file.id)
                    await reader.close()
                    if not self._busy and await self._engine.db.write(indexes.sweep):
                        woken.set()
                except EngineError as error:
                    log.warning("the knowledge indexer waits: %s", error.message)
                    await asyncio.sleep(PAUSE)
                    woken.set()
                except Exception:
                    log.exception("the knowledge indexer failed; it goes on in a moment")
                    await asyncio.sleep(PAUSE)
                    woken.set()
        finally:
            await reader.close()

    async def _index(self, file: files.Waiting, reader: Reader) -> None:
        db = self._engine.db
        spool = self._folder / f"{new_uuid()}{SPOOL}"
        try:
            total = await reader.read(self._folder / file.blob, file.type, spool)
            if not total:
                raise Unread("There is no text in it")
            target = await db.read(bases.target, file.model)
            building = await db.write(indexes.begin, file, bases.signature(target), total)
            if building is not None:
                await self._fill(file, building, target, spool)
        except Unread as error:
            await db.write(indexes.fail, file, str(error))
        except ProviderError as error:
            await db.write(indexes.fail, file, f"The embedding model failed: {error.message}")
        except EngineError:  # of the database, and no fault of the file
            raise
        except Exception:
            log.exception("file %s cannot be indexed", file.id)
            await db.write(indexes.fail, file, "The engine failed at it; its log has the trace")
        finally:
            spool.unlink(missing_ok=True)

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
                chunks = [indexes.Chunk(*chunk, vector) for chunk, vector in zip(batch, vectors, strict=True)]
                if not await db.write(indexes.add, file, building, done, chunks, fault):
                    return
                done += len(chunks)


def _skip(lines: BinaryIO, count: int) -> None:
    for _ in islice(lines, count):
        pass


def _next(lines: BinaryIO) -> list[tuple[str, str]]:
    return [_LINE.decode(line) for line in islice(lines, BATCH)]
