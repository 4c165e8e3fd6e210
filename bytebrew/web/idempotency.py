"""Idempotency keys: a repeated request gets the same answer (draft-ietf-httpapi-idempotency-key-header)."""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec.json import encode
from msgspec.structs import replace

from bytebrew.base.errors import Detail, InvalidRequest, TurnInterrupted, Unprocessable
from bytebrew.base.secrets import Secrets
from bytebrew.contract.connection import Connection
from bytebrew.contract.route import Key, Reply, Request, Route
from bytebrew.store import idempotency

HEADER = "idempotency-key"
_FREED = "What this Idempotency-Key had begun came to no end meanwhile; send the request again"


async def answer(request: Request[Any], route: Route, run: Callable[[], Awaitable[Any]], digest: bytes) -> Any:
    """The answer of `run` to the first request; later the stored answer, or that of the turn that it started.

    Raises Unprocessable if the key was used with another body or query, and TurnInterrupted if it was freed after the
    guards ran. An error does not use up the key.
    """
    key, db = _key(request, route, digest), request.engine.db
    kept = await db.read(idempotency.find, key)
    if kept is None or kept.turn_id is None:  # the first request may still be changing the stored answer
        async with request.engine.lock(_lock(key)):
            kept = await db.read(idempotency.find, key)
            if kept is None and request.repeats:  # the guards let it pass as a repeat
                raise TurnInterrupted(_FREED)
            if kept is None:
                request.key = key
                return await _first(request, run, key)
    if kept.digest != digest:
        message = "This Idempotency-Key came with another request before; take a new key for each"
        raise Unprocessable(message, code="idempotency_key_reused")
    if kept.turn_id is not None:
        request.key = replace(key, turn_id=kept.turn_id)
        return await route.run(request)
    return Reply(status=kept.status, body=request.engine.secrets.open(kept.body).encode() or None)


def _lock(key: Key) -> str:
    """The name of a key's lock."""
    return "\n".join(("key", key.subject, key.method, key.path, key.text))


async def repeats(request: Request[Any], route: Route) -> bool:
    """Whether the request has a key that was used before."""
    if not route.idempotent or route.stream_body or HEADER not in request.headers:
        return False
    return await request.engine.db.read(idempotency.find, _key(request, route, b"")) is not None


def _key(request: Request[Any], route: Route, digest: bytes) -> Key:
    text = _checked(request.headers[HEADER])
    return Key(
        subject=request.actor.subject,
        method=route.method,
        path=request.url_path,
        text=text,
        digest=digest,
        status=route.status,
    )


def digest_of(query: bytes, body: bytes) -> bytes:
    """The digest that distinguishes a repeat from another request."""
    return hashlib.sha256(b"%d\n%b%b" % (len(query), query, body)).digest()


class _Keeping:
    """Stores the answer of a request under its key; `body` is the stored answer, None if there is none or a turn."""

    def __init__(self, key: Key, secrets: Secrets) -> None:
        self._key, self._secrets = key, secrets
        self.body: bytes | None = None

    def keep(self, conn: Connection, answer: Any) -> None:
        """Stores the answer, encrypted as it may be a new token; errors are not stored."""
        status = answer.status if isinstance(answer, Reply) else 204 if answer is None else self._key.status
        if status >= 400:
            return
        body = _encoded(answer)
        sealed = self._secrets.seal(body.decode()) if body else b""
        if idempotency.keep_answer(conn, replace(self._key, status=status), sealed):
            self.body = body


async def _first(request: Request[Any], run: Callable[[], Awaitable[Any]], key: Key) -> Any:
    keeping = _Keeping(key, request.engine.secrets)
    request.records += (keeping.keep,)
    answer = await run()
    if keeping.body is not None and keeping.body != _encoded(answer):  # changed since the route recorded it
        await request.engine.db.write(keeping.keep, answer)
    return answer


def _encoded(answer: Any) -> bytes:
    body = answer.body if isinstance(answer, Reply) else answer
    return b"" if body is None else body if isinstance(body, bytes) else encode(body)


def _checked(text: str) -> str:
    """The key, bare or as a string of RFC 8941; InvalidRequest otherwise."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if not 0 < len(text) <= 255 or not text.isprintable():
        message = "an Idempotency-Key has 1 to 255 characters and no control characters"
        raise InvalidRequest(message[0].upper() + message[1:], details=[Detail("$.headers.Idempotency-Key", message)])
    return text
