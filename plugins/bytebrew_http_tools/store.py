"""SQL for HTTP tools, with their encrypted credentials."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec
from msgspec.structs import asdict

from bytebrew import Conflict, Connection, Detail, Migration, NotFound, Row, insert, now, placeholders

from .definition import CREDENTIAL, Definition, HttpTool, HttpToolPatch, NewHttpTool, encoded, merged

Seal = Callable[[str], bytes]

MIGRATIONS = (
    Migration(
        1,
        """
create table http_tools (
  name text primary key,
  definition text not null,
  sealed_credential blob not null,
  created_at text not null,
  updated_at text not null
) strict;
""",
    ),
)


class Stored(NamedTuple):
    """A stored tool."""

    definition: Definition
    sealed: bytes
    created_at: str
    updated_at: str


def list_all(conn: Connection) -> list[Stored]:
    """Every tool by name."""
    return [_stored(row) for row in conn.execute("select * from http_tools order by name")]


def named(conn: Connection, names: Iterable[str]) -> list[Stored]:
    """The tools with these names."""
    wanted = [*names]
    sql = f"select * from http_tools where name in ({placeholders(wanted)})"  # noqa: S608
    return [_stored(row) for row in conn.execute(sql, wanted)]


def get(conn: Connection, name: str) -> Stored:
    """A tool; NotFound otherwise."""
    row = conn.execute("select * from http_tools where name = ?", (name,)).fetchone()
    if row is None:
        raise NotFound(f"There is no HTTP tool '{name[:255]}'")
    return _stored(row)


def create(conn: Connection, new: NewHttpTool, seal: Seal) -> Stored:
    """Stores a tool and returns it; Conflict if the name is taken."""
    if conn.execute("select 1 from http_tools where name = ?", (new.name,)).fetchone():
        raise Conflict(f"There is a tool '{new.name}' already; PUT /api/v1/tools/{new.name} changes it")
    definition, credential = merged(Definition(name=new.name), new)
    moment = now()
    row = {"name": new.name, "definition": encoded(definition), "sealed_credential": seal(credential or "")}
    insert(conn, "http_tools", row, created_at=moment, updated_at=moment)
    return get(conn, new.name)


def update(conn: Connection, name: str, patch: HttpToolPatch, seal: Seal) -> Stored:
    """Merges the patch into a tool and returns it."""
    stored = get(conn, name)
    definition, credential = merged(stored.definition, patch)
    sealed = stored.sealed if credential is None else seal(credential)
    conn.execute(
        "update http_tools set definition = ?, sealed_credential = ?, updated_at = ? where name = ?",
        (encoded(definition), sealed, now(), name),
    )
    return get(conn, name)


def delete(conn: Connection, name: str) -> None:
    """Deletes a tool that no agent names; Conflict lists those that do."""
    get(conn, name)
    if users := agents_of(conn).get(name):
        details = [Detail("$.agents", user) for user in users]
        raise Conflict(f"Tool '{name}' is used by {len(users)} agents: {', '.join(users[:10])}", details=details)
    conn.execute("delete from http_tools where name = ?", (name,))


def agents_of(conn: Connection) -> dict[str, tuple[str, ...]]:
    """The agents that name each tool."""
    agents: dict[str, tuple[str, ...]] = {}
    for row in conn.execute("select name, tools from agents where tools <> '[]' order by name"):
        for tool in msgspec.json.decode(row["tools"]):
            agents[tool] = (*agents.get(tool, ()), row["name"])
    return agents


def shown(conn: Connection, *rows: Stored) -> list[HttpTool]:
    """Tools as the API shows them, without their credentials."""
    agents = agents_of(conn)
    return [_shown(stored, agents.get(stored.definition.name, ())) for stored in rows]


def _shown(stored: Stored, agents: tuple[str, ...]) -> HttpTool:
    definition = stored.definition
    auth = definition.auth
    has = bool(stored.sealed) or (auth is not None and bool(getattr(auth, CREDENTIAL[auth.type])))
    return HttpTool(
        **asdict(definition),
        security_zone=definition.zone,
        agents=agents,
        has_credential=has,
        created_at=stored.created_at,
        updated_at=stored.updated_at,
    )


def _stored(row: Row) -> Stored:
    definition = msgspec.json.decode(row["definition"], type=Definition)
    return Stored(definition, row["sealed_credential"], row["created_at"], row["updated_at"])
