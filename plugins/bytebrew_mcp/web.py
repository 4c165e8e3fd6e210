"""MCP servers behind a URL: streamable HTTP, and the HTTP with SSE of version 2024-11-05."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, suppress
from typing import Any, NoReturn
from urllib.parse import urljoin, urlsplit

from bytebrew import Answer, Http, ProviderError, ServerSentEvent, UpstreamError

from .params import encoded
from .words import MAX_MESSAGE_BYTES, MODERN, Channel, Lost, Message, Receive, Refused, SessionEnded, decode, refusal

ACCEPT = "application/json, text/event-stream"
GOODBYE_SECONDS = 2.0
POLL_SECONDS = 1.0
POLL_MAX_SECONDS = 60.0
_RETRY = re.compile(rb"(?:^|[\r\n])retry: ?(\d{1,9})[\r\n]")


class Streamable(Channel):
    """Streamable HTTP: each message is a POST; what is not an answer comes on the stream of a GET."""

    stream_each = True

    def __init__(self, http: Http, url: str, headers: Mapping[str, str]) -> None:
        self._http = http
        self._url = url
        self._headers = dict(headers)
        self._session = ""
        self._version = ""
        self._agreed = asyncio.Event()

    async def __aexit__(self, *exc: object) -> None:
        """Ends the session, if there is one."""
        if self._session:
            with suppress(UpstreamError, ProviderError, TimeoutError):
                async with (
                    asyncio.timeout(GOODBYE_SECONDS),
                    self._http.request("DELETE", self._url, headers=self._own()),
                ):
                    pass

    def agree(self, version: str) -> None:
        """The version of every further request."""
        self._version = version
        self._agreed.set()

    async def read(self, receive: Receive) -> NoReturn:
        """Follows the stream of what the server sends of its own accord, where it has one (up to 2025-11-25)."""
        await self._agreed.wait()
        last = ""
        wait = POLL_SECONDS
        while self._version != MODERN:
            headers = {"Accept": "text/event-stream", **self._own(), **({"Last-Event-ID": last} if last else {})}
            try:
                async with self._http.request("GET", self._url, headers=headers) as answer:
                    if not _streams(answer):
                        break
                    last, wait = await self._follow(answer, receive, last, None)
            except UpstreamError as error:
                if self._ended(error):
                    raise SessionEnded("no longer knows the session") from error
                if error.status < 500:
                    break
                raise Lost(f"answers HTTP {error.status}") from error
            except ProviderError as error:
                if error.code == "model_unavailable" and "broke off" not in error.message:
                    raise Lost(error.message) from error
            await asyncio.sleep(wait)
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    async def send(self, message: Message, receive: Receive, headers: Mapping[str, str]) -> None:
        """Posts a message and, where it is a request, hands in all that comes until it is answered."""
        wanted = message.get("id") if "method" in message else None
        given = {**headers, "Accept": ACCEPT, **self._own(message)}
        try:
            async with self._http.request("POST", self._url, headers=given, json=message) as answer:
                if message.get("method") == "initialize":
                    self._session = answer.headers.get("mcp-session-id", "")
                if wanted is None:
                    return
                if not _streams(answer):
                    await self._take_json(answer, receive)
                    return
                last, wait = await self._follow(answer, receive, "", wanted)
            while last is not None:  # the server has closed the connection and not the stream
                await asyncio.sleep(wait)
                resuming = {"Accept": "text/event-stream", "Last-Event-ID": last, **self._own()}
                async with self._http.request("GET", self._url, headers=resuming) as answer:
                    last, wait = await self._follow(answer, receive, last, wanted)
        except UpstreamError as error:
            raise self._failure(error) from error
        except ProviderError as error:
            raise Lost(error.message) from error

    async def _follow(self, answer: Answer, receive: Receive, last: str, wanted: object) -> tuple[Any, float]:
        """Hands in the stream's messages; the id to go on from, None once the wanted answer was there, and a wait."""
        wait = POLL_SECONDS

        async def tapped() -> AsyncIterator[bytes]:
            nonlocal wait
            async for chunk in answer.chunks:
                if found := _RETRY.search(chunk):
                    wait = min(int(found[1]) / 1000, POLL_MAX_SECONDS)
                yield chunk

        async with aclosing(answer._replace(chunks=tapped()).events()) as events:
            async for event in events:
                last = event.id or last
                if wanted is not None and _answers(_messages(event, receive), wanted):
                    return None, wait
                if wanted is None:
                    _messages(event, receive)
        if wanted is not None and not last:
            raise Lost("ended the stream without an answer")
        return last, wait

    async def _take_json(self, answer: Answer, receive: Receive) -> None:
        body = bytearray()
        async for chunk in answer.chunks:
            body += chunk
            if len(body) > MAX_MESSAGE_BYTES:
                raise Lost(f"sent an answer of more than {MAX_MESSAGE_BYTES} bytes")
        try:
            for message in decode(bytes(body)):
                receive(message)
        except ValueError as error:
            raise Lost(f"answers with what is no message: {error}") from error

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
            if method == "tools/call":
                headers["Mcp-Name"] = encoded(params["name"])
        return headers

    def _ended(self, error: UpstreamError) -> bool:
        unknown = error.status == 400 and b"session" in error.body.lower()  # some servers say it so
        return bool(self._session) and (error.status == 404 or unknown)

    def _failure(self, error: UpstreamError) -> Exception:
        if self._ended(error):
            self._session = ""
            return SessionEnded("no longer knows the session")
        with suppress(ValueError):
            for message in decode(error.body):
                if "error" in message:
                    return refusal(message["error"])
        words = {401: "wants other credentials", 403: "forbids it"}.get(error.status, "fails")
        return Lost(f"{words} (HTTP {error.status})") if error.status != 400 else Refused(0, "Bad Request (HTTP 400)")


class Sse(Channel):
    """HTTP with SSE (2024-11-05): a GET stream names the URL for POSTs, and carries every answer."""

    def __init__(self, http: Http, url: str, headers: Mapping[str, str]) -> None:
        self._http = http
        self._url = url
        self._headers = dict(headers)
        self._endpoint = asyncio.get_running_loop().create_future()

    async def __aexit__(self, *exc: object) -> None:
        self._endpoint.cancel()

    async def read(self, receive: Receive) -> NoReturn:
        """Follows the stream."""
        headers = {"Accept": "text/event-stream", **self._headers}
        try:
            async with self._http.request("GET", self._url, headers=headers) as answer:
                if not _streams(answer):
                    raise Lost("answers with no stream of events")
                async with aclosing(answer.events()) as events:
                    async for event in events:
                        if event.event == "endpoint":
                            self._found(event.data)
                        else:
                            _messages(event, receive)
        except UpstreamError as error:
            raise Lost(f"answers HTTP {error.status}") from error
        except ProviderError as error:
            raise Lost(error.message) from error
        raise Lost("ended its stream")

    async def send(self, message: Message, receive: Receive, headers: Mapping[str, str]) -> None:
        """Posts a message; the answer comes through `read`."""
        url = await asyncio.shield(self._endpoint)
        try:
            async with self._http.request("POST", url, headers={**headers, **self._headers}, json=message):
                pass
        except UpstreamError as error:
            if error.status == 404:
                raise SessionEnded("no longer knows the session") from error
            raise Lost(f"answers HTTP {error.status}") from error
        except ProviderError as error:
            raise Lost(error.message) from error

    def _found(self, data: str) -> None:
        url = urljoin(self._url, data)
        if urlsplit(url)[:2] != urlsplit(self._url)[:2]:
            raise Lost("names an endpoint of another origin")  # which must not see our headers
        if not self._endpoint.done():
            self._endpoint.set_result(url)


def _streams(answer: Answer) -> bool:
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower() == "text/event-stream"


def _messages(event: ServerSentEvent, receive: Receive) -> list[Message]:
    if event.event != "message" or not event.data.strip():
        return []
    try:
        messages = list(decode(event.data))
    except ValueError as error:
        raise Lost(f"sends what is no message: {error}") from error
    for message in messages:
        receive(message)
    return messages


def _answers(messages: list[Message], wanted: object) -> bool:
    return any(message.get("id") == wanted and "method" not in message for message in messages)
