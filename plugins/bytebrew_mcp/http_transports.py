"""Transports over HTTP: streamable HTTP, and HTTP with SSE of version 2024-11-05."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from typing import Any, NoReturn, Protocol
from urllib.parse import urljoin

from bytebrew import Answer, ProviderError, ServerSentEvent, UpstreamError

from .config import origin
from .header_params import encoded
from .jsonrpc import (
    MAX_MESSAGE_BYTES,
    MODERN,
    AccessDenied,
    ConnectionLost,
    JsonRpcError,
    Message,
    Receive,
    RequestFailed,
    SessionEnded,
    Transport,
    decode,
    error_of,
)

log = logging.getLogger(__name__)

ACCEPT = "application/json, text/event-stream"
GOODBYE_SECONDS = 2.0
POLL_SECONDS = 1.0
POLL_MIN_SECONDS, POLL_MAX_SECONDS = 0.05, 60.0
_SESSION_ERRORS = (0, -32600, *range(-32099, -31999))
"""JSON-RPC error codes that may concern the session rather than the method (-32000 to -32099, invalid request)."""
_RETRY = re.compile(rb"(?:^|[\r\n])retry: ?(\d{1,9})[\r\n]")


class Requests(Protocol):
    """What sends the requests of a transport."""

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, json: Any = None
    ) -> AbstractAsyncContextManager[Answer]:
        """A request with a streamed answer, as `Http.request`."""


class StreamableHttpTransport(Transport):
    """Streamable HTTP: each message is a POST; unsolicited messages arrive on the stream of a GET."""

    stream_each = True

    def __init__(self, http: Requests, url: str, headers: Mapping[str, str]) -> None:
        self._http = http
        self._url = url
        self._headers = dict(headers)
        self._session = ""
        self._forgotten = False
        self._version = ""
        self._agreed = asyncio.Event()

    async def __aexit__(self, *exc: object) -> None:
        """Ends the session, if there is one."""
        if self._session and not self._forgotten:
            with suppress(UpstreamError, ProviderError, ConnectionLost, TimeoutError):
                async with (
                    asyncio.timeout(GOODBYE_SECONDS),
                    self._http.request("DELETE", self._url, headers=self._own()),
                ):
                    pass

    def agree(self, version: str) -> None:
        """Sets the protocol version of all later requests."""
        self._version = version
        self._agreed.set()

    async def read(self, receive: Receive) -> NoReturn:
        """Reads the stream of unsolicited messages, if the server has one (up to 2025-11-25)."""
        await self._agreed.wait()
        last, wait, has_one = "", POLL_SECONDS, False
        while self._version != MODERN:
            headers = {"Accept": "text/event-stream", **self._own(), **({"Last-Event-ID": last} if last else {})}
            begun = False
            try:
                async with self._http.request("GET", self._url, headers=headers) as answer:
                    if not _streams(answer):
                        break
                    begun = has_one = True
                    last, wait = await self._follow(answer, receive, last, None)
            except UpstreamError as error:
                if has_one and self._ended(error):
                    raise SessionEnded("no longer knows the session") from error
                if not has_one or (error.status < 500 and error.status not in (408, 409, 429)):
                    break
                if error.status >= 500:
                    raise ConnectionLost(f"answers HTTP {error.status}") from error
                wait = min(error.retry_after or wait * 2, POLL_MAX_SECONDS)
            except ProviderError as error:
                if not has_one:
                    break  # the stream is optional; the next request reports a lost server
                if error.code != "model_unavailable" or not begun:
                    raise ConnectionLost(error.message) from error
            await asyncio.sleep(max(wait, POLL_SECONDS))
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    async def send(self, message: Message, receive: Receive, headers: Mapping[str, str]) -> None:
        """Posts a message; for a request, receives messages until its answer has arrived."""
        wanted = message.get("id") if "method" in message else None
        sent = {**headers, "Accept": ACCEPT, **self._own(message)}
        try:
            async with self._http.request("POST", self._url, headers=sent, json=message) as answer:
                if message.get("method") == "initialize":
                    self._session = answer.headers.get("mcp-session-id", "")
                if wanted is None:
                    return
                last, wait = await self._take(answer, receive, "", wanted)
            while last is not None:  # the connection ended before the stream
                await asyncio.sleep(wait)
                last, wait = await self._resume(receive, headers, last, wanted)
        except UpstreamError as error:
            raise self._failure(error) from error
        except ProviderError as error:
            raise ConnectionLost(error.message) from error

    async def _resume(
        self, receive: Receive, headers: Mapping[str, str], last: str, wanted: object
    ) -> tuple[Any, float]:
        """Resumes a stream; if that fails, the server has received the request anyway."""
        sent = {**headers, "Accept": "text/event-stream", "Last-Event-ID": last, **self._own()}
        try:
            async with self._http.request("GET", self._url, headers=sent) as answer:
                return await self._take(answer, receive, last, wanted)
        except UpstreamError as error:
            self._ended(error)
            raise RequestFailed(f"does not go on with its answer (HTTP {error.status})") from error
        except ProviderError as error:
            raise RequestFailed(error.message) from error

    async def _take(self, answer: Answer, receive: Receive, last: str, wanted: object) -> tuple[Any, float]:
        """Receives the answer, as JSON or as a stream; returns the same as `_follow`."""
        try:
            if _streams(answer):
                return await self._follow(answer, receive, last, wanted)
            await self._take_json(answer, receive, wanted)
        except ProviderError as error:
            raise RequestFailed(error.message) from error
        return None, 0.0

    async def _follow(self, answer: Answer, receive: Receive, last: str, wanted: object) -> tuple[Any, float]:
        """Receives the messages of a stream; returns the id to resume from, None after the wanted answer, and a wait.

        A stream that ends early can be resumed up to version 2025-11-25.
        """
        wait = POLL_SECONDS

        async def tapped() -> AsyncIterator[bytes]:
            nonlocal wait
            async for chunk in answer.chunks:
                if match := _RETRY.search(chunk):
                    wait = min(max(int(match[1]) / 1000, POLL_MIN_SECONDS), POLL_MAX_SECONDS)
                yield chunk

        try:
            async with aclosing(answer._replace(chunks=tapped()).events()) as events:
                async for event in events:
                    last = "" if self._version == MODERN else event.id or last
                    if wanted is not None and _answers(_messages(event, receive), wanted):
                        return None, wait
                    if wanted is None:
                        _messages(event, receive)
        except ProviderError as error:
            if error.code != "model_unavailable" or not last:
                raise
        if wanted is not None and not last:
            raise RequestFailed("ended the stream without an answer")
        return last, wait

    async def _take_json(self, answer: Answer, receive: Receive, wanted: object) -> None:
        body = bytearray()
        async for chunk in answer.chunks:
            body += chunk
            if len(body) > MAX_MESSAGE_BYTES:
                raise RequestFailed(f"sent an answer of more than {MAX_MESSAGE_BYTES} bytes")
        if not _answers(_received(bytes(body), receive), wanted):
            raise _error_in(bytes(body)) or RequestFailed("answers something else than what it was asked")

    def _own(self, message: Message | None = None) -> dict[str, str]:
        headers = dict(self._headers)
        if self._session:
            headers["Mcp-Session-Id"] = self._session
        method = (message or {}).get("method", "")
        params = (message or {}).get("params") or {}
        version = self._version or (MODERN if method == "server/discover" else "")
        if version and method != "initialize":
            headers["MCP-Protocol-Version"] = version
        if version == MODERN and method:
            headers["Mcp-Method"] = method
            if (name := params.get("uri" if method == "resources/read" else "name")) is not None:
                headers["Mcp-Name"] = encoded(name)
        return headers

    def _ended(self, error: UpstreamError) -> bool:
        ended = bool(self._session) and _is_unknown(error)
        self._forgotten = self._forgotten or ended
        return ended

    def _failure(self, error: UpstreamError) -> Exception:
        return SessionEnded("no longer knows the session") if self._ended(error) else _exception_for(error)


class SseTransport(Transport):
    """HTTP with SSE (2024-11-05): a GET stream announces the URL for POSTs, and carries every answer."""

    def __init__(self, http: Requests, url: str, headers: Mapping[str, str]) -> None:
        self._http = http
        self._url = url
        self._headers = dict(headers)
        self._endpoint = asyncio.get_running_loop().create_future()

    async def __aexit__(self, *exc: object) -> None:
        self._endpoint.cancel()

    async def read(self, receive: Receive) -> NoReturn:
        """Reads the stream."""
        headers = {"Accept": "text/event-stream", **self._headers}
        try:
            async with self._http.request("GET", self._url, headers=headers) as answer:
                if not _streams(answer):
                    raise ConnectionLost("answers with no stream of events")
                async with aclosing(answer.events()) as events:
                    async for event in events:
                        if event.event == "endpoint":
                            self._set_endpoint(event.data)
                        else:
                            _messages(event, receive)
        except UpstreamError as error:
            raise ConnectionLost(f"answers HTTP {error.status}") from error
        except ProviderError as error:
            raise ConnectionLost(error.message) from error
        raise ConnectionLost("ended its stream")

    async def send(self, message: Message, receive: Receive, headers: Mapping[str, str]) -> None:
        """Posts a message; `read` receives the answer."""
        url = await asyncio.shield(self._endpoint)
        try:
            async with self._http.request("POST", url, headers={**headers, **self._headers}, json=message):
                pass
        except UpstreamError as error:
            unknown = SessionEnded("no longer knows the session")
            raise (unknown if _is_unknown(error) else _exception_for(error)) from error
        except ProviderError as error:
            raise ConnectionLost(error.message) from error

    def _set_endpoint(self, data: str) -> None:
        try:
            url = urljoin(self._url, data)
            ours = origin(url) == origin(self._url)
        except ValueError as error:
            raise ConnectionLost(f"names an endpoint that will not do: {error}") from error
        if not ours:
            raise ConnectionLost("names an endpoint of another origin")  # it must not receive our headers
        if not self._endpoint.done():
            self._endpoint.set_result(url)


def _is_unknown(error: UpstreamError) -> bool:
    """Whether the server does not know the session; some answer 400 instead of 404."""
    refused = _error_in(error.body)
    unknown = b"session" in error.body.lower() and (refused is None or refused.code in _SESSION_ERRORS)
    return error.status == 404 or (error.status == 400 and unknown)


def _exception_for(error: UpstreamError) -> Exception:
    """The exception for an HTTP error: the request was rejected or failed, or the connection is lost."""
    status = error.status
    if refused := _error_in(error.body):
        return refused
    if status == 400:
        return JsonRpcError(0, "Bad Request (HTTP 400)")
    if status in (401, 403):
        return AccessDenied(f"{'wants other credentials' if status == 401 else 'forbids it'} (HTTP {status})")
    return (RequestFailed if status >= 500 or status in (408, 413, 429) else ConnectionLost)(f"fails (HTTP {status})")


def _error_in(body: bytes) -> JsonRpcError | None:
    """The first JSON-RPC error of a body; in other JSON, such as OAuth's, `error` is a string."""
    with suppress(ValueError):
        for message in decode(body):
            if isinstance(message.get("error"), dict):
                return error_of(message["error"])
    return None


def _streams(answer: Answer) -> bool:
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower() == "text/event-stream"


def _messages(event: ServerSentEvent, receive: Receive) -> list[Message]:
    """Receives the messages of an event; other events, such as the pings of some servers, are ignored."""
    if event.event != "message" or not event.data.strip():
        return []
    try:
        return _received(event.data, receive)
    except RequestFailed as error:
        log.debug("an MCP server %s", error)
        return []


def _received(raw: bytes | str, receive: Receive) -> list[Message]:
    try:
        messages = list(decode(raw))
    except ValueError as error:
        raise RequestFailed(f"sends what is no message: {error}") from error
    for message in messages:
        receive(message)
    return messages


def _answers(messages: list[Message], wanted: object) -> bool:
    return any(message.get("id") == wanted and "method" not in message for message in messages)
