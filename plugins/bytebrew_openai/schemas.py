"""JSON Schemas as OpenAI's clients send them."""

from collections.abc import Mapping
from typing import Any


def without_dialect(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema without `$schema`: zod and the AI SDK name draft-07 for schemas that draft 2020-12 reads the same."""
    return {name: value for name, value in schema.items() if name != "$schema"}
