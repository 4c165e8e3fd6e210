"""The API reference as an HTML page, with an example of each call."""

from bytebrew import Engine, Register, Route, hookimpl

from . import pages


@hookimpl
def register_routes(register: Register[Route], engine: Engine) -> None:
    for route in pages.routes(engine):
        register(route)
