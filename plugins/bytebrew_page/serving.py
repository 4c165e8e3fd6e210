"""The routes of the page: one document for every address, and the files that it loads."""

import asyncio
from collections.abc import Iterator

from msgspec import Struct

from bytebrew import NotFound, Reply, Request, Route, __version__

from . import files

PAGES = (
    *("chat", "sessions", "tasks", "agents", "schemas", "models", "tools", "knowledge", "usage", "keys"),
    *("audit", "config", "settings", "plugins", "start", "admin"),
)
"""The first words of the page's addresses; the inbox is `/`, and `/admin` is another name of it."""
FILES = "/page"
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data: blob:",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types lit-html dompurify bytebrew",
    )
)
"""The Content-Security-Policy: nothing from elsewhere, nothing inline, and no markup but through two libraries."""
_DOCUMENT = {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": POLICY,
    "cache-control": "no-cache",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
}
_FOR_GOOD = "public, max-age=31536000, immutable"
_FOR_ANY_SITE = {"cache-control": "public, max-age=600", "cross-origin-resource-policy": "cross-origin"}
_VERSION = {"v": "any text, which makes a browser load the script anew"}
_STATE = {"<any>": "what the page shows: filters, tabs and selections are in its address"}


class Front(Struct, frozen=True, kw_only=True):
    """Where things are, as paths of this engine."""

    name: str = "ByteBrew"
    version: str = __version__
    page: str = "/"
    api: str = "/api/v1"
    health: str = "/api/v1/health"
    openapi: str = "/api/v1/openapi.json"
    docs: str = "/docs"


async def get_page(request: Request[None]) -> Reply:
    """The document, whose script draws what the address names."""
    word = request.url_path.split("/")[1]
    page = "inbox" if word in ("", "admin") else word
    return Reply(body=await asyncio.to_thread(_document, page), headers=_DOCUMENT)


def _document(page: str) -> bytes:
    """The first call reads all files, in some 40 ms."""
    return files.index(f"{FILES}/{files.digest()}", page)


async def get_front(request: Request[None]) -> Reply:
    """The page for browsers, and for everybody else where things are, as JSON."""
    if "text/html" in request.headers.get("accept", ""):
        reply = await get_page(request)
        return Reply(body=reply.body, headers=reply.headers | {"vary": "accept"})
    return Reply(body=Front(), headers={"vary": "accept"})


async def get_file(request: Request[None]) -> Reply:
    """A file of the page; under another digest it is the file of today, which is not to be kept."""
    digest, file = await asyncio.to_thread(_digest_and_file, request.path["file"])
    kept = request.path["digest"] == digest
    more = {"content-security-policy": POLICY}  # a worker has that of its script
    return _reply(request, file, more | {"cache-control": _FOR_GOOD if kept else "no-cache"})


def _digest_and_file(name: str) -> tuple[str, files.File]:
    """The digest, and a file, which is read and compressed the first time."""
    if name != files.STYLE and name not in files.named():
        raise NotFound(f"The page has no file '{name[:100]}'")
    return files.digest(), files.file(name)


async def get_widget(request: Request[None]) -> Reply:
    """The script of the chat for pages of other sites."""
    return _reply(request, await asyncio.to_thread(files.widget), _FOR_ANY_SITE)


def _reply(request: Request[None], file: files.File, more: dict[str, str]) -> Reply:
    """A file, compressed if the browser takes it so."""
    headers = {
        "content-type": file.content_type,
        "vary": "accept-encoding",
        "x-content-type-options": "nosniff",
        **more,
    }
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Reply(body=file.compressed, headers=headers | {"content-encoding": "gzip"})
    return Reply(body=file.plain, headers=headers)


def routes() -> Iterator[Route]:
    """The routes of the page, none of which needs a credential: what it shows comes from the API."""
    yield Route(
        "GET",
        "/",
        None,
        get_front,
        "The page, or where things are",
        query=_STATE,
        overridable=True,
        answer=Front,
        gives=("text/html",),
    )
    paths = [path for name in PAGES for path in (f"/{name}", f"/{name}/{{rest:path}}")]
    for path in paths:
        yield Route("GET", path, None, get_page, f"The page at {path}", query=_STATE, overridable=True, page=True)
    yield Route(
        "GET",
        f"{FILES}/{{digest}}/{{file:path}}",
        None,
        get_file,
        "A file of the page",
        page=True,
    )
    yield Route("GET", "/widget.js", None, get_widget, "The chat for pages of other sites", query=_VERSION, page=True)
