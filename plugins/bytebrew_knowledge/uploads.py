"""Takes in files: their names, their types, their bytes."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path

import msgspec

from bytebrew import Detail, InvalidRequest, UnsupportedMediaType, new_uuid

from .files import Upload
from .multipart import Multipart, Part

ENDINGS = {"txt": "txt", "md": "md", "markdown": "md", "html": "html", "htm": "html", "csv": "csv", "json": "json"}
ENDINGS |= {"pdf": "pdf", "docx": "docx"}
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
"""How the files begin that are no text."""
WRITTEN = 1024 * 1024
"""Bytes that are written in one go."""
MOST_METADATA = 16_384


async def received(
    body: AsyncIterator[bytes], headers: Mapping[str, str], folder: Path, *, durable: bool = False
) -> Upload:
    """The file of a form, its bytes in the folder under a name of their own; `durable` outlives a power cut.

    The form has the field `file` and may have `metadata`, a JSON object of texts.
    """
    upload: Upload | None = None
    metadata: dict[str, str] = {}
    try:
        async with aclosing(Multipart(body, headers).parts()) as parts:
            async for part in parts:
                if part.name == "file" and part.filename is not None and upload is None:
                    upload = await _saved(part, folder, durable)
                elif part.name == "metadata":
                    metadata = await _metadata(part)
                else:
                    details = [Detail(f"$.{part.name[:100]}", "is no field of this form, or is there twice")]
                    raise InvalidRequest("The form has one file, in the field 'file', and 'metadata'", details=details)
        if upload is None:
            raise InvalidRequest("The form has no file", details=[Detail("$.file", "is missing")])
    except BaseException:
        if upload is not None:
            (folder / upload.blob).unlink(missing_ok=True)
        raise
    return upload._replace(metadata=metadata)


def file_name(given: str) -> str:
    """The last part of a path (RFC 7578 section 4.2); InvalidRequest where that is no name."""
    name = given.replace("\\", "/").rpartition("/")[2].strip()
    if (
        not name
        or name in (".", "..")
        or len(name) > 255
        or any(ord(letter) < 32 or letter == "\x7f" for letter in name)
    ):
        raise InvalidRequest("The file has no name that could be kept", details=[Detail("$.file", "name the file")])
    return name


async def _saved(part: Part, folder: Path, durable: bool) -> Upload:
    name = file_name(part.filename or "")
    kind = ENDINGS.get(name.rpartition(".")[2].lower(), "")
    if not kind or part.media_type not in MEDIA_TYPES[kind] | _ANY:
        known = ", ".join(ENDINGS)
        words = f"is of type {part.media_type}" if kind else f"ends in none of {known}"
        raise UnsupportedMediaType(f"'{name[:100]}' {words}", details=[Detail("$.file", words[:200])])
    blob = new_uuid()
    path = folder / blob
    digest, size, waiting, first = hashlib.sha256(), 0, bytearray(), True
    try:
        with path.open("xb", buffering=0) as target:
            path.chmod(0o600)
            async for piece in part.content:
                waiting += piece
                if len(waiting) >= WRITTEN:
                    if first:
                        _check_beginning(name, kind, bytes(waiting[:8192]))
                    first = False
                    size += len(waiting)
                    await asyncio.to_thread(_write, target.fileno(), digest, bytes(waiting))
                    waiting.clear()
            if first:
                _check_beginning(name, kind, bytes(waiting[:8192]))
            size += len(waiting)
            await asyncio.to_thread(_write, target.fileno(), digest, bytes(waiting))
            if durable:
                await asyncio.to_thread(os.fsync, target.fileno())
        if not size:
            raise InvalidRequest(f"'{name[:100]}' is empty", details=[Detail("$.file", "is empty")])
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Upload(name, kind, size, digest.hexdigest(), blob, {})


def _write(target: int, digest: "hashlib._Hash", data: bytes) -> None:
    digest.update(data)
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(target, rest) :]


def _check_beginning(name: str, kind: str, beginning: bytes) -> None:
    mark = MARKS.get(kind)
    if mark is not None:
        fits = beginning.startswith(mark) or (kind == "pdf" and mark in beginning[:1024])
    else:
        wide = beginning.startswith((b"\xff\xfe", b"\xfe\xff"))
        fits = (wide or b"\0" not in beginning) and not beginning.startswith(tuple(MARKS.values()))
    if beginning and not fits:
        words = f"does not begin as a {kind} file does"
        raise UnsupportedMediaType(f"'{name[:100]}' {words}", details=[Detail("$.file", words)])


async def _metadata(part: Part) -> dict[str, str]:
    raw = bytearray()
    async for piece in part.content:
        raw += piece
        if len(raw) > MOST_METADATA:
            raise InvalidRequest("The metadata is too long", details=[Detail("$.metadata", f"{MOST_METADATA} bytes")])
    try:
        return msgspec.json.decode(bytes(raw), type=dict[str, str])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        details = [Detail("$.metadata", str(error)[:300])]
        raise InvalidRequest("The metadata is no JSON object of texts", details=details) from error
