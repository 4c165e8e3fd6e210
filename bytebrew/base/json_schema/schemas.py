"""JSON Schema (draft 2020-12): checks of a schema, and of values against it, in bounded time."""

from functools import lru_cache
from typing import Any

import msgspec

from bytebrew.base.json_schema.visits import MOST_WORK, InvalidSchema, Visits, path_of
from bytebrew.base.validation import depth

MOST_BYTES = 64 * 1024
"""Size limit of a schema as JSON."""
MOST_LEVELS = 64
"""Nesting limit of a schema."""
_BACKTRACKS = 10_000  # below a millisecond; only patterns with look-around or back-references backtrack at all
_NO_CHOICE = "is not valid under any of the schemas listed in the 'anyOf' keyword"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


class JsonSchema:
    """A compiled schema; raises InvalidSchema."""

    def __init__(self, raw: bytes) -> None:
        import jsonschema_rs  # it is 15 MB, for this feature alone

        if len(raw) > MOST_BYTES:
            raise InvalidSchema("$", f"the schema has {len(raw)} bytes; {MOST_BYTES} are the limit")
        if depth(raw) > MOST_LEVELS:
            raise InvalidSchema("$", f"the schema is nested deeper than {MOST_LEVELS} levels")
        schema = msgspec.json.decode(raw)
        if schema.get("$schema", _DIALECT) not in (_DIALECT, f"{_DIALECT}#"):
            raise InvalidSchema("$.$schema", f"only draft 2020-12 is read: {_DIALECT}")
        self._visits = Visits(schema)
        options = jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACKS)
        try:
            self._validator = jsonschema_rs.Draft202012Validator(schema, pattern_options=options, offline=True)
        except jsonschema_rs.ValidationError as error:
            message = error.message.replace(_NO_CHOICE, "is nothing that draft 2020-12 has here")
            raise InvalidSchema(path_of(error.instance_path), shortened(message)) from None
        except ValueError as error:
            raise InvalidSchema("$", shortened(str(error))) from None
        self._invalid = jsonschema_rs.ValidationError

    def fault(self, value: Any, raw: bytes) -> str:
        """What is wrong with a value, such as `$.items[2].price: "x" is not of type "number"`; empty if it is valid.

        `raw` is its JSON.
        """
        values = 1 + sum(map(raw.count, (b",", b"[", b"{")))
        if values * self._visits.at(depth(raw)) > MOST_WORK:
            return "$: it is too large, or nested too deeply, to be checked against this schema"
        try:
            self._validator.validate(value)
        except self._invalid as error:
            return f"{path_of(error.instance_path)}: {shortened(error.message)}"
        return ""


@lru_cache(maxsize=64)
def _compiled(raw: bytes) -> JsonSchema:
    return JsonSchema(raw)


def compiled(schema: dict[str, Any]) -> JsonSchema:
    """The schema, compiled once for the most recent ones; raises InvalidSchema."""
    try:
        raw = msgspec.json.encode(schema)
    except (RecursionError, UnicodeEncodeError):
        raise InvalidSchema("$", "the schema cannot be written as JSON") from None
    return _compiled(raw)


def shortened(message: str) -> str:
    """The first line of a message, without the middle of a long value that it quotes."""
    line = message.partition("\n")[0]
    return line if len(line) <= 300 else f"{line[:100]} ... {line[-190:]}"
