"""Decompresses HTTP bodies in small chunks, so that a decompression bomb cannot fill the memory."""

import zlib
from collections.abc import AsyncGenerator, AsyncIterator

from bytebrew.base.errors import ProviderError

PIECE_BYTES = 64 * 1024
_WINDOWS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


async def unpacked(chunks: AsyncIterator[bytes], encoding: str) -> AsyncGenerator[bytes, None]:
    """The decompressed body in chunks of at most 64 KiB; `encoding` is its Content-Encoding.

    Bytes after the compressed body are ignored. Raises ProviderError for an unknown encoding and for a damaged or
    incomplete body.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        async for chunk in chunks:
            yield chunk
        return
    if encoding not in _WINDOWS:
        raise ProviderError(f"The answer is encoded as {encoding[:40]}, which was not asked for")
    unpacker, begun = zlib.decompressobj(_WINDOWS[encoding]), False
    try:
        async for chunk in chunks:
            begun, more = True, True
            while more:
                piece = unpacker.decompress(chunk, PIECE_BYTES)
                chunk = unpacker.unconsumed_tail
                more = bool(chunk) or len(piece) == PIECE_BYTES
                if piece:
                    yield piece
                if unpacker.eof:
                    return
    except zlib.error as error:
        raise ProviderError(f"The answer is no {encoding}", code="model_unavailable", retry=True) from error
    if begun:
        raise ProviderError(f"The answer's {encoding} breaks off", code="model_unavailable", retry=True)
