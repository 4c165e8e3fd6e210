"""The page: what the engine's agents do and what they need of people, for operators with a browser."""

from bytebrew import FRONT_PAGE, Engine, Register, Route, hookimpl

from . import serving


@hookimpl
def register_routes(register: Register[Route], engine: Engine) -> None:
    engine.state[FRONT_PAGE] = "/"
    for route in serving.routes():
        register(route)
