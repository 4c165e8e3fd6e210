"""Receives uploaded files and copies those of folders; checks their names, types and first bytes."""

import asyncio
import errno
import os
import unicodedata
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path

import msgspec

from bytebrew import Detail, InvalidRequest, PayloadTooLarge, UnsupportedMediaType

from .blobs import Blob
from .files import Upload
from .multipart import Multipart, Part

EXTENSIONS = {"txt": "txt", "md": "md", "markdown": "md", "html": "html", "htm": "html", "csv": "csv", "json": "json"}
EXTENSIONS |= {"pdf": "pdf", "docx": "docx"}
_ANY = {"", "application/octet-stream"}
MEDIA_TYPES = {
    "txt": {"text/plain"},
    "md": {"text/markdown", "text/x-markdown", "text/plain"},
    "html": {"text/html", "application/xhtml+xml"},
    "csv": {"text/csv", "application/csv", "application/vnd.ms-excel", "text/plain"},
    "json": {"application/json", "text/json", "text/plain"},
    "pdf": {"application/pdf"},
    "docx": {"application/vnd.openxmlformats-officedocument.wordprocessingml.document", "application/zip"},
}
MARKS = {"pdf": b"%PDF-", "docx": b"PK\x03\x04"}
"""First bytes of binary formats."""
WRITE_BYTES = 1024 * 1024
"""Bytes per write."""
MOST_METADATA = 16_384
_FORBIDDEN = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode categories not allowed in names: control characters, surrogates, line and paragraph separators."""


async def received(
    body: AsyncIterator[bytes], headers: Mapping[str, str], target: Path, *, durable: bool = False
) -> Upload:
    """Receives the file of a form into the target, with fsync if `durable`.

    The form has the field `file`, and optionally `metadata`, a JSON object of strings.
    """
    upload: Upload | None = None
    metadata: dict[str, str] | None = None
    try:
        async with aclosing(Multipart(body, headers).parts()) as parts:
            async for part in parts:
                if part.name == "file" and part.filename is not None and upload is None:
                    upload = await _saved(part, target, durable)
                elif part.name == "metadata" and metadata is None:
                    metadata = await _metadata(part)
                else:
                    details = [Detail(f"$.{part.name[:100]}", "is no field of this form, or is there twice")]
                    raise InvalidRequest("The form has one file, in the field 'file', and 'metadata'", details=details)
        if upload is None:
            raise InvalidRequest("The form has no file", details=[Detail("$.file", "is missing")])
    except BaseException:
        await asyncio.to_thread(target.unlink, missing_ok=True)
        raise
    return upload._replace(metadata=metadata or {})


def copied(source: Path, seen: os.stat_result, name: str, target: Path, most: int, *, durable: bool = False) -> Upload:
    """Copies a scanned file into the target.

    Raises OSError, and EngineError if the file is not acceptable.
    """
    kind = kind_of(name)
    with os.fdopen(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb", buffering=0) as file:
        if not os.path.samestat(seen, state := os.fstat(file.fileno())):
            raise OSError(errno.ESTALE, "It was exchanged for another just now", str(source))
        if state.st_size > most:
            raise _too_large(name, most)
        blob = Blob(target)
        try:
            while piece := file.read(WRITE_BYTES):
                if not blob.size:
                    _check_beginning(name, kind, piece)
                if blob.size + len(piece) > most:  # it has grown since the scan
                    raise _too_large(name, most)
                blob.add(piece)
            return _whole(blob, name, kind, durable)
        except BaseException:
            target.unlink(missing_ok=True)
            raise


def file_name(path: str) -> str:
    """The last part of a path (RFC 7578 section 4.2); InvalidRequest if that is not a valid name."""
    name = path.replace("\\", "/").rpartition("/")[2].strip()
    if name in ("", ".", "..") or len(name) > 255 or not is_valid_name(name):
        raise InvalidRequest("The file has no name that could be kept", details=[Detail("$.file", "name the file")])
    return name


def is_valid_name(name: str) -> bool:
    """Whether a name has no forbidden characters."""
    return not any(unicodedata.category(letter) in _FORBIDDEN for letter in name)


def kind_of(name: str) -> str:
    """The type for a name's extension; "" for an unknown one."""
    _, dot, ending = name.rpartition(".")
    return EXTENSIONS.get(ending.lower(), "") if dot else ""


async def _saved(part: Part, target: Path, durable: bool) -> Upload:
    name = file_name(part.filename or "")
    kind = kind_of(name)
    if not kind or part.media_type not in MEDIA_TYPES[kind] | _ANY:
        known = ", ".join(EXTENSIONS)
        message = f"is of type {part.media_type}" if kind else f"ends in none of {known}"
        raise UnsupportedMediaType(f"'{name[:100]}' {message}", details=[Detail("$.file", message[:200])])
    blob, waiting = Blob(target), bytearray()
    async for piece in part.content:
        waiting += piece
        if len(waiting) >= WRITE_BYTES:
            await _add(blob, name, kind, waiting)
    await _add(blob, name, kind, waiting)
    return await asyncio.to_thread(_whole, blob, name, kind, durable)


async def _add(blob: Blob, name: str, kind: str, waiting: bytearray) -> None:
    if not blob.size:
        _check_beginning(name, kind, waiting)
    await asyncio.to_thread(blob.add, bytes(waiting))
    waiting.clear()


def _whole(blob: Blob, name: str, kind: str, durable: bool) -> Upload:
    if not blob.size:
        raise InvalidRequest(f"'{name[:100]}' is empty", details=[Detail("$.file", "is empty")])
    if durable:
        blob.add(b"", durable=True)
    return Upload(name, kind, blob.size, blob.digest, blob.name, {})


def _too_large(name: str, most: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"'{name[:100]}' is larger than {most} bytes; see BYTEBREW_MAX_UPLOAD_BYTES")


def _check_beginning(name: str, kind: str, content: bytes | bytearray) -> None:
    beginning, mark = bytes(content[:8192]), MARKS.get(kind)
    if mark is not None:
        fits = beginning.startswith(mark) or (kind == "pdf" and mark in beginning[:1024])
    else:
        wide = beginning.startswith((b"\xff\xfe", b"\xfe\xff"))
        fits = (wide or b"\0" not in beginning) and not beginning.startswith(tuple(MARKS.values()))
    if beginning and not fits:
        message = f"does not begin as a {kind} file does"
        raise UnsupportedMediaType(f"'{name[:100]}' {message}", details=[Detail("$.file", message)])


async def _metadata(part: Part) -> dict[str, str]:
    raw = bytearray()
    async for piece in part.content:
        raw += piece
        if len(raw) > MOST_METADATA:
            raise InvalidRequest("The metadata is too long", details=[Detail("$.metadata", f"{MOST_METADATA} bytes")])
    try:
        metadata = msgspec.json.decode(bytes(raw), type=dict[str, str])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        details = [Detail("$.metadata", str(error)[:300])]
        raise InvalidRequest("The metadata is no JSON object of texts", details=details) from error
    if any("\0" in text for pair in metadata.items() for text in pair):
        message = "has the character U+0000, which no text may have"
        raise InvalidRequest(f"The metadata {message}", details=[Detail("$.metadata", message)])
    return metadata
