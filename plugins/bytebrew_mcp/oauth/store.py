"""SQL for the credentials of users at MCP servers: connections, registered clients and pending authorizations."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from bytebrew import Connection, Engine, Migration, Person, PersonalData, Row, Unprocessable, now, placeholders, rfc3339

from ..config import ServerRow
from .clients import Client
from .discovery import Issuer
from .tokens import Granted, Tokens

MIGRATION = Migration(
    7,
    """
    alter table mcp_servers add column auth_grant text not null default 'authorization_code';
    alter table mcp_servers add column auth_client_id text not null default '';
    alter table mcp_servers add column auth_issuer text not null default '';
    alter table mcp_servers add column auth_scopes text not null default '[]';
    create table mcp_connections (
      server_id text not null references mcp_servers (id) on delete cascade,
      subject text not null,
      url text not null,
      sealed_tokens blob not null,
      scopes text not null,
      wanted_scopes text not null,
      expires_at text,
      account text not null,
      failure text not null,
      created_at text not null,
      updated_at text not null,
      primary key (server_id, subject)
    ) strict, without rowid;
    create index mcp_connections_subject on mcp_connections (subject);
    create table mcp_oauth_clients (
      server_id text not null references mcp_servers (id) on delete cascade,
      issuer text not null,
      redirect_uri text not null,
      sealed_client blob not null,
      primary key (server_id, issuer, redirect_uri)
    ) strict, without rowid;
    create table mcp_authorizations (
      server_id text not null references mcp_servers (id) on delete cascade,
      subject text not null,
      state_digest blob not null unique,
      sealed_request blob not null,
      expires_at text not null,
      primary key (server_id, subject)
    ) strict, without rowid;
    create index mcp_authorizations_subject on mcp_authorizations (subject);
    """,
)
T = TypeVar("T", bound=Struct)
OWN = ""
"""The subject of the engine's own credentials, which no actor has."""
EXPIRED, UNREADABLE = "expired", "unreadable"
_USED = "used "
"""What precedes a state, which has no space, once it has been used."""


class Grant(NamedTuple):
    """The stored credentials of a user at a server; no `tokens` are left after a `failure`."""

    tokens: Tokens | None
    sealed: bytes
    scopes: tuple[str, ...]
    wanted: tuple[str, ...]
    expires_at: str | None
    account: str
    failure: str
    created_at: str
    updated_at: str


class Pending(Struct, frozen=True):
    """An authorization that a user has begun."""

    url: str
    name: str
    browser: str
    verifier: str
    redirect_uri: str
    issuer: Issuer
    client: Client
    resource: str
    scopes: tuple[str, ...]


def find(conn: Connection, server: ServerRow, subject: str, engine: Engine) -> Grant | None:
    """The credentials for the address that a server has now; those for an earlier address are sent nowhere."""
    row = conn.execute(
        "select * from mcp_connections where server_id = ? and subject = ? and url = ?",
        (server.id, subject, server.url),
    ).fetchone()
    return None if row is None else _grant(row, engine)


def of_subject(conn: Connection, subject: str, engine: Engine) -> dict[tuple[str, str], Grant]:
    """The credentials of a user, by the id and the address of their server."""
    rows = conn.execute("select * from mcp_connections where subject = ?", (subject,))
    return {(row["server_id"], row["url"]): _grant(row, engine) for row in rows}


def keep(conn: Connection, server: ServerRow, subject: str, granted: Granted, engine: Engine) -> bool:
    """Stores credentials; returns False if the server is gone or has another address."""
    if not conn.execute("select 1 from mcp_servers where id = ? and url = ?", (server.id, server.url)).fetchone():
        return False
    conn.execute(
        """insert into mcp_connections (server_id, subject, url, sealed_tokens, scopes, wanted_scopes, expires_at,
          account, failure, created_at, updated_at) values (?, ?, ?, ?, ?, '', ?, ?, '', ?, ?)
        on conflict (server_id, subject) do update set url = excluded.url, sealed_tokens = excluded.sealed_tokens,
          scopes = excluded.scopes, wanted_scopes = '', expires_at = excluded.expires_at, account = excluded.account,
          failure = '', created_at = excluded.created_at, updated_at = excluded.updated_at""",
        (server.id, subject, server.url, *_columns(granted, engine), granted.account, now(), now()),
    )
    return True


def renew(conn: Connection, server: ServerRow, subject: str, old: bytes, granted: Granted, engine: Engine) -> bool:
    """Replaces refreshed tokens; returns False if they were removed or replaced in the meantime."""
    done = conn.execute(
        """update mcp_connections set sealed_tokens = ?, scopes = ?, expires_at = ?, updated_at = ?
        where server_id = ? and subject = ? and sealed_tokens = ?""",
        (*_columns(granted, engine), now(), server.id, subject, old),
    )
    return bool(done.rowcount)


def fail(conn: Connection, server: ServerRow, subject: str, old: bytes, failure: str) -> None:
    """Removes tokens that are of no use any more, and stores why."""
    conn.execute(
        """update mcp_connections set sealed_tokens = ?, failure = ?, updated_at = ?
        where server_id = ? and subject = ? and sealed_tokens = ?""",
        (b"", failure, now(), server.id, subject, old),
    )


def want(conn: Connection, server: ServerRow, subject: str, scopes: tuple[str, ...]) -> None:
    """Stores the scopes that a server has asked for."""
    conn.execute(
        "update mcp_connections set wanted_scopes = ?, updated_at = ? where server_id = ? and subject = ?",
        (" ".join(scopes), now(), server.id, subject),
    )


def remove(conn: Connection, server: ServerRow, subject: str) -> None:
    """Deletes the credentials of a user at a server, and an authorization that was begun."""
    for table in ("mcp_connections", "mcp_authorizations"):
        conn.execute(f"delete from {table} where server_id = ? and subject = ?", (server.id, subject))  # noqa: S608


def begin(
    conn: Connection, server: ServerRow, subject: str, state: str, pending: Pending, seconds: float, engine: Engine
) -> str:
    """Stores an authorization that begins, in place of an earlier one; returns when it expires."""
    expires_at = rfc3339(datetime.now(UTC) + timedelta(seconds=seconds))
    conn.execute("delete from mcp_authorizations where expires_at <= ?", (now(),))
    conn.execute(
        """insert into mcp_authorizations (server_id, subject, state_digest, sealed_request, expires_at)
        values (?, ?, ?, ?, ?) on conflict (server_id, subject) do update set state_digest = excluded.state_digest,
          sealed_request = excluded.sealed_request, expires_at = excluded.expires_at""",
        (server.id, subject, _digest(state), engine.secrets.seal(_json(pending)), expires_at),
    )
    return expires_at


def pending(conn: Connection, state: str, engine: Engine) -> tuple[str, str, Pending] | None:
    """The authorization of a state with the id of its server and its subject; None if it has expired."""
    row = conn.execute(
        "select * from mcp_authorizations where state_digest = ? and expires_at > ?", (_digest(state), now())
    ).fetchone()
    if row is None:
        return None
    request = _opened(row["sealed_request"], Pending, engine)
    return None if request is None else (row["server_id"], row["subject"], request)


def take(conn: Connection, state: str) -> bool:
    """Uses a state up; returns False if that has happened before. `complete` takes the authorization away."""
    sql = "update mcp_authorizations set state_digest = ? where state_digest = ?"
    return bool(conn.execute(sql, (_digest(_USED + state), _digest(state))).rowcount)


def complete(conn: Connection, server: ServerRow, subject: str, state: str, granted: Granted, engine: Engine) -> bool:
    """Stores the credentials of an authorization; returns False if the user has meanwhile ended it or begun another."""
    taken = conn.execute("delete from mcp_authorizations where state_digest = ?", (_digest(_USED + state),))
    return bool(taken.rowcount) and keep(conn, server, subject, granted, engine)


def client(conn: Connection, server: ServerRow, issuer: str, redirect_uri: str, engine: Engine) -> Client | None:
    """The client that was registered with an authorization server."""
    row = conn.execute(
        "select sealed_client from mcp_oauth_clients where server_id = ? and issuer = ? and redirect_uri = ?",
        (server.id, issuer, redirect_uri),
    ).fetchone()
    return None if row is None else _opened(row["sealed_client"], Client, engine)


def keep_client(
    conn: Connection, server: ServerRow, issuer: str, redirect_uri: str, registered: Client, engine: Engine
) -> None:
    """Stores a registered client."""
    sealed = engine.secrets.seal(_json(registered))
    conn.execute(
        """insert into mcp_oauth_clients (server_id, issuer, redirect_uri, sealed_client) values (?, ?, ?, ?)
        on conflict (server_id, issuer, redirect_uri) do update set sealed_client = excluded.sealed_client""",
        (server.id, issuer, redirect_uri, sealed),
    )


def forget_clients(conn: Connection, server: ServerRow) -> None:
    """Deletes clients that an authorization server no longer knows."""
    conn.execute("delete from mcp_oauth_clients where server_id = ?", (server.id,))


def export(conn: Connection, person: Person) -> list[dict[str, Any]]:
    """The connections of a person, without tokens."""
    rows = conn.execute(
        f"""select s.name as server, c.scopes, c.account, c.expires_at, c.created_at, c.updated_at
        from mcp_connections c join mcp_servers s on s.id = c.server_id
        where c.subject in ({placeholders(person.names)}) order by s.name, c.subject""",  # noqa: S608
        person.names,
    )
    return [dict(row) for row in rows]


def forget(conn: Connection, person: Person) -> int:
    """Deletes the credentials of a person."""
    return sum(
        conn.execute(
            f"delete from {table} where subject in ({placeholders(person.names)})",  # noqa: S608
            person.names,
        ).rowcount
        for table in ("mcp_connections", "mcp_authorizations")
    )


PERSONAL = PersonalData("mcp_connections", export, forget)


def _grant(row: Row, engine: Engine) -> Grant:
    sealed = bytes(row["sealed_tokens"])
    tokens = _opened(sealed, Tokens, engine)
    return Grant(
        tokens,
        sealed,
        tuple(row["scopes"].split()),
        tuple(row["wanted_scopes"].split()),
        row["expires_at"],
        row["account"],
        UNREADABLE if sealed and tokens is None else row["failure"],
        row["created_at"],
        row["updated_at"],
    )


def _opened(sealed: bytes, kind: type[T], engine: Engine) -> T | None:
    """What was sealed; None if that was with another key, so that it can be replaced and removed."""
    try:
        return msgspec.json.decode(engine.secrets.open(bytes(sealed)), type=kind) if sealed else None
    except Unprocessable:
        return None


def _columns(granted: Granted, engine: Engine) -> tuple[bytes, str, str | None]:
    """Sealed tokens, scopes and expiry."""
    until = None if granted.seconds is None else rfc3339(datetime.now(UTC) + timedelta(seconds=granted.seconds))
    return engine.secrets.seal(_json(granted.tokens)), " ".join(granted.scopes), until


def _json(value: Struct | Mapping[str, Any]) -> str:
    return msgspec.json.encode(value).decode()


def _digest(state: str) -> bytes:
    return sha256(state.encode()).digest()
