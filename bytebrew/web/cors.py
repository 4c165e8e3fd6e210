"""Cross-origin requests (WHATWG Fetch, section 3.2) with an allow-list of origins."""

from collections.abc import Mapping, Sequence

from bytebrew.base.errors import Forbidden
from bytebrew.base.formats import is_known_host

EXPOSED = (
    "X-Session-Id, X-Turn-Id, X-Request-Id, Location, Link, ETag, Retry-After, Server-Timing, X-RateLimit-Limit, "
    "X-RateLimit-Remaining, X-RateLimit-Reset, WWW-Authenticate, MCP-Session-Id, X-Vercel-AI-UI-Message-Stream"
)
"""Headers of answers that a page may read: the last three are those of MCP's clients and of the AI SDK."""
ALLOWED = ("Authorization", "Content-Type", "Idempotency-Key", "If-Match", "Last-Event-ID")
"""Headers that a page may send, in addition to those of model choosers."""


def headers(origin: str, allowed: Sequence[str]) -> list[tuple[bytes, bytes]]:
    """The headers that let a page of an allowed origin read the answer; only `Vary` for other origins."""
    lines = [(b"vary", b"Origin")]
    if origin in allowed:
        lines.append((b"access-control-allow-origin", origin.encode("latin-1")))
        lines.append((b"access-control-expose-headers", EXPOSED.encode()))
    return lines


def is_preflight(sent: Mapping[str, str]) -> bool:
    """Whether the headers of an OPTIONS request are those of a preflight."""
    return "origin" in sent and "access-control-request-method" in sent


def preflight(sent: Mapping[str, str], allowed: Sequence[str], names: Sequence[str]) -> list[tuple[bytes, bytes]]:
    """The headers of the answer to a preflight: a page may send these header names, and those that it requests."""
    lines = headers(sent["origin"], allowed)
    if sent["origin"] in allowed:
        extra = [name for name in sent.get("access-control-request-headers", "").split(",") if name.strip()]
        known = {name.lower() for name in names}
        custom = [name.strip() for name in extra if name.strip().lower() not in known and name.strip().isascii()]
        lines.append((b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE"))
        lines.append((b"access-control-allow-headers", ", ".join([*names, *custom]).encode("latin-1")))
        lines.append((b"access-control-max-age", b"600"))
    return lines


def check_page(headers: Mapping[str, str], host: str, allowed: Sequence[str]) -> None:
    """Raises Forbidden for a cross-site request (CSRF) whose credential was added by the browser or a gateway."""
    origin = headers.get("origin")
    if origin is None and headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return
    own = origin is not None and origin.rpartition("://")[2].lower() == host.lower()
    if not own and origin not in allowed:
        where = f"A page of {origin}" if origin else "Another site"
        raise Forbidden(f"{where[:300]} may not call with your credentials; BYTEBREW_CORS_ORIGINS lists those that may")


def check_origin(headers: Mapping[str, str], host: str, allowed: Sequence[str], listening: str) -> None:
    """Raises Forbidden for a page of another origin, or of a foreign name that leads to the engine (DNS rebinding)."""
    origin = headers.get("origin")
    if origin is None or origin in allowed:
        return
    if origin.rpartition("://")[2].lower() != host.lower() or not is_known_host(host, listening):
        words = f"A page of {origin[:300]} may not call this; BYTEBREW_CORS_ORIGINS lists the origins that may"
        raise Forbidden(words, code="foreign_origin")
