"""A person's files: those whose metadata has the person as `user_sub`; all others are the operator's."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from bytebrew import Connection, Engine, Person, PersonalData, dialect, placeholders

from .dialect import ERASE, PERSONS
from .indexes import SWEPT
from .knowledge import KNOWLEDGE
from .signs import SIGNS


def _export(conn: Connection, person: Person) -> Iterator[Mapping[str, Any]]:
    for file in conn.execute(PERSONS.format(placeholders(person.names)), person.names):
        row = conn.execute("select * from knowledge_files where id = ?", (file["id"],)).fetchone()
        chunks = conn.execute(
            """select c.text from knowledge_indexes i join knowledge_chunks c on c.index_id = i.id
            where i.file_id = ? and i.state = 'live' order by c.position""",
            (file["id"],),
        )
        yield {
            **{name: row[name] for name in ("id", "name", "type", "size", "created_at")},
            "metadata": msgspec.json.decode(row["metadata"]),
            "text": "\n\n".join(chunk["text"] for chunk in chunks),
        }


def of(engine: Engine) -> PersonalData:
    """The files of an engine."""

    def forget(conn: Connection, person: Person) -> int:
        """Deletes a file: its chunks, their words in the index, its bytes, and at last its row, which ends the work."""
        file = conn.execute(PERSONS.format(placeholders(person.names)), person.names).fetchone()
        if file is None:
            return 0
        conn.execute("update knowledge_files set revision = revision + 1, status = 'error' where id = ?", (file["id"],))
        sql = "select id from knowledge_indexes where file_id = ?"
        for index in conn.execute(sql, (file["id"],)).fetchall():
            gone = conn.execute(
                """delete from knowledge_chunks
                where id in (select id from knowledge_chunks where index_id = ? limit ?)""",
                (index["id"], SWEPT),
            )
            if gone.rowcount:
                return gone.rowcount
            conn.execute("delete from knowledge_indexes where id = ?", (index["id"],))
        engine.state[SIGNS].outdate()
        if dialect(conn) == "sqlite":
            conn.execute(ERASE)
        if file["blob"]:
            engine.state[KNOWLEDGE].blobs.forget_in(conn, file["blob"])
        return conn.execute("delete from knowledge_files where id = ?", (file["id"],)).rowcount

    return PersonalData("knowledge_files", _export, forget)
