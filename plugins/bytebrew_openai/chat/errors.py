"""Errors of Chat Completions: OpenAI's shape, with OpenAI's own codes where clients read them."""

from collections.abc import Mapping
from typing import Any

from bytebrew import EngineError, Reply

from .. import errors

CODES: Mapping[str, str] = {
    "unauthorized": "invalid_api_key",
    "budget_exceeded": "insufficient_quota",
    "rate_limited": "rate_limit_exceeded",
    "model_context_too_long": "context_length_exceeded",
}
"""OpenAI's code in place of the engine's; its clients and frameworks look for these."""


def error_object(error: EngineError) -> dict[str, Any]:
    """An error with `message`, `type`, `param` and `code`; `param` is null if the error is about none."""
    shared = errors.error_object(error)
    return {**shared, "param": shared["param"] or None, "code": CODES.get(error.code, error.code)}


def refusal(error: EngineError) -> Reply:
    """The answer to a request that fails before its stream begins."""
    return Reply(status=error.status, body={"error": error_object(error)})


class Failure(EngineError):
    """The error that ended a turn, with the status that the engine's own answer has."""

    def __init__(self, message: str, code: str, status: int) -> None:
        super().__init__(message, code=code)
        self.status = status  # type: ignore[misc]
