"""AG-UI 1.0: agents for CopilotKit and other user interfaces, at /ag-ui/{schema}."""

from bytebrew import Register, Route, hookimpl

from .routes import ROUTES


@hookimpl
def register_routes(register: Register[Route]) -> None:
    for route in ROUTES:
        register(route)
