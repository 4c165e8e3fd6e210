"""Contents of files in an S3-compatible bucket, by obstore (the extra `s3`)."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from bytebrew import BootError, Connection, Engine, SettingsError, StorageError

from .blobs import PART, SharedBlobs, append
from .database_blobs import ARRIVAL_SECONDS

try:
    import obstore
    from obstore.exceptions import BaseError
    from obstore.store import S3Store
except ImportError:  # installed with the extra `s3`
    obstore = None

log = logging.getLogger(__name__)

VARIABLE = "BYTEBREW_UPLOADS_URL"
SECONDS = timedelta(seconds=60)
"""Time limit of a request, and of its retries together."""
ERASE_SECONDS = timedelta(seconds=2)
"""The same for a request within a transaction."""
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


class BucketBlobs(SharedBlobs):
    """Blobs as objects of a bucket, below a prefix.

    Credentials, region and endpoint are those of the environment: `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`...
    """

    def __init__(self, engine: Engine, needed: Callable[[Connection], Set[str]], url: str) -> None:
        super().__init__(engine, needed)
        if obstore is None:
            raise BootError(f"{VARIABLE} needs the extra s3: pip install 'bytebrew[s3]'")
        bucket, prefix = place(url)
        self._store = _store(bucket, prefix, SECONDS)
        self._hasty = _store(bucket, prefix, ERASE_SECONDS)

    async def clear(self, *, starting: bool = False) -> None:
        """Does as its base does; a bucket that fails is only logged, as all else works without it."""
        try:
            await super().clear(starting=starting)
        except StorageError as error:
            log.warning("uploads that nobody needs are not deleted: %s", error.message)

    async def _put(self, name: str, path: Path) -> None:
        with _faults():
            await obstore.put_async(self._store, name, path)

    async def _get(self, name: str, path: Path) -> None:
        with _faults():
            try:
                found = await obstore.get_async(self._store, name)
            except FileNotFoundError:
                return
            async for data in found.stream(min_chunk_size=PART):
                await asyncio.to_thread(append, path, bytes(data))

    async def _delete(self, names: list[str]) -> None:
        with _faults():
            for name in names:
                await obstore.delete_async(self._store, name)

    def forget_in(self, conn: Connection, name: str) -> None:
        with _faults():
            obstore.delete(self._hasty, name)

    async def _delete_unreferenced(self) -> None:
        oldest = datetime.now(UTC) - timedelta(seconds=ARRIVAL_SECONDS)
        with _faults():
            listed = [one async for batch in obstore.list(self._store) for one in batch]
        needed = await self._engine.db.write(self._needed)
        old = (one["path"] for one in listed if one["last_modified"] < oldest)
        await self._delete([name for name in old if name not in needed])


def place(url: str) -> tuple[str, str]:
    """Bucket and prefix of `s3://bucket/prefix`; SettingsError otherwise."""
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.hostname or parts.netloc != parts.hostname or parts.query or parts.fragment:
        raise SettingsError(f"{VARIABLE} is s3://bucket/prefix; credentials go into AWS_ACCESS_KEY_ID and the like")
    return parts.hostname, parts.path.strip("/")


def _store(bucket: str, prefix: str, limit: timedelta) -> "S3Store":
    plain = any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS)
    return S3Store(
        bucket,
        prefix=prefix or None,
        client_options={"allow_http": plain, "timeout": limit, "connect_timeout": min(limit, timedelta(seconds=5))},
        retry_config={"max_retries": 3, "retry_timeout": limit},
    )


@contextmanager
def _faults() -> Iterator[None]:
    """Tells failures of the bucket as those of the storage."""
    try:
        yield
    except (BaseError, OSError) as error:  # it has no object or bucket: FileNotFoundError
        reason = str(error).strip().partition("\n")[0][:300]
        raise StorageError(f"The bucket of {VARIABLE} does not do its work: {reason}") from error
