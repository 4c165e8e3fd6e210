"""HTTP/1.1 as a client speaks it: how responses end, when a connection is used again, and what is too much."""

import asyncio
import itertools
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import cast

import anyio
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from bytebrew.base.errors import ProviderError
from bytebrew.base.http_client import pools
from bytebrew.base.http_client.client import Http
from bytebrew.base.http_client.connections import BUFFER_BYTES, OVERHEAD_BYTES, Connection
from bytebrew.base.settings import Core
from tests.upstream import Act, Step, Upstream, broken, client, head, listening, streamed, upstream

OK = head(content_length=2) + b"ok"


@pytest.mark.parametrize(
    ("answer", "status", "body", "connections"),
    [
        ([OK], 200, b"ok", 1),
        ([head(204)], 204, b"", 1),
        ([head(304, content_length=9)], 304, b"", 1),
        ([head(content_length=0)], 200, b"", 1),
        (streamed(b"a", b"b"), 200, b"ab", 1),
        ([head(transfer_encoding="chunked") + b"1;name=value\r\na\r\n0\r\nx-trailer: 1\r\n\r\n"], 200, b"a", 1),
        ([head(100) + head(103, link="</a>") + OK], 200, b"ok", 1),
        ([head(100), 0.01, OK], 200, b"ok", 1),
        ([head(connection="close", content_length=2) + b"ok"], 200, b"ok", 2),
        ([b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"], 200, b"ok", 2),
        ([head() + b"to its end", Act.CLOSE], 200, b"to its end", 2),
        ([head(transfer_encoding="gzip") + b"to its end", Act.CLOSE], 200, b"to its end", 2),
        ([OK + b"and more"], 200, b"ok", 2),
        ([OK + OK], 200, b"ok", 2),
        ([OK, 0.02, b"and more"], 200, b"ok", 2),
        ([OK, 0.02, Act.CLOSE], 200, b"ok", 2),
        ([head(101, upgrade="x", connection="upgrade")], 101, b"", 2),
        ([re.sub(b"\r\n", b"\n", OK)], 200, b"ok", 1),
    ],
)
async def test_a_response_ends_where_it_says_and_its_connection_is_used_again_if_it_can_be(
    answer: list[Step], status: int, body: bytes, connections: int
) -> None:
    async with upstream(answer) as double, client() as http:
        for _ in range(2):
            with anyio.fail_after(2):
                response = await http.client(double.url).post(double.url)
            assert (response.status_code, response.content) == (status, body)
            await anyio.sleep(0.05)  # what comes after it comes
    assert double.connections == connections


@pytest.mark.parametrize(("body", "connections"), [(b"", 1), (b"part of it", 2)])
async def test_a_response_to_head_has_no_body_whatever_length_it_names(body: bytes, connections: int) -> None:
    async with upstream([head(content_length=100) + body]) as double, client() as http:
        for _ in range(2):
            response = await http.client(double.url).head(double.url)
            assert (response.headers["content-length"], response.content) == ("100", b"")
    assert double.connections == connections


@pytest.mark.parametrize(
    "answer",
    [
        [head(content_length=3) + b"ok", Act.CLOSE],
        broken(b"ok", Act.CLOSE),
        [head(transfer_encoding="chunked") + b"2\r\nok\r\nno number\r\n"],
        [head(content_length=2, transfer_encoding="chunked") + b"ok"],
        [head() + b"ok", 0.01, Act.RESET],
        [b"HTTP/1.1 099 Odd\r\ncontent-length: 2\r\n\r\nok"],
    ],
)
async def test_a_response_that_is_not_whole_or_has_no_status_is_an_error(answer: list[Step]) -> None:
    async with upstream(answer) as double, client() as http:
        with pytest.raises(httpx.TransportError), anyio.fail_after(2):
            await http.client(double.url).get(double.url)


@pytest.mark.parametrize(
    "endless",
    [
        b"HTTP/1.1 200 OK\r\nx: ",
        b"HTTP/1.1 200 ",
        head(transfer_encoding="chunked") + b"1;",
        head(transfer_encoding="chunked") + b"0\r\nx: ",
    ],
    ids=["header", "reason", "extension", "trailer"],
)
async def test_what_is_no_body_is_limited(endless: bytes) -> None:
    more: list[Step] = [b"x" * 16384, 0.001]
    answer = [endless, *more * (OVERHEAD_BYTES // 16384 + 2), Act.HANG]
    async with upstream(answer) as double, client() as http:
        with pytest.raises(httpx.RemoteProtocolError), anyio.fail_after(2):
            await http.client(double.url).get(double.url)


@pytest.mark.parametrize(("method", "times"), [("GET", 2), ("PUT", 2), ("POST", 1)])
async def test_a_request_is_sent_again_on_another_connection_only_if_that_cannot_do_harm(
    method: str, times: int
) -> None:
    async with upstream([OK], [Act.CLOSE], [OK]) as double, client() as http:
        own = http.client(double.url)
        await own.get(double.url)
        if times == 1:
            with pytest.raises(httpx.ReadError):
                await own.request(method, double.url)
        else:
            assert (await own.request(method, double.url)).content == b"ok"
    assert len(double.requests) == 1 + times


async def test_a_request_to_a_new_connection_that_closes_is_not_sent_again() -> None:
    async with upstream([Act.CLOSE]) as double, client() as http:
        with pytest.raises(httpx.ReadError):
            await http.client(double.url).get(double.url)
    assert len(double.requests) == 1


async def test_an_idle_connection_is_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "KEEP_SECONDS", 0.1)
    async with upstream([OK]) as double, client() as http:
        await http.client(double.url).get(double.url)
        assert len(double.open) == 1
        with anyio.fail_after(2):
            while double.open:
                await anyio.sleep(0.01)
        assert (await http.client(double.url).get(double.url)).content == b"ok"
    assert double.connections == 2


@asynccontextmanager
async def serving(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """The URL of a server whose connections have this function."""
    writers = []

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(reader, writer)

    server = await asyncio.start_server(served, "127.0.0.1", 0, limit=1024 * 1024, ssl=tls)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


async def test_a_body_that_nobody_reads_is_not_taken_in() -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head(content_length=100 * 1024 * 1024))
        for _ in range(100):
            writer.write(bytes(1024 * 1024))
            await writer.drain()
            sent += 1

    async with serving(serve) as url, client() as http, http.request("GET", url) as answer:
        await asyncio.sleep(0.3)
        assert sent * 1024 * 1024 < 32 * BUFFER_BYTES
        size = 0
        async for piece in answer.chunks:
            size += len(piece)
    assert size == 100 * 1024 * 1024


async def test_a_body_that_is_sent_waits_for_the_server_and_for_no_time_limit_of_reading() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield bytes(256 * 1024)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.2)
        while not (await reader.readuntil(b"\r\n")).startswith(b"0"):
            await reader.readuntil(b"\r\n")
        writer.write(OK)

    async with serving(serve) as url, client() as http:
        timeout = httpx.Timeout(0.1, write=None)
        assert (await http.client(url).post(url, content=pieces(), timeout=timeout)).content == b"ok"


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield bytes(256 * 1024)


LARGE = pytest.mark.parametrize("body", [endless, partial(bytes, 64 * 1024 * 1024)], ids=["pieces", "bytes"])


@LARGE
async def test_a_server_that_does_not_read_ends_the_request_after_the_time_limit_of_writing(
    body: Callable[[], AsyncIterator[bytes] | bytes],
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cast(asyncio.ReadTransport, writer.transport).pause_reading()
        await asyncio.get_running_loop().create_future()

    async with serving(serve) as url, client() as http:
        with pytest.raises(httpx.WriteTimeout), anyio.fail_after(3):
            await http.client(url).post(url, content=body(), timeout=httpx.Timeout(5, write=0.05))


async def in_pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@pytest.mark.parametrize(
    ("length", "words"),
    [
        ("2", "longer than its Content-Length"),
        ("9", "shorter than its Content-Length"),
        ("3, 3", "no number"),
        ("+3", "no number"),
    ],
)
async def test_a_body_of_another_length_than_was_announced_is_an_error_and_ends_its_connection(
    length: str, words: str
) -> None:
    async with upstream([OK]) as double, client() as http:
        own = http.client(double.url)
        with pytest.raises(httpx.LocalProtocolError, match=words), anyio.fail_after(2):
            await own.post(double.url, headers={"Content-Length": length}, content=in_pieces(b"a", b"bc"))
        assert (
            await own.post(double.url, headers={"Content-Length": "3"}, content=in_pieces(b"a", b"bc"))
        ).content == b"ok"
    assert [one.body for one in double.requests] == [b"abc"]
    assert double.connections == 1 + (words != "no number")


@pytest.mark.parametrize("headers", [{}, {"Transfer-Encoding": "identity"}, {"Content-Length": "1"}])
async def test_a_body_in_pieces_is_framed_by_its_chunks_where_its_length_is_not_known(headers: dict[str, str]) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert lines.count(b"\r\ntransfer-encoding: chunked\r\n") == 1
        assert b"content-length" not in lines
        assert await reader.readuntil(b"0\r\n\r\n") == b"1\r\na\r\n0\r\n\r\n"
        writer.write(OK)

    async with serving(serve) as url, client() as http:
        own = http.client(url)
        request = own.build_request("POST", url, content=in_pieces(b"a"))
        del request.headers["Transfer-Encoding"]
        request.headers.update(headers | ({"Transfer-Encoding": "chunked"} if "Content-Length" in headers else {}))
        with anyio.fail_after(2):
            assert (await own.send(request)).content == b"ok"


@LARGE
async def test_a_response_before_the_whole_request_is_read_and_its_connection_is_not_used_again(
    body: Callable[[], AsyncIterator[bytes] | bytes],
) -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        cast(asyncio.ReadTransport, writer.transport).pause_reading()
        writer.write(head(413, content_length=2) + b"no")
        await asyncio.get_running_loop().create_future()

    async with serving(serve) as url, client() as http:
        with anyio.fail_after(3):
            for _ in range(2):
                assert (await http.client(url).post(url, content=body())).status_code == 413
    assert connections == 2


def certificate(folder: Path) -> Path:
    """A file with a key and a certificate for localhost, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / "localhost.pem"
    file.write_bytes(private + made.public_bytes(pem))
    return file


@pytest.mark.parametrize(
    ("host", "trusted", "words"),
    [
        ("localhost", True, ""),
        ("localhost", False, "its certificate is not trusted (self-signed certificate)"),
        ("127.0.0.1", True, "its certificate is not trusted (IP address mismatch"),
    ],
)
async def test_a_certificate_must_be_trusted_and_for_the_host(
    host: str, trusted: bool, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = certificate(tmp_path)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(file)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(OK)

    async with serving(serve, served) as url, client() as http:
        url = url.replace("http://127.0.0.1", f"https://{host}")
        if words:
            with pytest.raises(ProviderError, match=re.escape(words)):
                await http.fetch("GET", url)
        else:
            assert [await http.fetch("GET", url) for _ in range(2)] == [b"ok", b"ok"]


async def test_a_server_without_tls_is_told_from_one_that_is_not_there() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(head(400, content_length=0))

    async with serving(serve) as url, client() as http:
        with pytest.raises(ProviderError, match="no TLS connection came about; does it speak https"):
            await http.fetch("GET", url.replace("http", "https"))


async def test_a_header_that_comes_has_no_null_byte() -> None:
    async with upstream([head(x="a\0b", content_length=0)]) as double, client() as http:
        with pytest.raises(ProviderError, match="its answer is malformed"):
            await http.fetch("GET", double.url)


@pytest.mark.parametrize("length", [{"content-length": "1"}, {"Transfer-Encoding": "chunked", "Content-Length": "9"}])
async def test_a_body_is_sent_with_its_own_length(length: dict[str, str]) -> None:
    async with upstream([OK]) as double, client() as http:
        for _ in range(2):
            assert (await http.client(double.url).post(double.url, headers=length, content=b"abc")).content == b"ok"
            await http.ask("GET", double.url, headers=length)
    assert [one.headers.get("content-length") for one in double.requests] == ["3", None] * 2
    assert not any("transfer-encoding" in one.headers for one in double.requests)


@pytest.mark.parametrize("port", [0, 65536, 65536 + 80])
async def test_a_port_that_there_cannot_be_is_no_other(port: int) -> None:
    async with client() as http:
        with pytest.raises(ProviderError, match="it has no port from 1 to 65535"):
            await http.fetch("GET", f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("name", ["a b", " a", "a ", "a:", "a: b", "a\t", "a(b)", "a\x7f", "a\nb", ""])
async def test_the_name_of_a_header_is_a_token(name: str) -> None:
    async with upstream([OK]) as double, client() as http:
        with pytest.raises(httpx.LocalProtocolError):
            await http.client(double.url).get(double.url, headers={name: "x"})
        with pytest.raises(httpx.LocalProtocolError):
            await http.client(double.url).request(name, double.url)
        with pytest.raises(ProviderError, match="cannot be called"):
            await http.fetch("GET", double.url, headers={name: "x"})
    assert not double.requests


@pytest.mark.parametrize("value", ["a\r\nx: b", "a\nb", "a\rb", "a\0b"])
async def test_a_header_cannot_bring_another(value: str) -> None:
    async with upstream([OK]) as double, client() as http:
        for headers in ({"x": value}, {value: "x"}):
            with pytest.raises(httpx.LocalProtocolError):
                await http.client(double.url).get(double.url, headers=headers)
    assert not double.requests


class Written(asyncio.Transport):
    """A transport that keeps the pieces that are written."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []

    def is_closing(self) -> bool:
        return False

    def writelines(self, pieces: Iterable[bytes]) -> None:  # type: ignore[override]
        self.pieces += pieces


async def test_a_request_without_a_body_has_no_empty_piece_which_asyncio_would_try_to_write_for_ever() -> None:
    connection, transport = Connection(("http", "a", 80, "a"), lambda _: None), Written()
    connection.connection_made(transport)
    for body, pieces in ((b"", 1), (b"{}", 2)):
        transport.pieces.clear()
        await connection.send("GET", b"/", [(b"Host", b"a")], body)
        assert all(transport.pieces)
        assert len(transport.pieces) == pieces


async def test_a_request_waits_for_its_turn_no_longer_than_the_time_limit_of_the_pool() -> None:
    async with upstream([OK]) as double, aclosing(Http(Core(), upstreams=1)) as http:
        own = http.client(double.url)
        async with own.stream("GET", double.url):
            with pytest.raises(httpx.PoolTimeout), anyio.fail_after(2):
                await own.get(double.url, timeout=httpx.Timeout(5, pool=0.01))
        with anyio.fail_after(2):
            assert (await own.get(double.url)).content == b"ok"


class Draining(Written):
    """A transport of which the server reads a byte with each look at what is left."""

    def __init__(self, connection: Connection, left: int) -> None:
        super().__init__()
        self._connection, self._left = connection, left
        connection.connection_made(self)

    def writelines(self, pieces: Iterable[bytes]) -> None:  # type: ignore[override]
        self._connection.pause_writing()

    def get_write_buffer_size(self) -> int:
        self._left -= 1
        if not self._left:
            self._connection.resume_writing()
        return self._left


async def test_a_server_that_reads_slowly_is_waited_for_however_long_all_of_it_takes() -> None:
    connection = Connection(("http", "a", 80, "a"), lambda _: None)
    Draining(connection, 6)
    await connection.send("POST", b"/", [(b"Host", b"a")], b"{}", 2, seconds=0.001)


async def test_a_request_that_is_given_up_at_any_moment_leaves_no_connection_and_the_next_one_its_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(file)
    open_now = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now
        open_now += 1
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head(connection="close", content_length=2) + b"ok")
            await reader.read()
        finally:
            open_now -= 1

    async with serving(serve, served) as url, client() as http:
        url = url.replace("http://127.0.0.1", "https://localhost")
        assert await http.fetch("GET", url) == b"ok"
        for turns in range(80):
            given_up = asyncio.create_task(http.fetch("GET", url))
            for _ in range(turns):
                await asyncio.sleep(0)
            given_up.cancel()
            await asyncio.wait([given_up])
            assert [await http.fetch("GET", url) for _ in range(2)] == [b"ok"] * 2
        with anyio.fail_after(2):
            while open_now:
                await asyncio.sleep(0.01)


async def test_a_name_is_resolved_once_for_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    resolve = asyncio.get_running_loop().getaddrinfo

    async def counted(host: str, *args: object, **options: object) -> object:
        names.append(host)
        return await resolve(host, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", counted)
    double = Upstream([streamed(b"x", 0.05)])
    async with listening(double, "127.0.0.1") as port, client() as http:
        url = f"http://localhost:{port}"
        await asyncio.gather(*(http.fetch("GET", url) for _ in range(5)))
        with pytest.raises(httpx.ConnectError):
            await http.client(url).get("http://no-such-name.invalid")
    assert (double.connections, names) == (5, ["localhost", "no-such-name.invalid"])


@pytest.mark.parametrize(
    ("last", "words", "again"),
    [("169.254.169.254", "169.254.169.254 is link-local", False), ("127.0.0.1", "the connection was refused", True)],
)
async def test_of_unlike_errors_of_several_addresses_the_last_is_told(
    last: str, words: str, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = "127.0.0.1" if last != "127.0.0.1" else "169.254.169.254"

    async def resolved(host: str, port: int, **options: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in (first, last)]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolved)
    async with client() as http:
        with pytest.raises(ProviderError, match=words) as caught:
            await http.fetch("GET", "http://two-addresses:1")
    assert caught.value.retry is again


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=6), st.lists(st.integers(0, 400), max_size=6))
def test_a_body_is_the_same_however_the_response_is_cut(body: list[bytes], cuts: list[int]) -> None:
    raw = b"".join(step for step in streamed(*body) if isinstance(step, bytes))
    places = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    answer: list[Step] = []
    for start, end in itertools.pairwise(places):
        answer += [raw[start:end], 0.0]

    async def fetched() -> bytes:
        async with upstream(answer) as double, aclosing(Http(Core())) as http:
            return await http.fetch("GET", double.url)

    assert asyncio.run(fetched()) == b"".join(body)
