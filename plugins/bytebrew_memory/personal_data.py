"""A person's memories, for an export or to be forgotten."""

from collections.abc import Iterator

from msgspec.json import decode

from bytebrew import Connection, Person, PersonalData, dialect, placeholders

from .dialect import ERASE
from .store import Entry

MIGRATION = """
create index memory_owners_subject on memory_owners (subject);
create index memory_owners_user on memory_owners (user_sub) where user_sub <> '';
"""
MOST = 100
"""Memories that are deleted at once."""


def _owners(person: Person) -> tuple[str, tuple[str, ...]]:
    marks = placeholders(person.names)
    sql = f"""select id from memory_owners where subject in ({marks})
      union select id from memory_owners where user_sub in ({marks}) and user_sub <> ''"""  # noqa: S608
    return sql, (*person.names, *person.names)


def export(conn: Connection, person: Person) -> Iterator[Entry]:
    """The memories, by owner."""
    sql, names = _owners(person)
    rows = conn.execute(
        f"""select e.id, o.schema_id, o.subject, o.user_sub, e.content, e.metadata, e.created_at, e.updated_at
        from memory_owners o join memory_entries e on e.owner_id = o.id where o.id in ({sql}) order by e.n""",  # noqa: S608
        names,
    )
    for row in rows:
        yield Entry(**{**dict(row), "metadata": decode(row["metadata"])})


def forget(conn: Connection, person: Person) -> int:
    """Deletes memories, then their owner's rows, and at last their words in the index."""
    owners, names = _owners(person)
    entries = f"select n from memory_entries where owner_id in ({owners}) limit {MOST}"  # noqa: S608
    count = conn.execute(f"delete from memory_entries where n in ({entries})", names).rowcount  # noqa: S608
    if count < MOST:
        count += conn.execute(f"delete from memory_owners where id in ({owners})", names).rowcount  # noqa: S608
    if not count and dialect(conn) == "sqlite":
        conn.execute(ERASE)
    return count


MEMORIES = PersonalData("memories", export, forget)
