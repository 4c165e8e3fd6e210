"""SQL for the versions of items of the configuration, numbered from 1 for each item."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from bytebrew.base.errors import NotFound
from bytebrew.base.formats import now, struct_of
from bytebrew.contract.auth import Actor
from bytebrew.contract.configuration.runtime_option import Option, expired_before, option_value
from bytebrew.contract.connection import Connection, Row, insert
from bytebrew.contract.lists import Page, bounded

Act = Literal["create", "update", "rename", "rollback", "delete"]

MOST = Option(
    key="versions.most",
    type=Annotated[int, Meta(ge=1, le=10_000)],
    default=100,
    help="newest versions that are kept of each agent, schema, model, tool or other item of the configuration",
)
KEPT = Option(
    key="retention.versions",
    type=Annotated[int, Meta(ge=0, le=36500)],
    default=365,
    help="days after which an older version is deleted, and with its deletion an item's last; 0: never",
)
OPTIONS = (MOST, KEPT)
BATCH = 200


class Version(Struct, frozen=True, kw_only=True):
    """A version of an item: when, by whom and by what it was made, and the fields that it changed.

    `restores` is the number of the version that a rollback repeats. A change that no caller of this engine made, such
    as one before it kept versions, is the engine's.
    """

    number: int
    moment: str
    actor: str
    action: Act
    restores: int | None
    changed: tuple[str, ...]


class WholeVersion(Version, frozen=True, kw_only=True):
    """A version with the item as it was, null after its deletion; each credential is a `${VAR}`, or `***`."""

    content: dict[str, Any] | None


class Stored(Struct, frozen=True, kw_only=True):
    """A stored version; `credentials` are digests by field, so that a changed credential is noticed."""

    name: str
    n: int
    content: dict[str, Any] | None
    credentials: dict[str, str]


_COLUMNS = "n as number, moment, actor, action, restores, changed"
_STORED = "name, n, content, credentials"
_NEWEST = "n = (select max(n) from versions v where v.section = versions.section and v.name = versions.name)"


def marked(conn: Connection) -> list[tuple[str, str]]:
    """Takes the marks of changed items: section and name."""
    return sorted((row["section"], row["name"]) for row in conn.execute("delete from changed_items returning *"))


def newest(conn: Connection, section: str) -> dict[str, Stored]:
    """The newest version of each item of a section."""
    rows = conn.execute(f"select {_STORED} from versions where section = ? and {_NEWEST}", (section,))
    return {row["name"]: _stored(row) for row in rows}


def newest_of(conn: Connection, section: str, name: str) -> Stored | None:
    """The newest version of an item."""
    sql = f"select {_STORED} from versions where section = ? and name = ? order by n desc limit 1"
    row = conn.execute(sql, (section, name)).fetchone()
    return _stored(row) if row else None


def number_of(conn: Connection, section: str, name: str) -> int:
    """The number of the newest version of an item, 0 if it has none."""
    sql = "select max(n) from versions where section = ? and name = ?"
    return int(conn.execute(sql, (section, name)).fetchone()[0] or 0)


def add(
    conn: Connection,
    section: str,
    version: Stored,
    actor: Actor,
    action: Act,
    changed: Sequence[str],
    restores: int | None = None,
) -> None:
    """Stores a version, and deletes the item's oldest if there are too many."""
    insert(
        conn,
        "versions",
        {"section": section, "name": version.name, "n": version.n, "moment": now(), "actor": actor.name},
        subject=actor.subject,
        action=action,
        restores=restores,
        changed=[*changed],
        content=msgspec.json.encode(version.content).decode(),
        credentials=version.credentials,
    )
    if (last := version.n - int(option_value(conn, MOST))) > 0:
        conn.execute("delete from versions where section = ? and name = ? and n <= ?", (section, version.name, last))


def rename(conn: Connection, section: str, old: str, name: str) -> None:
    """Gives the versions of an item its new name; those of an earlier item with this name are deleted."""
    conn.execute("delete from versions where section = ? and name = ?", (section, name))
    conn.execute("update versions set name = ? where section = ? and name = ?", (name, section, old))


def page(conn: Connection, section: str, name: str, limit: int, offset: int) -> Page[Version]:
    """A page of the versions of an item, newest first."""
    where = "from versions where section = ? and name = ?"
    total = conn.execute(f"select count(*) {where}", (section, name)).fetchone()[0]
    sql = f"select {_COLUMNS} {where} order by n desc limit ? offset ?"
    rows = [*bounded(conn.execute(sql, (section, name, limit, offset)))]
    end = offset + len(rows)
    following = str(end) if rows and end < total else None
    data = [struct_of(row, Version) for row in rows]
    return Page(data=data, total=total, limit=limit, offset=offset, next=following)


def get(conn: Connection, section: str, name: str, n: int) -> WholeVersion:
    """One version of an item; NotFound otherwise."""
    return struct_of(_row_of(conn, f"{_COLUMNS}, content", section, name, n), WholeVersion)


def stored(conn: Connection, section: str, name: str, n: int) -> Stored:
    """One version as it is stored; NotFound otherwise."""
    return _stored(_row_of(conn, _STORED, section, name, n))


def _row_of(conn: Connection, columns: str, section: str, name: str, n: int) -> Row:
    sql = f"select {columns} from versions where section = ? and name = ? and n = ?"
    row: Row | None = conn.execute(sql, (section, name, n)).fetchone()
    if row is None:
        raise NotFound(f"There is no version {n} of '{name[:255]}', or it is not kept any more; list the versions")
    return row


def expire(conn: Connection) -> Sequence[object]:
    """Deletes some versions that are too old or too many, never the newest of an item that is there."""
    before, most = expired_before(conn, KEPT), int(option_value(conn, MOST))
    old = conn.execute(
        f"""select id from versions where moment < ? and (not {_NEWEST} or (action = 'delete'
        and n = (select min(n) from versions v where v.section = versions.section and v.name = versions.name)))
        order by moment limit ?""",
        (before, BATCH),
    ).fetchall()
    many = conn.execute(
        """select v.id from (select section, name, max(n) - ?1 as last from versions group by section, name
          having count(*) > ?1) item
        join versions v on v.section = item.section and v.name = item.name and v.n <= item.last limit ?2""",
        (most, BATCH),
    ).fetchall()
    conn.executemany("delete from versions where id = ?", [(row["id"],) for row in (*old, *many)])
    return [*old, *many]


def _stored(row: Row) -> Stored:
    return struct_of(row, Stored)
