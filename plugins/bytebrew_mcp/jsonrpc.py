"""JSON-RPC 2.0 as MCP speaks it: messages, the versions of the protocol, and what can go wrong."""

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import Any, NoReturn, Self

import msgspec

Message = dict[str, Any]
Receive = Callable[[Message], None]

MODERN = "2026-07-28"
LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
"""The versions that begin with `initialize`, newest first; those of MODERN say everything in each request."""
CLIENT = {"name": "bytebrew", "version": version("bytebrew")}
MAX_MESSAGE_BYTES = 16 * 1024 * 1024

METHOD_NOT_FOUND = -32601
UNSUPPORTED_VERSION = -32022
MODERN_ERRORS = (-32020, -32021, UNSUPPORTED_VERSION)


class ConnectionLost(Exception):
    """The server cannot be reached, or is gone; the message says why."""


class SessionEnded(ConnectionLost):
    """The server no longer knows the session, and has done nothing with the request."""


class RequestFailed(ConnectionLost):
    """The server fails at this one request, and may well answer others."""


class AccessDenied(ConnectionLost):
    """The server does not let in whoever the request speaks for."""


class JsonRpcError(Exception):
    """The server's JSON-RPC error."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class Transport:
    """A way to and from a server; `async with` opens and closes it.

    With `stream_each` an answer has a stream of its own, and leaving that cancels the request (2026-07-28).
    """

    stream_each = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    def agree(self, version: str) -> None:
        """Hears of the version that is spoken from now on."""

    async def read(self, receive: Receive) -> NoReturn:
        """Hands in what the server sends of its own accord, until it raises ConnectionLost."""
        raise NotImplementedError

    async def send(self, message: Message, receive: Receive, headers: Mapping[str, str]) -> None:
        """Sends a message; a transport on which the answer comes back by itself hands it in before this returns."""
        raise NotImplementedError


def decode(raw: bytes | str) -> Iterator[Message]:
    """The messages of a line or body, which may be a batch; ValueError where it is none."""
    try:
        value = msgspec.json.decode(raw)
    except RecursionError as error:
        raise ValueError("a message is nested too deeply") from error
    for one in value if isinstance(value, list) else [value]:
        if not isinstance(one, dict):
            raise ValueError("a message is not a JSON object")
        yield one


def refusal(error: Any) -> JsonRpcError:
    """The exception that a message's `error` stands for."""
    if not isinstance(error, dict):
        return JsonRpcError(0, "an error without words")
    code = error.get("code")
    return JsonRpcError(
        code if isinstance(code, int) else 0, str(error.get("message") or "no words")[:2000], error.get("data")
    )
