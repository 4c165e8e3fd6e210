"""The API for people to read, at `/docs`; without another host and without a build."""

from functools import cache
from pathlib import Path

from bytebrew import API_DOCUMENT, Engine, NotFound, Reply, Request, Route

from . import docs_page

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of the pages: only content of the engine itself."""
_PARTS = {"page.css": "text/css", "page.js": "text/javascript"}
_FRESH = {"cache-control": "no-cache"}
_HTML = {"content-type": "text/html; charset=utf-8", "content-security-policy": POLICY}


def routes(engine: Engine) -> tuple[Route, ...]:
    """The routes of the pages, which other plugins may override; the API's is rendered when it is first requested."""

    parts = {name: (Path(__file__).parent / name).read_bytes() for name in _PARTS}

    @cache
    def api() -> bytes:
        return docs_page.written(engine.state[API_DOCUMENT]()).encode()

    async def get_reference(request: Request[None]) -> Reply:
        """The document as a page for people."""
        return Reply(body=api(), headers=_HTML)

    async def get_part(request: Request[None]) -> Reply:
        """A part that the pages load: `page.css` or `page.js`."""
        name = request.path["part"]
        if name not in _PARTS:
            raise NotFound(f"The pages have no part '{name[:100]}'")
        return Reply(body=parts[name], headers={"content-type": f"{_PARTS[name]}; charset=utf-8"} | _FRESH)

    return (
        Route(
            method="GET",
            path="/docs",
            scope=None,
            run=get_reference,
            summary="The API for people to read",
            overridable=True,
            gives=("text/html",),
        ),
        Route(
            method="GET",
            path="/docs/{part}",
            scope=None,
            run=get_part,
            summary="Style and script of these pages",
            overridable=True,
            gives=tuple(_PARTS.values()),
        ),
    )
