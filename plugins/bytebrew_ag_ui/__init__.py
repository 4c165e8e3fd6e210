"""AG-UI 1.0: agents for CopilotKit and other user interfaces, at /ag-ui/{schema}."""

from bytebrew import Register, Route, hookimpl

from .routes import register as register_all
from .run import Run

__all__ = ["Run"]


@hookimpl
def register_routes(register: Register[Route]) -> None:
    """Registers the routes."""
    register_all(register)
