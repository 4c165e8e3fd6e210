"""The AI SDK's UI message stream: `useChat` of React, Vue and Svelte talks to agents, majors 6 and 7 of `ai`."""

from bytebrew import Engine, Register, Route, hookimpl

from .routes import routes


@hookimpl
def register_routes(register: Register[Route], engine: Engine) -> None:
    for route in routes(engine):
        register(route)
