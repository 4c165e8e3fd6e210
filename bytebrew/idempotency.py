"""Idempotency-Key: the same request again gets the same answer (draft-ietf-httpapi-idempotency-key-header)."""

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from msgspec.json import encode
from msgspec.structs import replace

from bytebrew.api import Key, Reply, Request, Route, Stream
from bytebrew.errors import Detail, InvalidRequest, Unprocessable
from bytebrew.secrets import Secrets
from bytebrew.store import idempotency

HEADER = "idempotency-key"
P = ParamSpec("P")
T = TypeVar("T")


class Keys:
    """The keys of one path that are at work."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()

    async def answer(self, request: Request[Any], route: Route, path: str, query: bytes, body: bytes) -> Any:
        """The route's answer, the first time; after that the same, or that of the turn which the key began.

        Raises Unprocessable where the key came with another body or query. A refusal and a failure use up no key.
        """
        text = _checked(request.headers[HEADER])
        digest = hashlib.sha256(b"%d\n%b%b" % (len(query), query, body)).digest()
        key = Key(
            subject=request.actor.subject,
            method=route.method,
            path=path,
            text=text,
            digest=digest,
            status=route.status,
        )
        db = request.engine.db
        kept = await db.read(idempotency.find, key)
        if kept is None:
            async with self._locks.setdefault(replace(key, digest=b""), asyncio.Lock()):
                kept = await db.read(idempotency.find, key)
                if kept is None:
                    request.key = key
                    return await _first(request, route, key)
        if kept.digest != digest:
            words = "This Idempotency-Key came with another request before; take a new key for each"
            raise Unprocessable(words, code="idempotency_key_reused")
        if kept.turn_id is not None:
            request.key = replace(key, turn_id=kept.turn_id)
            return await route.run(request)
        return Reply(status=kept.status, body=request.engine.secrets.open(kept.body).encode() or None)


async def write(
    request: Request[Any], work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """The result of work once it is committed, and with it, if the request has a key, the answer that it makes."""
    db = request.engine.db
    if request.key is None:
        return await db.write(work, *args, **kwargs)
    kept = partial(_kept, request.key, request.engine.secrets, lambda conn: work(conn, *args, **kwargs))
    result: T = await db.write(kept)
    return result


def _kept(key: Key, secrets: Secrets, work: Callable[[sqlite3.Connection], Any], conn: sqlite3.Connection) -> Any:
    result = work(conn)
    idempotency.keep(conn, key, body=_sealed(secrets, result))
    return result


async def _first(request: Request[Any], route: Route, key: Key) -> Any:
    answer = await route.run(request)
    reply = answer if isinstance(answer, Reply) else Reply(body=answer, status=204 if answer is None else route.status)
    if not isinstance(answer, Stream) and reply.status < 400:
        key = replace(key, status=reply.status)
        await request.engine.db.write(_keep_once, key, _sealed(request.engine.secrets, reply.body))
    return answer


def _keep_once(conn: sqlite3.Connection, key: Key, body: bytes) -> None:
    if idempotency.find(conn, key) is None:
        idempotency.keep(conn, key, body=body)


def _sealed(secrets: Secrets, body: Any) -> bytes:
    """A body as it is kept: sealed, for a new token's is its secret."""
    return secrets.seal((body if isinstance(body, bytes) else encode(body)).decode()) if body is not None else b""


def _checked(text: str) -> str:
    """The key, whether it came bare or as a string of RFC 8941; InvalidRequest where it is none."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if not 0 < len(text) <= 255 or not text.isprintable():
        words = "an Idempotency-Key has 1 to 255 characters and no control characters"
        raise InvalidRequest(words.capitalize(), details=[Detail("$.headers.Idempotency-Key", words)])
    return text
