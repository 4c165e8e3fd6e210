"""The client of a running engine's REST API, for `bytebrew config --url` and `bytebrew replay`."""

from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, urlsplit

import msgspec

from bytebrew.base.errors import BootError, SettingsError
from bytebrew.config.import_export import Plan
from bytebrew.config.yaml_tree import InvalidConfig
from bytebrew.contract.configuration.config_dialect import Problem

YAML, JSON = "application/x-yaml", "application/json"


def export(url: str, token: str) -> bytes:
    """The engine's configuration file; BootError with the engine's message if it rejects the request."""
    return _fetch(url, token, "GET", "config/export", YAML)


def apply(url: str, token: str, raw: bytes, *, replace: bool, dry_run: bool) -> Plan:
    """The plan of an import; InvalidConfig with every problem, BootError for other errors."""
    query = f"config/import?mode={'replace' if replace else 'merge'}&dry_run={str(dry_run).lower()}"
    answer = _fetch(url, token, "POST", query, JSON, raw)
    try:
        fields, suffix = msgspec.json.decode(answer, type=dict[str, Any]), "_imported"
        counts = {key.removesuffix(suffix): count for key, count in fields.items() if key.endswith(suffix)}
        return msgspec.convert({**fields, "imported": counts}, Plan)
    except msgspec.MsgspecError as error:
        raise BootError(f"that is no answer of a ByteBrew engine: {error}") from error


def ask(url: str, token: str, method: str, path: str, body: Any = None) -> Any:
    """The decoded answer of the API to a body in JSON; BootError if the engine rejects the request."""
    raw = None if body is None else msgspec.json.encode(body)
    return msgspec.json.decode(_fetch(url, token, method, path, JSON, raw, sent=JSON))


def _fetch(
    url: str, token: str, method: str, path: str, wanted: str, body: bytes | None = None, *, sent: str = YAML
) -> bytes:
    parts = _parts(url)
    if not (token.isascii() and token.isprintable()):
        raise SettingsError("BYTEBREW_TOKEN: a token is letters, digits and signs on one line")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": sent}
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    try:
        with closing(kind(parts.netloc, timeout=60)) as connection:
            connection.request(method, f"{parts.path.rstrip('/')}/api/v1/{path}", body, headers)
            answer = connection.getresponse()
            raw = answer.read()
    except (OSError, HTTPException) as error:
        raise BootError(f"{url} cannot be reached: {getattr(error, 'strerror', None) or error}") from error
    content_type = (answer.getheader("content-type") or "").partition(";")[0]
    if answer.status in (200, 201) and content_type == wanted:
        return raw
    refusal = msgspec.json.decode(raw) if content_type == JSON else {}
    if any("line" in detail for detail in refusal.get("details", ())):
        raise InvalidConfig([msgspec.convert(detail, Problem) for detail in refusal["details"]])
    cure = "; the token is read from BYTEBREW_TOKEN" if answer.status in (401, 403) else ""
    raise BootError(f"{url} answered {answer.status}: {refusal.get('message', 'it is no ByteBrew engine')}{cure}")


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts
    except ValueError:  # an invalid port or IPv6 address
        pass
    raise SettingsError("--url takes an http or https URL, such as http://127.0.0.1:8443")
