"""Parses HTTP/1.1 requests by the strict grammar of RFC 9112.

What servers and proxies read differently allows request smuggling, so that nothing is accepted which the RFC lets a
server refuse: a line without CR, a folded line, two lengths, a length beside Transfer-Encoding, a space before a colon.
"""

import re
from dataclasses import dataclass

HEAD_BYTES = 32_768
"""Limit of a request's line and headers, and of the trailers of a chunked body."""
CHUNK_LINE_BYTES = 1024
"""Limit of the line before a chunk, with its extensions."""
PREFACE = b"PRI * HTTP/2.0\r\n\r\n"
"""The beginning of a connection that speaks HTTP/2 (RFC 9113 section 3.4)."""
_TOKEN = rb"[\w!#$%&'*+.^`|~-]++"
_VALUE = rb"[^\x00-\x08\n-\x1f\x7f]*+"
_LINE = re.compile(rb"(%b) ([!-~]++) HTTP/(1\.\d)\r\n" % _TOKEN)
_FIELDS = re.compile(rb"(?:%b:%b\r\n)*+" % (_TOKEN, _VALUE))
_HOST = re.compile(rb"(?:\[[\w:.~!$&'()*+,;=-]+\]|[\w.~%!$&'()*+,;=-]*)(?::\d*)?")  # RFC 3986 section 3.2.2
_ABSOLUTE = re.compile(rb"http://([^/?#:][^/?#]*)(.*)", re.IGNORECASE)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;%b)?\r\n" % _VALUE)
_LENGTH = re.compile(rb"\d{1,20}")
_SINGLE = frozenset((b"host", b"content-length", b"transfer-encoding"))
_READ = _SINGLE | {b"connection", b"expect", b"upgrade"}
_COMMON = {name: name for name in (*_READ, b"authorization", b"user-agent", b"accept", b"accept-encoding", b"origin")}
"""Names that most requests have, each one object: the headers of streams stay in memory for long."""


class Malformed(Exception):
    """A request that is refused with `status`; its connection cannot be used any more."""

    def __init__(self, status: int = 400) -> None:
        super().__init__(status)
        self.status = status


class SizedBody:
    """A body with a Content-Length."""

    __slots__ = ("_left",)

    def __init__(self, size: int) -> None:
        self._left = size

    def take(self, data: bytes | bytearray, at: int) -> tuple[bytes, int, bool]:
        """The part of the body in `data` from `at` on, the position behind it, and whether it is the last."""
        end = min(len(data), at + self._left)
        self._left -= end - at
        return bytes(data[at:end]), end, not self._left


class ChunkedBody:
    """A body with Transfer-Encoding: chunked; extensions and trailers are discarded."""

    __slots__ = ("_ends", "_left", "_trailing", "_whole")

    def __init__(self) -> None:
        self._left = 0  # of the current chunk
        self._ends = False  # the line end after a chunk is due
        self._trailing = 0  # bytes of trailers that may come, once the last chunk has
        self._whole = False

    def take(self, data: bytes | bytearray, at: int) -> tuple[bytes, int, bool]:
        """As that of SizedBody; an incomplete line is left in `data`."""
        pieces: list[bytes] = []
        while at < len(data) and not self._whole:
            if self._left:
                piece = bytes(data[at : at + self._left])
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._ends = not self._left
                continue
            most = 2 if self._ends else self._trailing or CHUNK_LINE_BYTES
            end = data.find(b"\n", at, at + most) + 1
            if not end:
                if len(data) - at >= most:
                    raise Malformed(431 if self._trailing else 400)
                break
            self._read_line(bytes(data[at:end]))
            at = end
        return b"".join(pieces), at, self._whole

    def _read_line(self, line: bytes) -> None:
        if self._ends:
            if line != b"\r\n":
                raise Malformed
            self._ends = False
        elif not self._trailing:
            if not (found := _CHUNK.fullmatch(line)):
                raise Malformed
            self._left = int(found[1], 16)
            self._trailing = 0 if self._left else HEAD_BYTES
        elif line == b"\r\n":
            self._whole = True
        elif _FIELDS.fullmatch(line):
            self._trailing = max(1, self._trailing - len(line))
        else:
            raise Malformed


@dataclass(frozen=True, slots=True)
class Head:
    """The line and headers of a request; names of headers are in lower case."""

    method: str
    target: bytes
    version: str
    headers: list[tuple[bytes, bytes]]
    values: dict[bytes, bytes]

    @property
    def is_newer(self) -> bool:
        """Whether the client speaks HTTP/1.1, or a later version whose first it also understands."""
        return self.version >= "1.1"

    @property
    def keeps_alive(self) -> bool:
        """Whether another request may follow on the connection."""
        return self.is_newer and b"close" not in self._list_items(b"connection") and not self.opens_websocket

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for the status 100 before it sends the body."""
        return self.is_newer and b"100-continue" in self._list_items(b"expect")

    @property
    def opens_websocket(self) -> bool:
        """Whether the request opens a WebSocket."""
        asked = self.values.get(b"upgrade", b"").lower() == b"websocket" and self.method == "GET"
        return asked and self.is_newer and self.body() is None and b"upgrade" in self._list_items(b"connection")

    def body(self) -> SizedBody | ChunkedBody | None:
        """What reads the body, if there is one."""
        if b"transfer-encoding" in self.values:
            return ChunkedBody()
        length = int(self.values.get(b"content-length", 0))
        return SizedBody(length) if length else None

    def _list_items(self, name: bytes) -> set[bytes]:
        return {item.strip(b" \t") for item in self.values.get(name, b"").lower().split(b",")}


def read_head(data: bytes | bytearray, at: int) -> tuple[Head, int] | None:
    """The request that begins at a position, and where its headers end; None if they are incomplete."""
    end = data.find(b"\r\n\r\n", at, at + HEAD_BYTES) + 2
    if end < 2:
        if len(data) - at >= HEAD_BYTES:
            raise Malformed(431)
        line_end = data.rfind(b"\n", at)  # all others are looked at once the head is complete
        if data[at] <= 0x20 or (line_end > at and data[line_end - 1] != 0x0D):  # such as a handshake of TLS
            raise Malformed
        return None
    line = _LINE.match(data, at, end)
    if not line or not _FIELDS.fullmatch(data, line.end(), end):
        raise Malformed
    method, target, version = line.groups()
    headers: list[tuple[bytes, bytes]] = []
    values: dict[bytes, bytes] = {}
    for field in bytes(data[line.end() : end]).split(b"\r\n")[:-1]:
        name, _, value = field.partition(b":")
        name = name.lower()
        name, value = _COMMON.get(name, name), value.strip(b" \t")
        headers.append((name, value))
        if name in _READ:
            if name in values:
                if name in _SINGLE:
                    raise Malformed
                value = b"%b,%b" % (values[name], value)
            values[name] = value
    _check(values, version)
    if target[:7].lower() == b"http://":
        target = _take_host(target, headers, values)
    return Head(method.decode().upper(), target, version.decode(), headers, values), end + 2


def _check(values: dict[bytes, bytes], version: bytes) -> None:
    """Raises Malformed if it is not certain for whom the request is, or where its body ends."""
    host = values.get(b"host", b"" if version < b"1.1" else None)
    if host is None or not _HOST.fullmatch(host):
        raise Malformed
    length, coding = values.get(b"content-length"), values.get(b"transfer-encoding")
    if length is not None and not _LENGTH.fullmatch(length):
        raise Malformed
    if coding is not None:
        if coding.lower() != b"chunked":
            raise Malformed(501)
        if length is not None or version < b"1.1":
            raise Malformed


def _take_host(target: bytes, headers: list[tuple[bytes, bytes]], values: dict[bytes, bytes]) -> bytes:
    """The path of a target in absolute form, whose host replaces the header Host (RFC 9112 section 3.2.2)."""
    found = _ABSOLUTE.fullmatch(target)
    if not found or not _HOST.fullmatch(found[1]):
        raise Malformed
    headers[:] = [(b"host", found[1]), *(line for line in headers if line[0] != b"host")]
    values[b"host"] = found[1]
    return found[2] if found[2].startswith(b"/") else b"/" + found[2]
