"""JSON-RPC 2.0 messages of clients, and the answers to them (MCP, base protocol)."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from bytebrew import EngineError, Face, Reply

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
NO_RESOURCE = -32002
"""Of revisions before 2026-07-28, which has INVALID_PARAMS in its place."""
HEADER_MISMATCH = -32020
MISSING_CAPABILITY = -32021
UNSUPPORTED_VERSION = -32022

Id = str | int
_encode = msgspec.json.Encoder().encode


class Message(Struct, frozen=True, kw_only=True):
    """A request, a notification (without `id`), or an answer to a request of the server (without `method`)."""

    jsonrpc: Literal["2.0"]
    id: Id | UnsetType = UNSET
    method: str | UnsetType = UNSET
    params: dict[str, Any] = {}
    result: Any = UNSET
    error: Any = UNSET

    @property
    def meta(self) -> Mapping[str, Any]:
        """The `_meta` of the params; empty if it is none."""
        meta = self.params.get("_meta")
        return meta if isinstance(meta, dict) else {}

    @property
    def request_id(self) -> Id:
        """The id of a request."""
        assert self.id is not UNSET
        return self.id

    def text(self, name: str) -> str:
        """A param that is a text; RpcError otherwise."""
        value = self.params.get(name)
        if not isinstance(value, str):
            raise RpcError(INVALID_PARAMS, f"params.{name} is missing, or no text")
        return value

    def fields(self, name: str) -> dict[str, Any]:
        """A param that is an object, empty if it is missing; RpcError otherwise."""
        value = self.params.get(name, {})
        if not isinstance(value, dict):
            raise RpcError(INVALID_PARAMS, f"params.{name} is no object")
        return value


class RpcError(Exception):
    """A JSON-RPC error in answer to a request; `status` is that of HTTP in revisions that have one for it."""

    def __init__(self, code: int, message: str, data: Any = None, *, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.data, self.status = code, message, data, status


def rpc_error(error: EngineError) -> RpcError:
    """An error of the engine: its own code is in `data`.

    JSON-RPC leaves codes outside of its reserved range to applications; for those that it has none for, it is the
    status.
    """
    usual = {400: INVALID_PARAMS, 422: INVALID_PARAMS, 500: INTERNAL_ERROR}
    return RpcError(usual.get(error.status, error.status), error.message, error.body(), status=error.status)


def error_message(error: RpcError, id: Id | UnsetType = UNSET) -> dict[str, Any]:
    """The answer to the request with an id, or to one whose id is not known."""
    body = {"code": error.code, "message": error.message}
    answer: dict[str, Any] = {"jsonrpc": "2.0"} if id is UNSET else {"jsonrpc": "2.0", "id": id}
    return {**answer, "error": body if error.data is None else {**body, "data": error.data}}


def result_message(id: Id, result: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a request that succeeds."""
    return {"jsonrpc": "2.0", "id": id, "result": result}


def frame(message: Mapping[str, Any], cursor: str = "") -> bytes:
    """A message as a Server-Sent Event, with an id if there is a cursor to resume behind it."""
    line = f"id: {cursor}\n".encode() if cursor else b""
    return b"%bevent: message\ndata: %b\n\n" % (line, _encode(message))


def _refusal(error: EngineError) -> Reply:
    found = rpc_error(error)
    if error.status == 400:
        is_json = isinstance(error.__cause__, msgspec.ValidationError)
        found.code = INVALID_REQUEST if is_json or error.__cause__ is None else PARSE_ERROR
    return Reply(status=error.status, body=error_message(found))


def _ending(error: EngineError) -> bytes:
    return frame(error_message(rpc_error(error)))


FACE = Face(name="MCP server", refusal=_refusal, ending=_ending)
