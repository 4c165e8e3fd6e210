"""Carries out the commands of flows: over httpx, with or without asyncio."""

import asyncio
import inspect
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import httpx

from bytebrew_client.errors import ConnectionLost
from bytebrew_client.flow import Close, Command, Flow, Open, Outcome, Read, Reply, Request, Run, Send, Sleep

T = TypeVar("T")
FAILURES = (httpx.TransportError, httpx.DecodingError)
TIMEOUT = httpx.Timeout(60, connect=10)
STREAM_TIMEOUT = httpx.Timeout(45, connect=10)
"""A stream is silent for 15 s at most: then the engine sends a comment."""


class Engine:
    """Where the engine is, and the token for it, which no repr shows."""

    def __init__(self, url: str, token: str) -> None:
        self._url = httpx.URL(url)
        if self._url.scheme not in ("http", "https") or not self._url.host:
            raise ValueError("The URL of the engine is as http://127.0.0.1:8443")
        if self._url.userinfo:
            raise ValueError("The URL of the engine has a user or a password: the token is all that it needs")
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise ValueError("The token has characters that no token has, such as a line break")
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    def __repr__(self) -> str:
        return f"{self._url.scheme}://{self._url.netloc.decode()}"

    def build(self, http: httpx.Client | httpx.AsyncClient, request: Request, *, stream: bool) -> httpx.Request:
        """The request as httpx sends it."""
        encoding = {"accept-encoding": "identity"} if stream else {}  # a proxy that compresses holds events back
        return http.build_request(
            request.method,
            f"{str(self._url).rstrip('/')}/api/v1/{request.path}",
            params=dict(request.query) or None,
            content=request.content,
            headers={**request.headers, **encoding, **self._headers},
            timeout=STREAM_TIMEOUT if stream else TIMEOUT,
        )


def lost(error: Exception) -> ConnectionLost:
    """What a failure of httpx means for the request."""
    sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    permanent = isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError) or cause is not None
    return ConnectionLost(f"{type(error).__name__}: {error}", sent=sent, permanent=permanent)


def _reply(response: httpx.Response, content: bytes) -> Reply:
    return Reply(response.status_code, {name.lower(): value for name, value in response.headers.items()}, content)


class Transport:
    """Runs flows to their end; it has one open stream at most."""

    def __init__(self, engine: Engine, http: httpx.Client) -> None:
        self._engine, self._http = engine, http
        self._response: httpx.Response | None = None
        self._chunks: Iterator[bytes] = iter(())

    def run(self, flow: Flow[T]) -> T:
        """The result of a flow."""
        try:
            command = next(flow)
            while True:
                try:
                    result = self._result(command)
                except FAILURES as error:
                    command = flow.throw(lost(error))
                else:
                    command = flow.send(result)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            flow.close()

    def close(self) -> None:
        """Closes the open stream, if there is one."""
        response, self._response = self._response, None
        if response is not None:
            response.close()

    def _result(self, command: Command) -> Any:
        match command:
            case Send(request):
                response = self._http.send(self._engine.build(self._http, request, stream=False))
                return _reply(response, response.content)
            case Open(request):
                self.close()
                response = self._http.send(self._engine.build(self._http, request, stream=True), stream=True)
                self._response = response
                if response.status_code != 200:
                    return _reply(response, response.read())
                self._chunks = response.iter_bytes()
                return _reply(response, b"")
            case Read():
                return next(self._chunks, None) if self._response else None
            case Close():
                self.close()
            case Sleep(seconds):
                time.sleep(seconds)
            case Run(function, _):
                return _outcome(function)
        return None


class AsyncTransport:
    """The same on asyncio."""

    def __init__(self, engine: Engine, http: httpx.AsyncClient) -> None:
        self._engine, self._http = engine, http
        self._response: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def run(self, flow: Flow[T]) -> T:
        """The result of a flow."""
        try:
            command = next(flow)
            while True:
                try:
                    result = await self._result(command)
                except FAILURES as error:
                    command = flow.throw(lost(error))
                else:
                    command = flow.send(result)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            flow.close()

    async def close(self) -> None:
        """Closes the open stream, if there is one."""
        response, self._response = self._response, None
        if response is not None:
            await response.aclose()

    async def _result(self, command: Command) -> Any:
        match command:
            case Send(request):
                response = await self._http.send(self._engine.build(self._http, request, stream=False))
                return _reply(response, response.content)
            case Open(request):
                await self.close()
                response = await self._http.send(self._engine.build(self._http, request, stream=True), stream=True)
                self._response = response
                if response.status_code != 200:
                    return _reply(response, await response.aread())
                self._chunks = response.aiter_bytes()
                return _reply(response, b"")
            case Read():
                return await anext(self._chunks, None) if self._response and self._chunks else None
            case Close():
                await self.close()
            case Sleep(seconds):
                await asyncio.sleep(seconds)
            case Run(function, is_async):
                return await (_async_outcome(function) if is_async else asyncio.to_thread(_outcome, function))
        return None


def _outcome(function: Any) -> Outcome:
    try:
        value = function()
        if inspect.isawaitable(value):
            with ThreadPoolExecutor(1) as thread:  # the caller's own thread may have a running loop
                value = thread.submit(asyncio.run, _awaited(value)).result()
        return Outcome(value)
    except Exception as error:  # noqa: BLE001 - whatever the user's function raises, the model reads
        return Outcome(error=error)


async def _async_outcome(function: Any) -> Outcome:
    try:
        return Outcome(await function())
    except Exception as error:  # noqa: BLE001
        return Outcome(error=error)


async def _awaited(value: Any) -> Any:
    return await value
