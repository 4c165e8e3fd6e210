"""Revisions of MCP: what a request speaks, and what its client can do.

From 2026-07-28 on each request says so itself. Before, `initialize` did, and what it said is in the session id that the
server gave out then; nothing is stored.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import uuid4

from msgspec import UNSET

from bytebrew import Request, __version__

from .messages import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    MISSING_CAPABILITY,
    UNSUPPORTED_VERSION,
    Message,
    RpcError,
)

MODERN = "2026-07-28"
LEGACY = ("2025-11-25", "2025-06-18")
"""Revisions with an `initialize` handshake, newest first."""
SUPPORTED = (MODERN, *LEGACY)
TASKS = "io.modelcontextprotocol/tasks"
SERVER = {"name": "bytebrew", "title": "ByteBrew", "version": __version__}
SESSION_HEADER = "mcp-session-id"
_VERSION = "io.modelcontextprotocol/protocolVersion"
_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
_SERVER = "io.modelcontextprotocol/serverInfo"
_SESSION = re.compile(r"(2025-11-25|2025-06-18)\.(elicits)?\.[0-9a-f]{32}")
_NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_NAMED |= dict.fromkeys(("tasks/get", "tasks/update", "tasks/cancel"), "taskId")
"""The param that Mcp-Name repeats."""


class Client(NamedTuple):
    """What a request speaks; `elicits` if its client asks people, `takes_tasks` if it polls tasks (2026-07-28).

    `session` is its session id, which revisions before 2026-07-28 have.
    """

    revision: str
    elicits: bool = False
    takes_tasks: bool = False
    session: str = ""

    @property
    def is_modern(self) -> bool:
        """Whether its requests are stateless, and results have a type."""
        return self.revision == MODERN

    def result(self, fields: Mapping[str, Any], type: str = "complete") -> dict[str, Any]:
        """A result as the revision has it."""
        if not self.is_modern:
            return dict(fields)
        return {**fields, "resultType": type, "_meta": {**fields.get("_meta", {}), _SERVER: SERVER}}

    def cached(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """A result that depends on the caller, and that may change at any time."""
        return self.result({**fields, "ttlMs": 0, "cacheScope": "private"} if self.is_modern else fields)

    def check_tasks(self) -> None:
        """Raises RpcError unless the client has declared tasks."""
        if self.is_modern and not self.takes_tasks:
            data: dict[str, Any] = {"requiredCapabilities": {"extensions": {TASKS: {}}}}
            raise RpcError(MISSING_CAPABILITY, f"The client has not declared the extension {TASKS}", data)


def client_of(request: Request[Message]) -> Client:
    """What a request speaks; RpcError if that is nothing known, or header and body contradict each other."""
    message, header = request.body, request.headers.get("mcp-protocol-version")
    version = message.meta.get(_VERSION)
    if version is not None or header == MODERN:
        return _modern(request, version)
    _check_header(request, "mcp-method", message.method, required=False)
    if message.method == "initialize":
        return _initialized(message)
    if header is not None and header not in LEGACY:
        raise _unsupported(header)
    session = request.headers.get(SESSION_HEADER, "")
    known = _SESSION.fullmatch(session)
    if not known:
        return Client(header or LEGACY[-1])
    return Client(header or known[1], elicits=bool(known[2]), session=session)


def begin_session(client: Client) -> str:
    """A new session id for a client that sends `initialize`."""
    return f"{client.revision}.{'elicits' if client.elicits else ''}.{uuid4().hex}"


def _initialized(message: Message) -> Client:
    wanted = message.params.get("protocolVersion")
    elicits = _elicits(message.fields("capabilities"))
    return Client(wanted if wanted in LEGACY else LEGACY[0], elicits=elicits)


def _modern(request: Request[Message], version: Any) -> Client:
    message, header = request.body, request.headers.get("mcp-protocol-version")
    if header is None:
        raise RpcError(HEADER_MISMATCH, "Header mismatch: MCP-Protocol-Version is missing")
    if version is None:
        raise RpcError(INVALID_PARAMS, f"params._meta lacks {_VERSION}")
    if header != version:
        raise RpcError(HEADER_MISMATCH, "Header mismatch: MCP-Protocol-Version is not what the body has in _meta")
    if version != MODERN:
        raise _unsupported(header)
    capabilities = message.meta.get(_CAPABILITIES)
    if not isinstance(capabilities, dict):
        raise RpcError(INVALID_PARAMS, f"params._meta lacks {_CAPABILITIES}")
    if message.id is not UNSET:
        _check_header(request, "mcp-method", message.method)
        if named := _NAMED.get(str(message.method)):
            _check_header(request, "mcp-name", message.params.get(named))
    extensions = capabilities.get("extensions")
    tasks = isinstance(extensions, dict) and TASKS in extensions
    return Client(MODERN, elicits=_elicits(capabilities), takes_tasks=tasks)


def _elicits(capabilities: Mapping[str, Any]) -> bool:
    """Whether a client shows forms; without any mode it does so."""
    modes = capabilities.get("elicitation")
    return isinstance(modes, dict) and (not modes or "form" in modes)


def _check_header(request: Request[Any], name: str, value: object, *, required: bool = True) -> None:
    sent = request.headers.get(name)
    if sent is None and not required:
        return
    shown = "-".join(part.capitalize() for part in name.split("-"))
    if sent is None:
        raise RpcError(HEADER_MISMATCH, f"Header mismatch: {shown} is missing")
    if decoded(sent) != value:
        raise RpcError(HEADER_MISMATCH, f"Header mismatch: {shown} is not what the body has")


def decoded(value: str) -> str | None:
    """A header's value, which may be Base64 in a sentinel; None if that is malformed."""
    if not (value.startswith("=?base64?") and value.endswith("?=")):
        return value
    try:
        return base64.b64decode(value[9:-2], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None


def _unsupported(version: str) -> RpcError:
    data = {"supported": list(SUPPORTED), "requested": version[:100]}
    return RpcError(UNSUPPORTED_VERSION, "Unsupported protocol version", data)
