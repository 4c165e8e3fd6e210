"""The index at `/`: links for programs and people, without private data."""

from html import escape

from msgspec import Struct


class Front(Struct, frozen=True, kw_only=True):
    """Where things are, as paths of this engine."""

    name: str
    version: str
    api: str
    health: str
    openapi: str
    docs: str


_TEXT = {
    "api": "the API; each call but the public ones takes an API token or a JWT in the header Authorization",
    "health": "whether it serves",
    "openapi": "the API as an OpenAPI document",
    "docs": "the API for people, with an example of each call",
}


def front(version: str) -> Front:
    """The links of an engine of a version."""
    return Front(
        name="ByteBrew",
        version=version,
        api="/api/v1",
        health="/api/v1/health",
        openapi="/api/v1/openapi.json",
        docs="/docs",
    )


def shown(page: Front) -> str:
    """The same as an HTML page."""
    rows = []
    for name in ("docs", "openapi", "health", "api"):
        path = escape(getattr(page, name))
        where = f"<code>{path}</code>" if name == "api" else f"<a href='{path}'><code>{path}</code></a>"
        rows.append(f"<dt>{where}</dt><dd>{escape(_TEXT[name])}</dd>")
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(page.name)}</title><link rel=icon href='data:,'><link rel=stylesheet href=/docs/page.css>"
        f"<body><main class=front><h1>{escape(page.name)} {escape(page.version)}</h1>"
        "<p>An engine for AI agents runs here. Its clients talk to it over HTTP.</p>"
        f"<dl>{''.join(rows)}</dl></main></body>"
    )
