"""Where the time of a session went: its turns, and the spans of each."""

from bytebrew import OFFSET, Engine, Parameter, Register, Route, hookimpl

from . import routes
from .details import SpanDetail
from .spans import Timeline
from .turns import TurnPage

_TURNS = "/api/v1/sessions/{id}/turns"


@hookimpl
def register_routes(register: Register[Route], engine: Engine) -> None:
    window = {"limit": Parameter("rows, 500 at most", int | str), "offset": OFFSET}
    for path, run, summary, answer, query in (
        (_TURNS, routes.list_turns, "List a session's turns", TurnPage, window),
        (f"{_TURNS}/{{turn_id}}/spans", routes.get_spans, "Get where the time of a turn went", Timeline, {}),
        (f"{_TURNS}/{{turn_id}}/spans/{{span_id}}", routes.get_span, "Get a part of a turn", SpanDetail, {}),
    ):
        register(Route("GET", path, "chat", run, summary, query=query, answer=answer))
