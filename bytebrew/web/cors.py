"""Cross-origin requests (WHATWG Fetch, section 3.2): an allow-list of origins, nothing else."""

from collections.abc import Mapping, Sequence

from bytebrew.base.errors import Forbidden

EXPOSED = (
    "X-Session-Id, X-Turn-Id, X-Request-Id, Location, Link, ETag, Retry-After, Server-Timing, X-RateLimit-Limit, "
    "X-RateLimit-Remaining, X-RateLimit-Reset"
)
ALLOWED = (
    "Authorization, Content-Type, Idempotency-Key, If-Match, Last-Event-ID, X-Model-Provider, X-Model-API-Key, "
    "X-Model-Name, X-Model-Base-URL"
)


def headers(origin: str, allowed: Sequence[str]) -> list[tuple[bytes, bytes]]:
    """What lets a page of an allowed origin read an answer; for another origin nothing but the word that it varies."""
    lines = [(b"vary", b"Origin")]
    if origin in allowed:
        lines.append((b"access-control-allow-origin", origin.encode("latin-1")))
        lines.append((b"access-control-expose-headers", EXPOSED.encode()))
    return lines


def preflight(asked: Mapping[str, str], allowed: Sequence[str]) -> list[tuple[bytes, bytes]] | None:
    """The answer to a browser that asks before it sends; None where the request is no such question."""
    if "origin" not in asked or "access-control-request-method" not in asked:
        return None
    lines = headers(asked["origin"], allowed)
    if asked["origin"] in allowed:
        extra = [name for name in asked.get("access-control-request-headers", "").split(",") if name.strip()]
        known = {name.strip().lower() for name in ALLOWED.split(",")}
        custom = [name.strip() for name in extra if name.strip().lower() not in known and name.strip().isascii()]
        lines.append((b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE"))
        lines.append((b"access-control-allow-headers", ", ".join([ALLOWED, *custom]).encode("latin-1")))
        lines.append((b"access-control-max-age", b"600"))
    return lines


def check_page(headers: Mapping[str, str], allowed: Sequence[str]) -> None:
    """Raises Forbidden for a foreign page's request with a credential that a browser or a gateway adds by itself."""
    origin = headers.get("origin")
    if origin is None and headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return
    own = origin is not None and origin.rpartition("://")[2].lower() == headers.get("host", "").lower()
    if not own and origin not in allowed:
        where = f"A page of {origin}" if origin else "Another site"
        raise Forbidden(f"{where[:300]} may not call with your credentials; BYTEBREW_CORS_ORIGINS lists those that may")
