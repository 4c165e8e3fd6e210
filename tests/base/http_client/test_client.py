"""What a vendor's server can do to a request, over real sockets."""

import asyncio
import gc
import gzip
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bytebrew.base.errors import ProviderError
from bytebrew.base.http_client.client import MAX_ERROR_BYTES, MOST_IDLE, Exchange, Http, UpstreamError
from bytebrew.base.http_client.pools import Body
from bytebrew.base.settings import Core
from tests.upstream import (
    STREAM,
    Act,
    Step,
    Upstream,
    broken,
    chunk,
    client,
    data,
    head,
    listening,
    refused,
    streamed,
    upstream,
)


async def read(http: Http, url: str, **request: Any) -> list[str]:
    async with http.stream_events("POST", url, **request) as events:
        return [event.data async for event in events]


async def failure(answer: list[Step], first_byte: float = 5, silence: float = 5) -> ProviderError:
    async with upstream(answer) as double, client(first_byte, silence) as http:
        with pytest.raises(ProviderError) as raised, anyio.fail_after(3):
            await read(http, double.url)
    return raised.value


async def refusal(answer: list[Step], first_byte: float = 5, silence: float = 5) -> UpstreamError:
    async with upstream(answer) as double, client(first_byte, silence) as http:
        with pytest.raises(UpstreamError) as raised, anyio.fail_after(3):
            await read(http, double.url)
    return raised.value


async def test_a_request_carries_its_body_as_json_and_says_that_it_wants_events() -> None:
    async with upstream(streamed()) as double, client() as http:
        assert await read(http, double.url + "/v1", headers={"X-Key": "k"}, json={"a": "é"}) == []
    (seen,) = double.requests
    assert (seen.method, seen.path, seen.json) == ("POST", "/v1", {"a": "é"})
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["accept"] == "text/event-stream"
    assert seen.headers["x-key"] == "k"


async def test_a_request_says_who_passes_it_on_whatever_it_is_given() -> None:
    async with upstream(streamed()) as double, client() as http:
        await read(http, double.url, headers={"via": "1.1 nobody"})
        await http.client(double.url).get(double.url)
    assert [seen.headers["via"] for seen in double.requests] == ["1.1 bytebrew"] * 2


@pytest.mark.parametrize("name", ["content-type", "CONTENT-TYPE"])
async def test_a_type_of_the_callers_own_is_the_only_one(name: str) -> None:
    async with upstream(streamed()) as double, client() as http:
        await read(http, double.url, headers={name: "application/x-own"}, json={})
    assert double.requests[0].headers["content-type"] == "application/x-own"


async def test_a_get_has_no_body() -> None:
    async with upstream(streamed(b"x")) as double, client() as http, http.stream("GET", double.url) as chunks:
        assert [chunk async for chunk in chunks] == [b"x"]
    assert double.requests[0].body == b""
    assert "content-type" not in double.requests[0].headers


async def test_text_cut_at_every_byte_arrives_whole() -> None:
    text = "añ€🌍"
    answer = streamed(*(bytes([byte]) for byte in data(text)))
    async with upstream(answer) as double, client() as http:
        assert await read(http, double.url) == [text]


async def test_a_compressed_stream_is_read() -> None:
    answer = head(content_type="text/event-stream", content_encoding="gzip", transfer_encoding="chunked")
    async with upstream([answer, chunk(gzip.compress(data("1", "2"))), chunk(b"")]) as double, client() as http:
        assert await read(http, double.url) == ["1", "2"]


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "text/event-stream; charset=utf-8"])
async def test_a_stream_may_go_by_another_name(kind: str) -> None:
    answer = [head(content_type=kind, transfer_encoding="chunked"), chunk(data("1")), chunk(b"")]
    async with upstream(answer) as double, client() as http:
        assert await read(http, double.url) == ["1"]


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", "text/html"])
async def test_json_or_a_page_in_place_of_a_stream_is_refused_with_its_body(kind: str) -> None:
    error = await refusal([head(content_type=kind, content_length=7) + b"<words>"])
    assert (error.status, error.body) == (200, b"<words>")


async def test_a_connection_is_used_again() -> None:
    async with upstream(streamed(data("1"))) as double, client() as http:
        for _ in range(3):
            await read(http, double.url)
    assert double.connections == 1


async def test_nothing_of_an_answer_is_left_to_the_collector() -> None:
    async with upstream(streamed(data("x"))) as double, client() as http:
        gc.collect()
        gc.disable()
        try:
            before = {id(one) for one in answers()}
            assert await read(http, double.url) == ["x"]
            assert {id(one) for one in answers()} <= before
        finally:
            gc.enable()


def answers() -> list[object]:
    return [one for one in gc.get_objects() if isinstance(one, httpx.Response | Body)]


async def test_a_connection_is_used_again_though_nobody_read_to_the_end() -> None:
    async with upstream(streamed(data("[DONE]"), 0.005)) as double, client() as http:
        for _ in range(3):
            async with http.stream_events("POST", double.url) as events:
                assert (await anext(events)).data == "[DONE]"
    assert double.connections == 1


async def test_a_connection_is_used_again_after_a_refusal() -> None:
    async with upstream(refused(401, {})) as double, client() as http:
        for _ in range(3):
            with pytest.raises(UpstreamError):
                await read(http, double.url)
    assert double.connections == 1


async def test_a_vendor_that_goes_on_after_its_last_event_is_cut_off() -> None:
    async with upstream(broken(data("[DONE]"), Act.HANG)) as double, client() as http:
        async with http.stream_events("POST", double.url) as events:
            await anext(events)
        with anyio.fail_after(1):
            await double.left.wait()


@pytest.mark.parametrize("answer", [[Act.HANG], broken(Act.HANG)], ids=["no head", "no body"])
async def test_an_answer_that_does_not_begin_is_a_time_out(answer: list[Step]) -> None:
    error = await failure(answer, first_byte=0.05)
    assert (error.message, error.code, error.retry) == ("No answer within 0.05 s", "model_timeout", True)


async def test_a_stream_that_falls_silent_is_a_time_out() -> None:
    error = await failure(broken(data("1"), Act.HANG), silence=0.05)
    assert error.message == "The vendor's stream fell silent for 0.05 s"
    assert (error.code, error.retry) == ("model_timeout", True)


async def test_a_slow_beginning_is_no_silence() -> None:
    async with upstream([0.1, STREAM, 0.1, *streamed(data("1"))[1:]]) as double, client(silence=0.05) as http:
        assert await read(http, double.url) == ["1"]


async def test_an_answer_may_take_longer_than_its_beginning_may() -> None:
    answer = streamed(data("1"), 0.2, data("2"), 0.2, data("3"), 0.2, data("4"))
    async with upstream(answer) as double, client(first_byte=0.5) as http:
        assert await read(http, double.url) == ["1", "2", "3", "4"]


async def test_the_time_that_a_reader_takes_is_no_silence() -> None:
    asked = asyncio.Event()
    answer = streamed(data("1"), asked, data("2"))
    async with (
        upstream(answer) as double,
        client(silence=0.05) as http,
        http.stream_events("POST", double.url) as events,
    ):
        assert (await anext(events)).data == "1"
        await asyncio.sleep(0.1)
        asked.set()
        assert (await anext(events)).data == "2"


@pytest.mark.parametrize("act", [Act.CLOSE, Act.RESET])
async def test_a_stream_that_breaks_off_says_so_and_may_be_tried_again(act: Act) -> None:
    error = await failure(broken(data("1"), 0.01, act))
    assert error.message.startswith("The vendor's stream broke off: ")
    assert (error.code, error.retry) == ("model_unavailable", True)


@pytest.mark.parametrize("act", [Act.CLOSE, Act.RESET])
async def test_a_connection_that_ends_before_the_answer_may_be_tried_again(act: Act) -> None:
    error = await failure([act])
    assert error.message.startswith("Cannot reach http://127.0.0.1:")
    assert (error.code, error.retry) == ("model_unavailable", True)


CLOSED = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("url", "answer", "kind"),
    [
        (CLOSED, [], httpx.ConnectError),
        ("", [Act.CLOSE], httpx.ReadError),
        ("", broken(data("1"), 0.01, Act.CLOSE), httpx.RemoteProtocolError),
        ("", broken(data("1"), 0.01, Act.RESET), httpx.ReadError),
        ("", [Act.HANG], httpx.ReadTimeout),
        ("", broken(data("1"), Act.HANG), httpx.ReadTimeout),
        ("", [b"SSH-2.0-OpenSSH_9.2\r\n\r\n"], httpx.RemoteProtocolError),
        ("ftp://vendor.test", [], httpx.UnsupportedProtocol),
        ("http://ada:lovelace@vendor.test", [], httpx.UnsupportedProtocol),
    ],
)
async def test_a_plugins_client_fails_with_the_errors_of_httpx(
    url: str, answer: list[Step], kind: type[Exception]
) -> None:
    async with upstream(answer) as double, client(silence=0.2) as http:
        with pytest.raises(kind) as raised:
            await http.client(url or double.url).post(url or double.url, json={"a": 1})
    assert raised.type is kind


async def test_a_plugins_client_sends_a_body_of_any_kind() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    async with upstream(refused(200, {})) as double, client() as http:
        own = http.client(double.url)
        assert (await own.get(double.url, params={"q": "é"})).json() == {}
        await own.post(double.url, content=b"whole")
        await own.post(double.url, files={"f": b"x"})
        await own.post(double.url, content=pieces())
    get, whole, parts, streamed_ = double.requests
    assert (get.path, get.body, whole.body) == ("/?q=%C3%A9", b"", b"whole")
    assert (streamed_.headers["transfer-encoding"], "content-length" in streamed_.headers) == ("chunked", False)
    assert parts.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert parts.body.startswith(b"--")


async def test_a_server_that_is_not_there_is_named_without_its_path() -> None:
    async with upstream() as double:
        pass
    async with client() as http:
        with pytest.raises(ProviderError, match=f"^Cannot reach {double.url}: ") as raised:
            await read(http, f"{double.url}/path?key=secret")
    assert (raised.value.code, raised.value.retry) == ("model_unavailable", True)
    assert "secret" not in raised.value.message


async def test_a_password_in_a_url_cannot_be_used_and_is_not_repeated() -> None:
    async with client() as http:
        with pytest.raises(ProviderError, match=r"'http://\*\*\*@vendor.test/v1' cannot be called") as raised:
            await read(http, "http://me:sec@ret@vendor.test/v1")
    assert raised.value.code == "model_bad_request"


async def test_a_server_that_does_not_speak_http_is_told_from_one_that_is_not_there() -> None:
    error = await failure([b"SSH-2.0-OpenSSH_9.2\r\n\r\n"])
    assert error.message.endswith("does not speak HTTP: its answer is malformed")
    assert (error.code, "\n" in error.message) == ("model_unavailable", False)


async def test_a_compressed_stream_that_is_none_is_told() -> None:
    error = await failure([head(content_type="text/event-stream", content_encoding="gzip", content_length=3) + b"abc"])
    assert (error.message, error.code, error.retry) == ("The answer is no gzip", "model_unavailable", True)


async def test_a_compressed_stream_without_an_end_broke_off() -> None:
    packed = gzip.compress(data("1"))[:-9]
    answer = head(content_type="text/event-stream", content_encoding="gzip", content_length=len(packed)) + packed
    assert (await failure([answer])).message == "The answer's gzip breaks off"


async def test_an_endless_line_is_refused() -> None:
    error = await failure([STREAM, chunk(b"x" * 1024 * 1024) * 5, chunk(b"")])
    assert "stream is malformed: a line of the event stream is longer than" in error.message
    assert error.code == "model_answer_too_long"


async def test_a_redirect_is_not_followed_but_named() -> None:
    error = await failure([head(308, location="https://elsewhere.test/v1", content_length=0)])
    assert "redirects to https://elsewhere.test/v1; the base URL must be the final one" in error.message
    assert (error.code, error.retry) == ("model_bad_request", False)


async def test_a_password_in_a_url_is_not_part_of_its_origin() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(302))
    async with client(transport=transport) as http:
        with pytest.raises(ProviderError, match=r"^http://vendor\.test redirects to nowhere;"):
            await read(http, "http://me:secret@vendor.test/v1")


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("http://[::1/v1", {}),
        ("http://a..b/v1", {}),
        ("http://a\0b/v1", {}),
        ("", {"Authorization": "Bearer line\nbreak"}),
        ("", {"Authorization": "Bearer kéy"}),
    ],
)
async def test_what_cannot_be_sent_is_a_bad_request(url: str, headers: dict[str, str]) -> None:
    async with upstream() as double, client() as http:
        with pytest.raises(ProviderError, match="cannot be called") as raised:
            await read(http, url or double.url, headers=headers)
    assert (raised.value.code, raised.value.retry) == ("model_bad_request", False)


async def test_a_refusal_has_its_status_its_body_and_the_wait_that_it_names() -> None:
    error = await refusal(refused(429, {"error": "slow down"}, retry_after=" 2.5 "))
    assert (error.status, error.body, error.retry_after) == (429, b'{"error":"slow down"}', 2.5)


async def test_a_wait_may_be_named_in_milliseconds() -> None:
    assert (await refusal(refused(429, {}, retry_after_ms="250", retry_after="1"))).retry_after == 0.25
    assert (await refusal(refused(429, {}, retry_after_ms="soon", retry_after="1"))).retry_after == 1


async def test_of_a_long_refusal_the_beginning_is_kept_and_the_end_not_waited_for() -> None:
    error = await refusal([head(400, content_length=10**9) + b"x" * MAX_ERROR_BYTES, Act.HANG])
    assert error.body == b"x" * MAX_ERROR_BYTES


async def test_a_refusal_that_comes_in_one_piece_is_cut() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(400, content=b"x" * 10**6))
    async with client(transport=transport) as http:
        with pytest.raises(UpstreamError) as raised:
            await read(http, "http://vendor.test")
    assert raised.value.body == b"x" * MAX_ERROR_BYTES


@pytest.mark.parametrize("act", [Act.CLOSE, Act.RESET, Act.HANG])
async def test_a_refusal_whose_body_does_not_come_whole_is_still_a_refusal(act: Act) -> None:
    error = await refusal([head(401, content_length=100) + b"Wrong", 0.01, act], first_byte=0.2, silence=0.05)
    assert (error.status, error.body) == (401, b"Wrong")


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)))
def test_a_wait_may_be_named_as_a_date(moment: datetime) -> None:
    moment = moment.replace(tzinfo=UTC)
    left = (moment - datetime.now(UTC)).total_seconds()
    wait = wait_of(format_datetime(moment, usegmt=True))
    assert wait is not None
    assert abs(wait - max(0.0, left)) < 5


@given(
    st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]))
    | st.from_regex("[A-Z]{3}, [0-9]+ Jan [0-9]+ [0-9]+:[0-9]+", fullmatch=True)
)
def test_a_wait_that_cannot_be_read_is_none_and_harms_nobody(text: str) -> None:
    wait = wait_of(text)
    assert wait is None or wait >= 0


def wait_of(text: str) -> float | None:
    async def ask() -> float | None:
        transport = httpx.MockTransport(
            lambda _: httpx.Response(429, headers=[(b"retry-after", text.encode("latin-1"))])
        )
        async with client(transport=transport) as http:
            with pytest.raises(UpstreamError) as raised:
                await read(http, "http://vendor.test")
        return raised.value.retry_after

    return asyncio.run(ask())


async def test_a_date_is_by_the_clock_of_who_sent_it() -> None:
    sent = datetime.now(UTC) - timedelta(days=400)
    until = format_datetime(sent + timedelta(seconds=7), usegmt=True)
    answer = refused(503, {}, retry_after=until, date=format_datetime(sent, usegmt=True))
    assert (await refusal(answer)).retry_after == 7


async def test_a_date_in_the_past_is_no_wait() -> None:
    past = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
    assert (await refusal(refused(503, {}, retry_after=past))).retry_after == 0


@pytest.mark.parametrize("answer", [[Act.HANG], broken(Act.HANG), broken(data("1"), Act.HANG)], ids=repr)
async def test_a_cancelled_request_closes_its_connection_at_once(answer: list[Step]) -> None:
    async with upstream(answer) as double, client() as http:
        asking = asyncio.create_task(read(http, double.url))
        while not double.requests:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        asking.cancel()
        with anyio.fail_after(1):
            await double.left.wait()
        assert (await asyncio.gather(asking, return_exceptions=True))[0].__class__ is asyncio.CancelledError


async def test_a_cancelled_scope_closes_its_connection_at_once() -> None:
    async with upstream(broken(data("1"), Act.HANG)) as double, client() as http:
        with anyio.CancelScope() as scope:
            async with http.stream_events("POST", double.url) as events:
                async for _ in events:
                    scope.cancel()
        with anyio.fail_after(1):
            await double.left.wait()


async def test_an_error_in_the_block_closes_the_connection() -> None:
    async with upstream(broken(data("1"), Act.HANG)) as double, client() as http:
        with pytest.raises(ZeroDivisionError):
            async with http.stream_events("POST", double.url):
                raise ZeroDivisionError
        with anyio.fail_after(1):
            await double.left.wait()


async def test_each_origin_has_one_client() -> None:
    async with client() as http:
        assert http.client("http://a.test/x") is http.client("http://a.test/y?z")
        assert http.client("http://a.test/") is not http.client("http://a.test:81/")
        assert http.client("http://a.test/") is not http.client("https://a.test/")


@asynccontextmanager
async def origins(*answer: Step) -> AsyncIterator[tuple[Upstream, list[str]]]:
    """A double that is reached at 300 addresses of this machine, each an origin of its own."""
    double = Upstream([answer])
    async with listening(double, "0.0.0.0") as port:
        yield double, [f"http://127.0.{n // 250}.{n % 250 + 1}:{port}" for n in range(300)]


async def test_clients_of_origins_that_are_not_used_any_more_are_closed_with_their_connections() -> None:
    async with origins(*streamed(data("1"))) as (double, urls), client() as http:
        for url in urls:
            assert await read(http, url) == ["1"]
        for _ in range(3):  # a client that is still used keeps its connection
            assert await read(http, urls[-1]) == ["1"]
        assert double.connections == len(urls)
        await until_(lambda: len(double.open) <= MOST_IDLE)
        assert await read(http, urls[0]) == ["1"]
    await until_(lambda: not double.open)


async def test_no_client_is_closed_while_it_is_in_use() -> None:
    go_on = asyncio.Event()
    async with origins(*streamed(data("1"), go_on, data("2"))) as (double, urls), client(30, 30) as http:
        reading = [asyncio.create_task(read(http, url)) for url in urls[:100]]
        held = http.client(urls[200])
        await until_(lambda: double.connections == 100)
        go_on.set()
        for url in urls[100:]:
            assert await read(http, url) == ["1", "2"]
        assert await asyncio.gather(*reading) == [["1", "2"]] * 100
        for _ in range(2):  # who holds a client that was closed uses it on
            assert (await held.get(urls[200])).status_code == 200
        await until_(lambda: len(double.open) <= MOST_IDLE + 1)


async def test_of_the_connections_of_all_origins_few_idle() -> None:
    async with origins(*streamed(data("1"), 0.05)) as (double, urls), aclosing(Http(Core(), idle=5)) as http:
        for n, url in enumerate(urls[:3], 1):
            await asyncio.gather(*(read(http, url) for _ in range(10)))
            assert double.connections == 10 * n
            await until_(lambda: len(double.open) == 5)
        for _ in range(5):  # and are used again
            assert await read(http, urls[0]) == ["1"]
        assert double.connections == 30


async def until_(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(5):
        while not condition():
            await anyio.sleep(0.01)


async def test_the_certificates_are_read_once_and_for_origins_with_tls_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    times = 0
    make = httpx.create_ssl_context

    def counted(verify: Any = True, **more: Any) -> ssl.SSLContext:
        nonlocal times
        times += verify is True
        return make(verify, **more)

    monkeypatch.setattr(httpx, "create_ssl_context", counted)
    async with upstream(streamed()) as double, client() as http:
        await read(http, double.url)
        await http.ask("GET", double.url)
        assert times == 0
        for n in range(20):
            http.client(f"HTTPS://{n}.test/")
        with pytest.raises(ProviderError):
            await http.ask("GET", double.url.replace("http", "HTTPS"))
    assert times == 1


async def test_cookies_are_not_kept() -> None:
    answer = [head(set_cookie="session=ada; Path=/", content_length=0)]
    async with upstream(answer) as double, client() as http:
        for _ in range(2):
            async with http.stream("GET", double.url):
                pass
            await http.ask("GET", double.url)
    assert all("cookie" not in seen.headers for seen in double.requests)


@pytest.mark.parametrize("status", [200, 302, 404, 500])
async def test_an_exchange_is_told_as_it_went(status: int) -> None:
    answer = [head(status, content_type="text/plain", location="/there", content_length=5) + b"words"]
    async with upstream(answer) as double, client() as http:
        told = await http.ask("POST", double.url, headers={"X-A": "a"}, json={"b": 1})
    headers = {"content-type": "text/plain", "location": "/there", "content-length": "5"}
    assert told == Exchange(status, headers, b"words", False)
    assert (double.requests[0].headers["x-a"], double.requests[0].json) == ("a", {"b": 1})


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("size", "cut"), [(0, False), (999, False), (1000, False), (1001, True), (50_000_000, True)])
async def test_the_body_of_an_exchange_ends_at_its_limit(size: int, cut: bool, packed: bool) -> None:
    body = gzip.compress(bytes(size), 1) if packed else bytes(min(size, 2000))
    encoding: dict[str, Any] = {"content_encoding": "gzip"} if packed else {}
    async with upstream([head(content_length=len(body), **encoding) + body]) as double, client() as http:
        told = await http.ask("GET", double.url, limit=1000)
    assert (told.body, told.truncated) == (bytes(min(size, 1000)), cut)


async def test_what_follows_the_end_of_a_packed_body_is_not_waited_for() -> None:
    packed = gzip.compress(b"all")
    whole = head(content_length=len(packed) + 100, content_encoding="gzip") + packed
    answer: list[Step] = [whole, 0.01, b"more", Act.HANG]
    async with upstream(answer) as double, client() as http:
        with anyio.fail_after(2):
            assert (await http.ask("GET", double.url)).body == b"all"


async def test_an_exchange_takes_the_time_that_its_caller_gives_it() -> None:
    async with upstream([0.1, head(content_length=2) + b"o", 0.1, b"k"]) as double, client(0.05, 0.05) as http:
        assert (await http.ask("GET", double.url)).body == b"ok"


async def test_a_cancelled_exchange_closes_its_connection_at_once() -> None:
    async with upstream(broken(data("1"), Act.HANG)) as double, client() as http:
        asking = asyncio.create_task(http.ask("GET", double.url))
        while not double.requests:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        asking.cancel()
        with anyio.fail_after(1):
            await double.left.wait()
        assert (await asyncio.gather(asking, return_exceptions=True))[0].__class__ is asyncio.CancelledError


async def test_an_exchange_with_public_addresses_only_connects_to_no_other() -> None:
    async with upstream(refused(200, {})) as double, client() as http:
        assert (await http.ask("GET", double.url)).status == 200
        for url in (double.url, double.url.replace("127.0.0.1", "localhost")):
            with pytest.raises(ProviderError, match="is no public address"):
                await http.ask("GET", url, public_only=True)
    assert double.connections == 1
