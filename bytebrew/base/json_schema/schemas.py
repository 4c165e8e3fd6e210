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
MOST_PATTERN_WORK = 300_000
"""Limit of an answer's bytes times the subschemas applied to it, if patterns are among them: a second or two."""
_BACKTRACKS = 1000  # some 40 microseconds; only patterns with look-around or back-references backtrack at all
_COMPILED_BYTES = 50_000  # of one pattern; each byte of a text may cost as much as there are states in it
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
        options = jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACKS, size_limit=_COMPILED_BYTES)
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
        visits = self._visits.at(depth(raw))
        if values * visits > MOST_WORK or (self._visits.matches and len(raw) * visits > MOST_PATTERN_WORK):
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
