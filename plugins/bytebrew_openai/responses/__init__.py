"""OpenAI's Responses, which Open Responses has made a specification, as a face."""

from bytebrew import Register, Route, hookimpl

from .routes import ROUTES


@hookimpl
def register_routes(register: Register[Route]) -> None:
    for route in ROUTES:
        register(route)
