"""The AI SDK's UI message stream: `useChat` of React, Vue and Svelte talks to agents, majors 6 and 7 of `ai`."""

from bytebrew import Register, Route, hookimpl

from .routes import ROUTES


@hookimpl
def register_routes(register: Register[Route]) -> None:
    for route in ROUTES:
        register(route)
