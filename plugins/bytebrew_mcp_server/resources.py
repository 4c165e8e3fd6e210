"""Files of knowledge bases as resources, for callers who may read these; a template searches in a base."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import msgspec

from bytebrew import DOCUMENTS, Document, Documents, NotFound, Passage, Request

from .messages import INVALID_PARAMS, METHOD_NOT_FOUND, NO_RESOURCE, Message, RpcError
from .revisions import Client

PAGE = 100
SCHEME = "knowledge"
_TEMPLATE = {
    "uriTemplate": f"{SCHEME}://{{base}}/search{{?query}}",
    "name": "search",
    "title": "Search in a knowledge base",
    "description": "The passages of the base, by name or id, that fit the query best",
    "mimeType": "text/markdown",
}


def may_read(request: Request[Any]) -> bool:
    """Whether the caller may read knowledge bases: with the scope of their own routes, and not bound to schemas."""
    actor = request.actor
    if DOCUMENTS not in request.engine.state or actor.schemas is not None or actor.view == "public":
        return False
    return not actor.scopes.isdisjoint({"admin", request.engine.state[DOCUMENTS].scope})


async def list_resources(request: Request[Message], client: Client) -> dict[str, Any]:
    """The result of resources/list."""
    documents = _documents(request)
    page = await documents.page(_after(request.body), PAGE)
    result: dict[str, Any] = {"resources": [_resource(one) for one in page]}
    if len(page) == PAGE:
        behind = msgspec.json.encode((page[-1].base, page[-1].name))
        result["nextCursor"] = base64.urlsafe_b64encode(behind).decode()
    return client.cached(result)


async def list_templates(request: Request[Message], client: Client) -> dict[str, Any]:
    """The result of resources/templates/list."""
    _documents(request)
    return client.cached({"resourceTemplates": [_TEMPLATE]})


async def read_resource(request: Request[Message], client: Client) -> dict[str, Any]:
    """The result of resources/read: the text of a file, or passages that a search finds."""
    documents, uri = _documents(request), request.body.text("uri")
    try:
        parts = urlsplit(uri)
        base, path = unquote(parts.netloc), unquote(parts.path.removeprefix("/"))
        query = parse_qs(parts.query).get("query", [""])[0]
        if parts.scheme != SCHEME or not base or not path:
            raise NotFound("There is no such resource")
        if path == "search":
            text, media_type = _passages(await documents.search(base, query[:10_000])), "text/markdown"
        else:
            _, text = await documents.read(base, path)
            media_type = "text/plain"
    except (NotFound, ValueError) as error:
        code = INVALID_PARAMS if client.is_modern else NO_RESOURCE
        raise RpcError(code, "Resource not found", {"uri": uri[:1000]}) from error
    return client.cached({"contents": [{"uri": uri, "mimeType": media_type, "text": text}]})


def _documents(request: Request[Any]) -> Documents:
    if not may_read(request):
        raise RpcError(METHOD_NOT_FOUND, "There are no resources for this token", status=404)
    return request.engine.state[DOCUMENTS]


def _after(message: Message) -> tuple[str, str]:
    cursor = message.params.get("cursor")
    if cursor is None:
        return "", ""
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(message.text("cursor")), type=tuple[str, str])
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise RpcError(INVALID_PARAMS, "The cursor is none of this list") from error


def _resource(document: Document) -> dict[str, Any]:
    return {
        "uri": f"{SCHEME}://{quote(document.base_id)}/{quote(document.id)}",
        "name": document.name,
        "title": f"{document.base}: {document.name}",
        "description": f"The text of this file ({document.media_type}) of the knowledge base {document.base}",
        "mimeType": "text/plain",
        "annotations": {"lastModified": document.changed_at},
    }


def _passages(passages: Sequence[Passage]) -> str:
    titles = (" > ".join(filter(None, (one.document, one.heading))) for one in passages)
    return "\n\n".join(f"## {title}\n\n{one.text}" for title, one in zip(titles, passages, strict=True))
