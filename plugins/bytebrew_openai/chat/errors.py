"""Errors of Chat Completions, which have no `param` if they are about none."""

from typing import Any

from bytebrew import EngineError, Reply

from .. import errors


def error_object(error: EngineError) -> dict[str, Any]:
    """An error with `message`, `type`, `param` and `code`; `param` is null if the error is about none."""
    shared = errors.error_object(error)
    return {**shared, "param": shared["param"] or None}


def refusal(error: EngineError) -> Reply:
    """The answer to a request that fails before its stream begins."""
    return Reply(status=error.status, body={"error": error_object(error)})


class Failure(EngineError):
    """The error that ended a turn, with the status that the engine's own answer has."""

    def __init__(self, message: str, code: str, status: int) -> None:
        super().__init__(message, code=code)
        self.status = status  # type: ignore[misc]
