"""Response formats as they are stored: of an agent, and of a turn in place of its agent's."""

from bytebrew.base.errors import Detail, InvalidRequest
from bytebrew.base.json_schema.schemas import compiled
from bytebrew.base.json_schema.visits import InvalidSchema
from bytebrew.contract.messages import ResponseFormat


def checked(format: ResponseFormat | None) -> ResponseFormat | None:
    """The format, None for one of type text.

    InvalidRequest if its schema is not a valid JSON Schema (draft 2020-12), or takes too long to check against.
    """
    if format is None or format.type == "text":
        return None
    try:
        compiled(format.schema)
    except InvalidSchema as error:
        path = f"$.response_format.schema{error.detail.path[1:]}"
        details = [Detail(path, error.detail.message)]
        raise InvalidRequest(f"The format's schema cannot be used: {error.detail.message}", details=details) from error
    return format
