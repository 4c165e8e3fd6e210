"""Elicitations of a server as questions to a person, and the answers as results."""

import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import msgspec

from bytebrew import Masker, Question, QuestionAnswer

from ..jsonrpc import INVALID_PARAMS, JsonRpcError
from .forms import form_of

METHOD = "elicitation/create"
CAPABILITY: Mapping[str, Any] = {"form": {}, "url": {}}
MAX_MESSAGE, MAX_URL = 4000, 4000
_URL = re.compile(r"[a-zA-Z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")
"""RFC 3986; others end a link in the text of some clients, so that what is behind looks like the engine's words."""
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
_NUMBER = re.compile(r"(^|\.)(\d+|0x[0-9a-f]*)\.?$")
"""The end of a host that browsers read as an address of IPv4, also where that is not written in full."""


def question_of(params: Any, mask: Masker) -> Question:
    """The question that an elicitation asks, without the server's credentials; JsonRpcError if it is unfit."""
    try:
        return _question(msgspec.json.decode(mask(msgspec.json.encode(params).decode()), type=dict[str, Any]))
    except (ValueError, RecursionError) as error:
        raise JsonRpcError(INVALID_PARAMS, str(error)) from error


def _question(params: Mapping[str, Any]) -> Question:
    message = params.get("message")
    if not isinstance(message, str) or not message.strip():
        raise ValueError("an elicitation without a message")
    message = message[:MAX_MESSAGE]
    mode = params.get("mode", "form")
    if mode == "url":
        url = params.get("url")
        return Question(message=message, url=str(url), host=_host(url))
    if mode != "form":
        raise ValueError(f"an elicitation of the unknown mode {mode!r:.40}")
    form = form_of(params.get("requestedSchema", {"type": "object"}))
    return Question(message=message, fields=form if form["properties"] else None)


def result_of(question: Question, answer: QuestionAnswer) -> dict[str, Any]:
    """The result of an elicitation; that of a URL has no content."""
    if answer.action == "accept" and not question.url:
        return {"action": "accept", "content": dict(answer.content)}
    return {"action": answer.action}


def _host(url: Any) -> str:
    """The host of a URL as it is sent on the wire, so that no letter looks like another; ValueError for an odd URL."""
    if not isinstance(url, str) or len(url) > MAX_URL or not _URL.fullmatch(url):
        raise ValueError("an elicitation whose url has characters that URLs do not have")
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname or "@" in parts.netloc:
        raise ValueError("an elicitation whose url is not that of a web page")
    if ":" in parts.hostname or _NUMBER.search(parts.hostname):
        ip_address(parts.hostname)
    elif not _NAME.fullmatch(parts.hostname):  # browsers read a backslash as a slash, and decode %2e
        raise ValueError("an elicitation whose url names a host that browsers read otherwise")
    _ = parts.port  # ValueError for one that there is not
    if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise ValueError("an elicitation whose url is not of https")
    return parts.hostname
