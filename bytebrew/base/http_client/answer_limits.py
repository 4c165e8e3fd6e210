"""Limits on the size of a model's answer."""

from msgspec import Struct

from bytebrew.base.errors import ProviderError

PIECE_BYTES = 16
"""Size counted per chunk besides its text: empty chunks take memory too."""


class Bounds(Struct, frozen=True, kw_only=True):
    """Limits of one answer: bytes of text, thinking and tool calls together, and number of tool calls."""

    answer_bytes: int = 4 * 1024 * 1024
    tool_calls: int = 128

    def too_long(self) -> ProviderError:
        """The error for too many bytes."""
        message = f"The model's answer is longer than {self.answer_bytes} bytes; BYTEBREW_ANSWER_BYTES is the limit"
        return ProviderError(message, code="model_answer_too_long")

    def too_many_calls(self) -> ProviderError:
        """The error for too many tool calls."""
        message = f"The model asked for more than {self.tool_calls} tool calls at once"
        return ProviderError(f"{message}; BYTEBREW_STEP_TOOL_CALLS is the limit", code="model_answer_too_long")


class Intake:
    """Counts what a provider buffers of an answer; raises ProviderError above the limits."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._bytes = self._calls = 0

    def take(self, size: int) -> None:
        """Counts a chunk of this many bytes or characters."""
        self._bytes += size + PIECE_BYTES
        if self._bytes > self._bounds.answer_bytes:
            raise self._bounds.too_long()

    def call(self) -> None:
        """Counts a tool call."""
        self._calls += 1
        if self._calls > self._bounds.tool_calls:
            raise self._bounds.too_many_calls()
