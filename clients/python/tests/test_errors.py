"""Exceptions say what happened, and no credential is in one, or in any repr."""

import ssl
import time
import traceback
from email.utils import formatdate
from typing import Any

import httpx
import pytest

import bytebrew_client
from both import BOTH, Kind, calling
from bytebrew.testing import served_engine
from bytebrew_client import APIError, AsyncClient, Attachment, ByteBrewError, Client, ConnectionLost, Detail
from bytebrew_client.errors import refusal, seconds_of
from bytebrew_client.flow import Request
from bytebrew_client.transport import lost

SECRET = "bb_" + "5ec4e7" * 11


def test_an_error_has_all_that_the_engine_says() -> None:
    body = (
        b'{"error": "invalid_request", "message": "The body is wrong", "details": [{"path": "$.a", "message": "no"}],'
        b' "current": {"x": 1}}'
    )
    error = refusal(400, {"x-request-id": "req_7", "retry-after": "3"}, body)
    assert isinstance(error, bytebrew_client.InvalidRequest)
    assert (error.status, error.code, error.message) == (400, "invalid_request", "The body is wrong")
    assert (error.details, error.request_id, error.retry_after) == ((Detail("$.a", "no"),), "req_7", 3.0)
    assert error.current == {"x": 1}
    assert str(error) == "invalid_request: The body is wrong ($.a: no)"


@pytest.mark.parametrize("content", [b"", b"<html>502</html>", b"[1]", b"null", b"\xff", b'{"details": null}'])
def test_an_answer_that_is_none_of_the_engines_is_an_error_too(content: bytes) -> None:
    error = refusal(502, {}, content)
    assert (error.status, error.code, error.details) == (502, "http_502", ())


@pytest.mark.parametrize(
    ("status", "name"),
    [
        *((400, "InvalidRequest"), (401, "Unauthorized"), (403, "Forbidden"), (404, "NotFound"), (409, "Conflict")),
        *((410, "Gone"), (422, "InvalidRequest"), (429, "RateLimited"), (500, "APIError"), (503, "Unavailable")),
    ],
)
def test_an_error_is_of_the_kind_of_its_status(status: int, name: str) -> None:
    assert type(refusal(status, {}, b"{}")) is getattr(bytebrew_client, name)
    assert issubclass(getattr(bytebrew_client, name), APIError)
    assert issubclass(APIError, ByteBrewError)


def test_a_wait_is_seconds_or_a_date() -> None:
    assert (seconds_of("12"), seconds_of(""), seconds_of("soon")) == (12, None, None)
    assert 55 < (seconds_of(formatdate(time.time() + 60, usegmt=True)) or 0) < 61
    assert seconds_of("Wed, 21 Oct 2015 07:28:00 GMT") == 0


@BOTH
async def test_a_wrong_token_is_named_and_not_shown(kind: Kind) -> None:
    async with served_engine() as (_, http), calling(kind, str(http.base_url), SECRET) as call:
        chat = call.client.chat("demo", "Hi", attachments=[Attachment(media_type="text/plain", data=SECRET.encode())])
        with pytest.raises(bytebrew_client.Unauthorized) as caught:
            await call.run(chat.text)
        assert caught.value.request_id
        shown = [*traceback.format_exception(caught.value), repr(caught.value), repr(call.client), repr(chat)]
    async with calling(kind, "http://127.0.0.1:1", SECRET, retry_seconds=0) as call:
        with pytest.raises(ConnectionLost) as lost_one:
            await call(lambda client: client.sessions.list())
        shown += [*traceback.format_exception(lost_one.value), repr(lost_one.value)]
        cause: BaseException | None = lost_one.value
        while cause is not None:
            shown += [repr(cause), *map(repr, cause.args), *(repr(one) for one in vars(cause).values())]
            cause = cause.__cause__ or cause.__context__
    assert SECRET not in "".join(shown)


def test_the_objects_within_show_no_secret_either() -> None:
    request = Request("POST", "chat", SECRET.encode(), {"authorization": SECRET})
    attachment = Attachment(media_type="text/plain", data=SECRET.encode())
    with Client("http://127.0.0.1:1", SECRET) as client:
        chat = client.chat("demo", "Hi", idempotency_key=SECRET)
        shown: list[Any] = [request, attachment, client, chat, client.sessions, client._engine, chat._flows]
        assert SECRET not in "".join(map(repr, shown))


@pytest.mark.parametrize("token", [f"{SECRET}\n", f"\u2028{SECRET}", f"Bearer {SECRET}", f"{SECRET}\u00fc"])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_token_that_cannot_be_one_is_refused_without_being_shown(kind: Any, token: str) -> None:
    with pytest.raises(ValueError, match="token") as caught:
        kind("http://127.0.0.1:1", token)
    assert SECRET not in "".join([repr(caught.value), *traceback.format_exception(caught.value)])


@pytest.mark.parametrize("url", ["localhost:8443", "ftp://localhost", "", "http://", f"http://me:{SECRET}@localhost"])
def test_an_address_that_cannot_be_one_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="URL") as caught:
        Client(url)
    assert SECRET not in str(caught.value)


def test_a_certificate_that_is_not_trusted_stays_so() -> None:
    request = httpx.Request("GET", "https://localhost")
    error = httpx.ConnectError("certificate verify failed", request=request)
    error.__cause__ = ssl.SSLCertVerificationError("certificate verify failed")
    assert lost(error).permanent
    assert not lost(httpx.ConnectError("refused", request=request)).permanent
    assert lost(httpx.LocalProtocolError("a header", request=request)).permanent


@pytest.mark.parametrize(
    ("error", "sent"),
    [
        (httpx.ConnectError, False),
        (httpx.ConnectTimeout, False),
        (httpx.PoolTimeout, False),
        (httpx.ReadTimeout, True),
        (httpx.RemoteProtocolError, True),
        (httpx.WriteError, True),
    ],
)
def test_a_request_counts_as_sent_unless_it_cannot_have_been(error: type[httpx.TransportError], sent: bool) -> None:
    assert lost(error("it broke")).sent is sent
