"""Errors in OpenAI's shape."""

from collections.abc import Mapping
from typing import Any

from bytebrew import EngineError, Reply

_TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


CODES: Mapping[str, str] = {
    "unauthorized": "invalid_api_key",
    "budget_exceeded": "insufficient_quota",
    "rate_limited": "rate_limit_exceeded",
    "model_context_too_long": "context_length_exceeded",
}
"""OpenAI's code in place of the engine's; its clients and frameworks look for these."""


def error_object(error: EngineError) -> dict[str, Any]:
    """An error with `message`, `type`, `param` and `code`, all texts: `@ai-sdk/open-responses` reads no null."""
    usual = "server_error" if error.status >= 500 else "invalid_request_error"
    param = error.details[0].path.removeprefix("$").removeprefix(".") if error.details else ""
    kind = _TYPES.get(error.status, usual)
    return {"message": error.message, "type": kind, "param": param, "code": CODES.get(error.code, error.code)}


def refusal(error: EngineError) -> Reply:
    """The answer to a request that fails before its stream begins."""
    return Reply(status=error.status, body={"error": error_object(error)})
