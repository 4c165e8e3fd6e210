"""Requests that two parsers may read differently are refused, and whatever is accepted h11 reads in the same way."""

import asyncio
from collections.abc import AsyncIterator

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bytebrew.testing import ADMIN, served_engine
from bytebrew.web.server.http1_parser import (
    CHUNK_LINE_BYTES,
    HEAD_BYTES,
    ChunkedBody,
    Malformed,
    SizedBody,
    read_head,
)

NEXT = b"GET /api/v1/health HTTP/1.1\r\nHost: a\r\n\r\n"
"""What a smuggler hides in a request."""


def post(*headers: bytes, body: bytes = NEXT, line: bytes = b"POST /api/v1/agents HTTP/1.1") -> bytes:
    token = b"Authorization: Bearer " + ADMIN.encode()
    return b"\r\n".join([line, b"Host: a", token, *headers, b"", b""]) + body


def get(*headers: bytes, line: bytes = b"GET /api/v1/health HTTP/1.1") -> bytes:
    return post(*headers, body=b"", line=line)


CHUNKED = b"Transfer-Encoding: chunked"
SHORT, EMPTY = b"Content-Length: 5", b"Content-Length: 0"
REFUSED = {
    "a length and a coding": (400, post(SHORT, CHUNKED, body=b"0\r\n\r\n" + NEXT)),
    "a coding and a length": (400, post(CHUNKED, SHORT, body=b"0\r\n\r\n" + NEXT)),
    "two lengths": (400, post(SHORT, b"Content-Length: 6")),
    "a length twice": (400, post(SHORT, SHORT)),
    "a list of lengths": (400, post(b"Content-Length: 5, 5")),
    "a length with a sign": (400, post(b"Content-Length: +5")),
    "a negative length": (400, post(b"Content-Length: -5")),
    "a length in hexadecimal": (400, post(b"Content-Length: 0x5")),
    "a length with a line": (400, post(b"Content-Length: 5_0")),
    "a length with a space": (400, post(b"Content-Length: 5 0")),
    "no length": (400, post(b"Content-Length:")),
    "a length of 21 digits": (400, post(b"Content-Length: " + b"0" * 20 + b"5")),
    "a length in other digits": (400, post("Content-Length: \u0665".encode())),
    "another coding": (501, post(b"Transfer-Encoding: gzip", body=b"0\r\n\r\n")),
    "a coding before": (501, post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n")),
    "a coding behind": (501, post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n")),
    "almost the coding": (501, post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n")),
    "a quoted coding": (501, post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n")),
    "no coding": (501, post(b"Transfer-Encoding:", body=b"0\r\n\r\n")),
    "a coding twice": (400, post(CHUNKED, CHUNKED, body=b"0\r\n\r\n")),
    "two codings": (400, post(CHUNKED, b"Transfer-Encoding: identity", body=b"0\r\n\r\n")),
    "a coding with a vertical tab": (400, post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n")),
    "a coding in HTTP/1.0": (400, post(CHUNKED, line=b"POST /api/v1/agents HTTP/1.0", body=b"0\r\n\r\n")),
    "a folded line": (400, get(b"X: a\r\n b")),
    "a folded coding": (400, post(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n")),
    "a folded first line": (400, b"GET /api/v1/health HTTP/1.1\r\n Host: a\r\n\r\n"),
    "a space before a colon": (400, post(b"Content-Length : 5")),
    "a tab before a colon": (400, post(b"Transfer-Encoding\t: chunked", body=b"0\r\n\r\n")),
    "a space before a name": (400, get(b" X: a")),
    "a line without colon": (400, get(b"X")),
    "an empty name": (400, get(b": a")),
    "a name with brackets": (400, get(b"X(a): b")),
    "a name beyond ASCII": (400, get("\u00dc: a".encode())),
    "a NUL in a value": (400, get(b"X: a\0b")),
    "a NUL in a name": (400, get(b"X\0: b")),
    "a CR in a value": (400, get(b"X: a\rContent-Length: 5")),
    "a LF in a value": (400, get(b"X: a\nContent-Length: 5")),
    "another control character": (400, get(b"X: a\x01b")),
    "DEL": (400, get(b"X: a\x7fb")),
    "lines that end with LF": (400, b"GET /api/v1/health HTTP/1.1\nHost: a\n\n"),
    "a head that ends with LF": (400, b"GET /api/v1/health HTTP/1.1\r\nHost: a\r\n\n"),
    "lines that end with CR": (400, b"GET /api/v1/health HTTP/1.1\rHost: a\r\r\n\r\n"),
    "an empty line before": (400, b"\r\n" + get()),
    "two spaces": (400, get(line=b"GET  /api/v1/health HTTP/1.1")),
    "a tab": (400, get(line=b"GET\t/api/v1/health HTTP/1.1")),
    "a space behind": (400, get(line=b"GET /api/v1/health HTTP/1.1 ")),
    "a space in the target": (400, get(line=b"GET /api/v1/health a HTTP/1.1")),
    "a control character in the target": (400, get(line=b"GET /api\x01 HTTP/1.1")),
    "a target beyond ASCII": (400, get(line=b"GET /\xff HTTP/1.1")),
    "no target": (400, get(line=b"GET HTTP/1.1")),
    "HTTP/0.9": (400, b"GET /api/v1/health\r\n\r\n"),
    "HTTP/2.0": (400, get(line=b"GET /api/v1/health HTTP/2.0")),
    "a version in lower case": (400, get(line=b"GET /api/v1/health http/1.1")),
    "a version of two digits": (400, get(line=b"GET /api/v1/health HTTP/1.10")),
    "no minor version": (400, get(line=b"GET /api/v1/health HTTP/1")),
    "another protocol": (400, get(line=b"GET /api/v1/health XTTP/1.1")),
    "a method with a bracket": (400, get(line=b"G(T /api/v1/health HTTP/1.1")),
    "no host": (400, b"GET /api/v1/health HTTP/1.1\r\n\r\n"),
    "two hosts": (400, get(b"Host: b")),
    "the host twice": (400, get(b"Host: a")),
    "a list of hosts": (400, get().replace(b"Host: a", b"Host: a, b")),
    "a host with a space": (400, get().replace(b"Host: a", b"Host: a b")),
    "a host with a path": (400, get().replace(b"Host: a", b"Host: a/b")),
    "a host with a user": (400, get().replace(b"Host: a", b"Host: b@a")),
    "a host with a strange port": (400, get().replace(b"Host: a", b"Host: a:8x")),
    "a host with two ports": (400, get().replace(b"Host: a", b"Host: a:1:2")),
    "an absolute target without host": (400, get(line=b"GET http:///api/v1/health HTTP/1.1")),
    "an absolute target with a port alone": (400, get(line=b"GET http://:80/api/v1/health HTTP/1.1")),
    "an absolute target with a user": (400, get(line=b"GET http://a@b/api/v1/health HTTP/1.1")),
    "an absolute target with a strange port": (400, get(line=b"GET http://a:8x/api/v1/health HTTP/1.1")),
    "an absolute target and no host": (400, b"GET http://a/api/v1/health HTTP/1.1\r\n\r\n"),
    "an absolute target and two hosts": (400, get(b"Host: b", line=b"GET http://a/api/v1/health HTTP/1.1")),
    "a host beyond ASCII": (400, get().replace(b"Host: a", b"Host: \xff")),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "a chunk without size": (400, post(CHUNKED, body=b"\r\n\r\n")),
    "a size that is no number": (400, post(CHUNKED, body=b"g\r\n")),
    "a size with a sign": (400, post(CHUNKED, body=b"+1\r\na\r\n0\r\n\r\n")),
    "a negative size": (400, post(CHUNKED, body=b"-1\r\na\r\n0\r\n\r\n")),
    "a size with a prefix": (400, post(CHUNKED, body=b"0x1\r\na\r\n0\r\n\r\n")),
    "a size with a line": (400, post(CHUNKED, body=b"1_0\r\na\r\n0\r\n\r\n")),
    "a size of 65 bits": (400, post(CHUNKED, body=b"10000000000000001\r\na\r\n0\r\n\r\n")),
    "a space before a size": (400, post(CHUNKED, body=b" 1\r\na\r\n0\r\n\r\n")),
    "a space behind a size": (400, post(CHUNKED, body=b"1 \r\na\r\n0\r\n\r\n")),
    "a size that ends with LF": (400, post(CHUNKED, body=b"1\na\r\n0\r\n\r\n")),
    "a CR in an extension": (400, post(CHUNKED, body=b"1;a\rb\r\na\r\n0\r\n\r\n")),
    "a LF in an extension": (400, post(CHUNKED, body=b"1;a\nb\r\na\r\n0\r\n\r\n")),
    "a NUL in an extension": (400, post(CHUNKED, body=b"1;\0\r\na\r\n0\r\n\r\n")),
    "a long extension": (400, post(CHUNKED, body=b"1;" + b"a" * CHUNK_LINE_BYTES)),
    "a chunk that is longer than its size": (400, post(CHUNKED, body=b"1\r\nab\r\n0\r\n\r\n")),
    "a chunk that is shorter than its size": (400, post(CHUNKED, body=b"3\r\na\r\n0\r\n\r\n")),
    "a chunk that ends with LF": (400, post(CHUNKED, body=b"1\r\na\n0\r\n\r\n")),
    "a trailer without colon": (400, post(CHUNKED, body=b"0\r\nX\r\n\r\n")),
    "a folded trailer": (400, post(CHUNKED, body=b"0\r\nX: a\r\n b\r\n\r\n")),
    "a trailer with a NUL": (400, post(CHUNKED, body=b"0\r\nX: \0\r\n\r\n")),
    "a trailer that ends with LF": (400, post(CHUNKED, body=b"0\r\nX: a\n\r\n")),
    "a body that ends with LF": (400, post(CHUNKED, body=b"0\r\n\n" + NEXT)),
    "a long header": (431, get(b"X: " + b"a" * HEAD_BYTES)),
    "many headers": (431, get(*[b"X: a"] * (HEAD_BYTES // 6))),
    "a long target": (431, get(line=b"GET /" + b"a" * HEAD_BYTES + b" HTTP/1.1")),
    "long trailers": (431, post(CHUNKED, body=b"0\r\n" + b"X: a\r\n" * (HEAD_BYTES // 6 + 1))),
}


@pytest.fixture(scope="module")
async def port() -> AsyncIterator[int | None]:
    """That of an engine for all of these."""
    async with served_engine() as (_, client):
        yield client.base_url.port


@pytest.mark.parametrize(("status", "sent"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "in two parts"])
async def test_what_may_be_read_in_two_ways_is_refused_with_all_that_follows(
    port: int, status: int, sent: bytes, at_once: bool
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    if not at_once:
        writer.write(sent[:-3])
        await asyncio.sleep(0)
        sent = sent[-3:]
    writer.write(sent)
    answer = b""
    async with asyncio.timeout(5):
        while piece := await read(reader):
            answer += piece
    writer.close()
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"HTTP/1.1") == 1
    assert b"connection: close\r\n" in answer


async def read(reader: asyncio.StreamReader) -> bytes:
    """What comes next; nothing once the connection has ended, in whatever way."""
    try:
        return await reader.read(65536)
    except ConnectionError:
        return b""


ACCEPTED = {
    "plain": get(),
    "no space behind a colon": get(b"X:a"),
    "spaces around a value": get(b"X: \t a b \t "),
    "an empty value": get(b"X:"),
    "a value beyond ASCII": get(b"X: \xff"),
    "a header twice": get(b"X: a", b"X: b"),
    "the coding in upper case": post(b"Transfer-Encoding: CHUNKED", body=b"0\r\n\r\n"),
    "a host with a port": get().replace(b"Host: a", b"Host: a.b-c_d:80"),
    "a host in brackets": get().replace(b"Host: a", b"Host: [::1]:80"),
    "an empty host": get().replace(b"Host: a", b"Host:"),
    "no host in HTTP/1.0": b"GET / HTTP/1.0\r\n\r\n",
    "an extension": post(CHUNKED, body=b'2;a;b="c d"\r\nab\r\n0;e\r\nX: y\r\n\r\n'),
    "zeros before a size": post(CHUNKED, body=b"0002\r\nab\r\n000\r\n\r\n"),
}
Read = tuple[bytes, bytes, bytes, list[tuple[bytes, bytes]], bytes]


def ours(data: bytes) -> Read | None:
    """A request as our parser reads it; None if it is refused or incomplete."""
    try:
        if not data or (found := read_head(data, 0)) is None:
            return None
        head, at = found
        body = head.body()
        piece, _, whole = body.take(data, at) if body else (b"", at, True)
    except Malformed:
        return None
    return (head.method.encode(), head.target, head.version.encode(), head.headers, piece) if whole else None


def theirs(data: bytes) -> Read | None:
    """A request as h11 reads it."""
    connection = h11.Connection(h11.SERVER, HEAD_BYTES)
    connection.receive_data(data)
    request, body = None, b""
    try:
        while isinstance(event := connection.next_event(), h11.Request | h11.Data):
            if isinstance(event, h11.Request):
                request = event
            else:
                body += event.data
    except h11.RemoteProtocolError:
        return None
    if request is None or not isinstance(event, h11.EndOfMessage):
        return None
    return request.method.upper(), request.target, request.http_version, [*request.headers], body


@pytest.mark.parametrize("sent", ACCEPTED.values(), ids=ACCEPTED)
def test_what_the_grammar_has_is_read_as_by_h11(sent: bytes) -> None:
    read = ours(sent)
    assert read is not None
    name = (b"transfer-encoding", b"chunked")  # which h11 writes in lower case
    headers = [name if line[0] == name[0] else line for line in read[3]]
    assert (*read[:3], headers, read[4]) == theirs(sent)


@pytest.mark.parametrize(
    ("target", "host", "path"),
    [
        (b"http://b:80/x?y", b"b:80", b"/x?y"),
        (b"HTTP://b/x", b"b", b"/x"),
        (b"http://b", b"b", b"/"),
        (b"http://b?y", b"b", b"/?y"),
        (b"http://[::1]:80//x", b"[::1]:80", b"//x"),
    ],
)
@pytest.mark.parametrize("sent", [b" HTTP/1.1\r\nX: y\r\nHost: a\r\n\r\n", b" HTTP/1.0\r\nX: y\r\n\r\n"])
def test_the_host_of_an_absolute_target_takes_the_place_of_the_header(
    sent: bytes, target: bytes, host: bytes, path: bytes
) -> None:
    found = read_head(b"GET " + target + sent, 0)
    assert found is not None
    head, _ = found
    assert (head.target, sorted(head.headers)) == (path, [(b"host", host), (b"x", b"y")])
    assert head.values[b"host"] == host


async def test_an_absolute_target_reaches_its_route_and_the_next_request_too(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(get(line=b"GET http://localhost/api/v1/health HTTP/1.1") + get(b"Connection: close"))
    async with asyncio.timeout(5):
        answers = await reader.read()
    writer.close()
    assert answers.count(b"HTTP/1.1 200 ") == 2


@pytest.mark.parametrize(
    ("named", "header", "words"),
    [
        ("evil.test", "", b"The Host header may be a foreign site's"),
        ("", "evil.test", b"its process is the engine's own"),  # which is what is checked next
    ],
)
async def test_the_check_against_dns_rebinding_sees_the_host_of_an_absolute_target(
    port: int, named: str, header: str, words: bytes
) -> None:
    own = f"localhost:{port}"
    lines = f"Host: {header or own}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"POST http://{named or own}/api/v1/auth/local-session HTTP/1.1\r\n{lines}".encode())
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    assert words in answer


PARTS = [
    *(b"\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b":", b",", b";", b"0", b"5", b"a", b"\xff", b"\x0b", b"\r\n\r\n"),
    *(b"GET", b"POST", b"/", b"HTTP/1.1", b"HTTP/1.0", b"Host: a\r\n", b"Host: b\r\n", b"Content-Length: 5\r\n"),
    *(b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"transfer-encoding:chunked\r\n", b"X: y\r\n"),
    *(b"5\r\nabcde\r\n", b"0\r\n\r\n", b"1;x=y\r\n", b"Expect: 100-continue\r\n", b"Connection: close\r\n"),
]
BEGUN = st.sampled_from([b"", b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: a\r\n", post(CHUNKED, body=b"")])
MIXED = st.builds(lambda begun, parts: begun + b"".join(parts), BEGUN, st.lists(st.sampled_from(PARTS), max_size=12))


@given(MIXED | st.binary(max_size=60))
@example(get())
def test_whatever_is_accepted_h11_accepts_as_the_same_request(data: bytes) -> None:
    if (read := ours(data)) is not None:
        assert read == theirs(data)


# Bodies.


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    st.lists(st.sampled_from([b"", b";x", b';x="a b"'])),
    st.lists(st.integers(1, 30), min_size=1),
    st.sampled_from([b"", b"X: y\r\n", b"X: y\r\nZ: a\r\n"]),
)
def test_a_chunked_body_is_read_in_whatever_parts_it_comes(
    pieces: list[bytes], extensions: list[bytes], sizes: list[int], trailers: bytes
) -> None:
    extended = [*extensions, *[b""] * len(pieces)]
    chunks = [b"%x%b\r\n%b\r\n" % (len(piece), more, piece) for piece, more in zip(pieces, extended, strict=False)]
    data = b"".join(chunks) + b"0\r\n" + trailers + b"\r\n"
    body, read, kept, n, whole = ChunkedBody(), b"", bytearray(), 0, False
    came = 0
    while came < len(data):
        assert not whole
        kept += data[came : came + sizes[n % len(sizes)]]
        came, n = came + sizes[n % len(sizes)], n + 1
        piece, at, whole = body.take(kept, 0)
        read += piece
        del kept[:at]
    assert whole and not kept
    assert read == b"".join(pieces)


def test_a_body_ends_where_its_length_says() -> None:
    body = SizedBody(5)
    assert body.take(b"xxabc", 2) == (b"abc", 5, False)
    assert body.take(NEXT, 0) == (NEXT[:2], 2, True)
