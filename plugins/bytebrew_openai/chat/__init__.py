"""The face of OpenAI Chat Completions: models are schemas, and a conversation is the session whose history comes."""

from bytebrew import Register, Route, hookimpl

from .routes import ROUTES


@hookimpl
def register_routes(register: Register[Route]) -> None:
    for route in ROUTES:
        register(route)
