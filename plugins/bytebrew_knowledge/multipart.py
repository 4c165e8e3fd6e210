"""Streaming parser of multipart/form-data (RFC 7578), our own: see docs/explanation/decisions/multipart.md."""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import NamedTuple

from bytebrew import InvalidRequest, UnsupportedMediaType

MAX_HEAD = 16_384
_PARAMETER = re.compile(r';\s*([\w*-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))')


class Part(NamedTuple):
    """One field of a form; read its content before the next part."""

    name: str
    filename: str | None
    media_type: str
    content: AsyncIterator[bytes]


class Multipart:
    """Iterates over the parts of a body; InvalidRequest if it is malformed."""

    def __init__(self, body: AsyncIterator[bytes], headers: Mapping[str, str]) -> None:
        kind, parameters = _header(headers.get("content-type", ""))
        boundary = parameters.get("boundary", "")
        if kind != "multipart/form-data" or not 0 < len(boundary) <= 70:
            raise UnsupportedMediaType("Send the file as multipart/form-data, in the field 'file'")
        self._body = body
        self._mark = b"\r\n--" + boundary.encode("latin-1")
        self._buffer = bytearray(b"\r\n")

    async def parts(self) -> AsyncGenerator[Part, None]:
        """The parts in order."""
        async for _ in self._until(self._mark):
            pass
        while True:
            while len(self._buffer) < 2:
                await self._more()
            if self._buffer.startswith(b"--"):
                return
            head = bytearray()
            async for piece in self._until(b"\r\n\r\n"):
                head += piece
                if len(head) > MAX_HEAD:
                    raise InvalidRequest("The head of a part is too long")
            content = self._until(self._mark)
            yield _part(bytes(head), content)
            async for _ in content:
                pass

    async def _until(self, mark: bytes) -> AsyncGenerator[bytes, None]:
        buffer = self._buffer
        while (at := buffer.find(mark)) < 0:
            if safe := max(0, len(buffer) - len(mark) + 1):
                yield bytes(buffer[:safe])
                del buffer[:safe]
            await self._more()
        yield bytes(buffer[:at])
        del buffer[: at + len(mark)]

    async def _more(self) -> None:
        piece = await anext(self._body, None)
        if piece is None:
            raise InvalidRequest("The multipart body breaks off")
        self._buffer += piece


def _part(head: bytes, content: AsyncIterator[bytes]) -> Part:
    headers: dict[str, str] = {}
    for line in head.decode("utf-8", "replace").split("\r\n"):
        key, _, value = line.partition(":")
        headers[key.strip().lower()] = value.strip()
    kind, parameters = _header(headers.get("content-disposition", ""))
    if kind != "form-data" or "name" not in parameters:
        raise InvalidRequest("A part lacks its Content-Disposition with a name")
    media_type = _header(headers.get("content-type", ""))[0]
    return Part(parameters["name"], parameters.get("filename"), media_type, content)


def _header(line: str) -> tuple[str, dict[str, str]]:
    parameters = {
        name.lower(): re.sub(r"\\(.)", r"\1", quoted) or bare for name, quoted, bare in _PARAMETER.findall(line)
    }
    return line.partition(";")[0].strip().lower(), parameters
