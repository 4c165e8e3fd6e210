"""JSON-RPC 2.0 messages of MCP, protocol versions, errors, and the interface of a transport."""

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import Any, NoReturn, Self

import msgspec

Message = dict[str, Any]
Receive = Callable[[Message], None]

MODERN = "2026-07-28"
LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
"""Versions with an `initialize` handshake, newest first; requests of MODERN are stateless."""
CLIENT = {"name": "bytebrew", "version": version("bytebrew")}
MAX_MESSAGE_BYTES = 16 * 1024 * 1024

INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32600, -32601, -32602, -32603
URL_NEEDED = -32042
"""The call needs a person to visit pages first (2025-11-25)."""
UNSUPPORTED_VERSION = -32022
MODERN_ERRORS = (-32020, -32021, UNSUPPORTED_VERSION)


class ConnectionLost(Exception):
    """The server cannot be reached, or the connection has ended; the message is the reason."""


class SessionEnded(ConnectionLost):
    """The server no longer knows the session and has not run the request."""


class RequestFailed(ConnectionLost):
    """This request failed; the connection can still serve others."""


class AccessDenied(ConnectionLost):
    """The server denies access to the credentials of this request."""


class JsonRpcError(Exception):
    """The server's JSON-RPC error."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class Transport:
    """Sends messages to a server and receives its messages; `async with` opens and closes it.

    With `stream_each` each answer has its own stream, and closing that cancels the request (2026-07-28).
    """

    stream_each = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    def agree(self, version: str) -> None:
        """Sets the negotiated protocol version."""

    async def read(self, receive: Receive) -> NoReturn:
        """Receives unsolicited messages until the connection ends, then raises ConnectionLost."""
        raise NotImplementedError

    async def send(self, message: Message, receive: Receive, headers: Mapping[str, str]) -> None:
        """Sends a message; if the answer arrives on the same stream, receives it before returning."""
        raise NotImplementedError


def decode(raw: bytes | str) -> Iterator[Message]:
    """The messages of a line or body, which may be a batch; ValueError for anything else."""
    try:
        value = msgspec.json.decode(raw)
    except RecursionError as error:
        raise ValueError("a message is nested too deeply") from error
    for one in value if isinstance(value, list) else [value]:
        if not isinstance(one, dict):
            raise ValueError("a message is not a JSON object")
        yield one


def error_of(error: Any) -> JsonRpcError:
    """The exception for the `error` of a message."""
    if not isinstance(error, dict):
        return JsonRpcError(0, "an error without words")
    code = error.get("code")
    return JsonRpcError(
        code if isinstance(code, int) else 0, str(error.get("message") or "no words")[:2000], error.get("data")
    )
