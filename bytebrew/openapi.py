"""The OpenAPI 3.1 document and its page, made from the routes and their structs."""

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from bytebrew import events
from bytebrew.api import Reply, Request, Route
from bytebrew.errors import Detail

_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")  # as Starlette writes them, with a converter or without
_NO_NAME = re.compile(r"\W+")
_TEMPLATE = "#/components/schemas/{name}"
EVENTS: tuple[type[events.Event], ...] = (
    events.Thinking,
    events.MessageDelta,
    events.MessageDone,
    events.ToolStarted,
    events.ToolFinished,
    events.ConfirmationAsked,
    events.ErrorEvent,
    events.Done,
)


class Error(msgspec.Struct, omit_defaults=True):
    """The one shape of every refusal; `details` are there where the request itself is at fault."""

    error: str
    message: str
    details: tuple[Detail, ...] = ()


def document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """The document as JSON values; every struct that a route reads or writes is a component."""
    routes = list(routes)
    kinds = [kind for route in routes for kind in (route.body, route.answer) if kind is not None]
    kinds += [Error, *EVENTS]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_TEMPLATE, schema_hook=_any)
    schema_of = {id(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = _PARAMETER.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ByteBrew",
            "version": version,
            "description": "A self-hosted engine for AI agents. Chats and events are streams of Server-Sent Events.",
        },
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": "an API token or a JWT"}},
        },
    }


def _any(kind: type) -> dict[str, Any]:
    if kind is object:
        return {"description": "any JSON value"}
    raise NotImplementedError


def _operation(route: Route, schema_of: dict[int, Any]) -> dict[str, Any]:
    error = {"application/json": {"schema": schema_of[id(Error)]}}
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(route.path)
    ]
    parameters += [
        {"name": name, "in": "query", "required": False, "description": words, "schema": {"type": "string"}}
        for name, words in route.query.items()
    ]
    content: dict[str, Any] = {}
    if route.answer is not None:
        content["application/json"] = {"schema": schema_of[id(route.answer)]}
    if route.streams:
        content["text/event-stream"] = {
            "schema": {"type": "string", "description": "one event a block: id, event, data"},
            "x-events": {event.name: schema_of[id(event)] for event in EVENTS},
        }
    answer: dict[str, Any] = {"description": route.summary}
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}_{_NO_NAME.sub('_', route.path.removeprefix('/api/v1/')).strip('_')}",
        "summary": route.summary,
        "description": (route.run.__doc__ or "").strip(),
        "tags": [route.path.removeprefix("/api/v1/").partition("/")[0]],
        "responses": {
            str(route.status): answer | ({"content": content} if content else {}),
            "default": {"description": "A refusal", "content": error},
        },
    }
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        body = {"application/json": {"schema": schema_of[id(route.body)]}}
        operation["requestBody"] = {"required": True, "content": body}
    if route.scope is not None:
        operation["security"] = [{"bearer": []}]
        operation["x-scope"] = route.scope
    return operation


_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
:root{color-scheme:light dark}
summary{cursor:pointer;padding:.2rem 0}code{font-family:ui-monospace,monospace}b{display:inline-block;min-width:4.5rem}
pre{overflow:auto;padding:.5rem;border:1px solid #8884;border-radius:.4rem}small{opacity:.7}"""
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
)


def page(described: dict[str, Any]) -> str:
    """The document as a page that needs no script and no other host."""
    parts = [f"<h1>{html.escape(described['info']['title'])} {html.escape(described['info']['version'])}</h1>"]
    parts.append(
        f"<p>{html.escape(described['info']['description'])} <a href='/api/v1/openapi.json'>openapi.json</a></p>"
    )
    tag = ""
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            if operation["tags"][0] != tag:
                tag = operation["tags"][0]
                parts.append(f"<h2>{html.escape(tag)}</h2>")
            parts.append(_entry(path, method, operation))
    parts.append("<h2>Shapes</h2>")
    for name, schema in sorted(described["components"]["schemas"].items()):
        text = msgspec.json.format(msgspec.json.encode(schema)).decode()
        parts.append(f"<details id='{html.escape(name)}'><summary><code>{html.escape(name)}</code></summary>")
        parts.append(f"<pre>{html.escape(text)}</pre></details>")
    return f"<!doctype html><meta charset=utf-8><title>ByteBrew API</title><style>{_STYLE}</style>{''.join(parts)}"


def _entry(path: str, method: str, operation: dict[str, Any]) -> str:
    scope = operation.get("x-scope", "public")
    text = msgspec.json.format(msgspec.json.encode(operation)).decode()
    summary = html.escape(operation["summary"])
    return (
        f"<details><summary><b>{method.upper()}</b><code>{html.escape(path)}</code> {summary} "
        f"<small>{html.escape(scope)}</small></summary><p>{html.escape(operation['description'])}</p>"
        f"<pre>{html.escape(text)}</pre></details>"
    )


def routes(described: Sequence[Route], version: str) -> tuple[Route, ...]:
    """The routes of the document and its page; both are in it themselves."""

    async def get_document(request: Request[None]) -> Reply:
        """This document."""
        return Reply(body=raw, headers={"content-type": "application/json"})

    async def get_page(request: Request[None]) -> Reply:
        """The document as a page for people."""
        headers = {"content-type": "text/html; charset=utf-8", "content-security-policy": _POLICY}
        return Reply(body=shown, headers=headers)

    own = (
        Route(
            method="GET",
            path="/api/v1/openapi.json",
            scope=None,
            run=get_document,
            summary="The OpenAPI document",
            answer=dict[str, Any],
        ),
        Route(method="GET", path="/docs", scope=None, run=get_page, summary="The API for people to read"),
    )
    whole = document((*described, *own), version)
    raw, shown = msgspec.json.encode(whole), page(whole).encode()
    return own
