"""Models as OpenAI's clients name them: schemas with chat."""

from typing import Any

from bytebrew import CONVERSATIONS, Detail, FaceSchema, Forbidden, NotFound, Request


async def schema_of_model(request: Request[Any], name: str) -> FaceSchema:
    """The schema that a request names as its model; NotFound with OpenAI's code where the caller may use none of it."""
    try:
        return await request.engine.state[CONVERSATIONS].schema(request, name)
    except (NotFound, Forbidden) as error:
        if error.code not in ("not_found", "forbidden"):
            raise
        message = f"The model '{name[:255]}' does not exist or you do not have access to it; GET /v1/models lists yours"
        raise NotFound(message, code="model_not_found", details=[Detail("$.model", message)]) from error
