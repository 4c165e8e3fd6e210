"""SQL for API tokens, stored by their hash."""

import secrets
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from bytebrew import (
    Conflict,
    Connection,
    Detail,
    InvalidRequest,
    NotFound,
    Row,
    SchemaName,
    Scopes,
    View,
    new_uuid,
    now,
    parse_time,
    rfc3339,
)

from .mode import PREFIX, token_hash
from .visitors import PUBLIC

SHOWN = frozenset({"chat", "tasks", PUBLIC})
"""The scopes whose routes have a public view."""


class NewToken(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token to create; `scopes` and `scopes_mask` add up.

    `schemas` bind it to some schemas, which only the scopes chat, tasks, approvals and public can be. The scope public
    is for a token that all visitors of a page can read: it stands alone, and POST /api/v1/auth/visitors takes it. With
    the view public it is shown answers only, no tools, reasoning, names or cost, and has no scope that shows those
    otherwise; that is the default for the scope public, as the view of its visitors.
    """

    name: Annotated[str, Meta(min_length=1, max_length=255)]
    scopes: Annotated[tuple[str, ...], Meta(max_length=50)] = ()
    scopes_mask: Annotated[int, Meta(ge=0, lt=2**31)] = 0
    schemas: Annotated[tuple[SchemaName, ...], Meta(max_length=500)] | None = None
    view: View | None = None
    expires_at: Annotated[str, Meta(max_length=40)] | None = None


class Token(Struct, frozen=True, kw_only=True):
    """A token as it is listed."""

    id: str
    name: str
    scopes: tuple[str, ...]
    scopes_mask: int
    schemas: tuple[str, ...] | None
    view: View
    created_at: str
    expires_at: str | None
    last_used_at: str | None


class CreatedToken(Token, frozen=True, kw_only=True):
    """A new token; `token` is shown this once."""

    token: str


_SELECT = "select id, name, scopes, schemas, view, created_at, expires_at, last_used_at from tokens"


def _token(row: Row, known: Scopes) -> Token:
    scopes = tuple(row["scopes"].split())
    values = {**dict(row), "scopes": scopes, "scopes_mask": known.mask(scopes)}
    return Token(**{**values, "schemas": tuple(msgspec.json.decode(row["schemas"])) if row["schemas"] else None})


def list_all(conn: Connection, known: Scopes) -> list[Token]:
    """Every token that is not revoked, newest first."""
    return [
        _token(row, known) for row in conn.execute(f"{_SELECT} where revoked_at is null order by created_at desc, id")
    ]


def create(conn: Connection, known: Scopes, new: NewToken, token: str | None = None) -> CreatedToken:
    """Creates a token; only this result contains its secret."""
    try:
        scopes = known.parse(new.scopes, new.scopes_mask)
    except ValueError as error:
        raise InvalidRequest(str(error), details=[Detail("$.scopes", str(error))]) from error
    if not scopes:
        raise InvalidRequest("A token needs a scope", details=[Detail("$.scopes", "name at least one")])
    if new.schemas is not None and (wide := sorted(scopes - known.bindable)):
        message = f"a token that is bound has no scope but {', '.join(sorted(known.bindable))}"
        raise InvalidRequest(f"{wide[0]} is about every schema; {message}", details=[Detail("$.schemas", message)])
    if PUBLIC in scopes and len(scopes) > 1:
        message = f"the scope {PUBLIC} stands alone: whoever reads the page would hold the others too"
        raise InvalidRequest(message[0].upper() + message[1:], details=[Detail("$.scopes", message)])
    view = new.view or ("public" if PUBLIC in scopes else "full")
    if view == "public" and (telling := sorted(scopes - SHOWN)):
        message = f"a token with the view public has no scope but {', '.join(sorted(SHOWN))}"
        raise InvalidRequest(
            f"{telling[0]} shows what the view public hides; {message}", details=[Detail("$.view", message)]
        )
    expires_at = _expiry(new.expires_at)
    if conn.execute("select 1 from tokens where name = ? and revoked_at is null", (new.name,)).fetchone():
        raise Conflict(f"There is a token '{new.name}' already; revoke it first or take another name")
    token = token or new_token()
    token_id = new_uuid()
    schemas = None if new.schemas is None else msgspec.json.encode(new.schemas).decode()
    conn.execute(
        """insert into tokens (id, name, hash, scopes, schemas, view, created_at, expires_at)
        values (?, ?, ?, ?, ?, ?, ?, ?)""",
        (token_id, new.name, token_hash(token), " ".join(sorted(scopes)), schemas, view, now(), expires_at),
    )
    row = conn.execute(f"{_SELECT} where id = ?", (token_id,)).fetchone()
    return CreatedToken(**msgspec.structs.asdict(_token(row, known)), token=token)


def revoke(conn: Connection, key: str) -> None:
    """Revokes a token by id or name; NotFound if none is live."""
    sql = "update tokens set revoked_at = ? where (id = ? or name = ?) and revoked_at is null"
    if conn.execute(sql, (now(), key, key)).rowcount == 0:
        raise NotFound(f"There is no token '{key[:255]}'")


def bootstrap(conn: Connection, known: Scopes, token: str) -> bool:
    """Stores the operator's first admin token once; a later value neither replaces it nor undoes its revocation."""
    if conn.execute("select 1 from tokens where name = 'bootstrap-admin'").fetchone():
        return False
    create(conn, known, NewToken(name="bootstrap-admin", scopes=("admin",)), token)
    return True


def _expiry(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        moment = parse_time(text)
    except (ValueError, OverflowError) as error:
        message = "write a time like 2027-01-31T00:00:00Z"
        raise InvalidRequest(f"'{text}' is not a time", details=[Detail("$.expires_at", message)]) from error
    return rfc3339(moment)


def new_token() -> str:
    """A new API token: `bb_` and 64 random hex digits."""
    return f"{PREFIX}{secrets.token_hex(32)}"
