"""The chunks of a file in their order: what stands before and behind one that a search found."""

from msgspec import Struct

from bytebrew import Connection

from . import files


class Chunk(Struct, frozen=True, kw_only=True):
    """A part of a file as it is searched; `position` is its place in the file, from 1."""

    position: int
    heading: str
    text: str


def of_file(conn: Connection, base_id: str, key: str, first: int, limit: int) -> list[Chunk]:
    """The chunks of a file that are searched now, from a position."""
    file = files.get(conn, [base_id], key)
    rows = conn.execute(
        """select c.position, c.heading, c.text from knowledge_indexes i join knowledge_chunks c on c.index_id = i.id
        where i.file_id = ? and i.state = 'live' and c.position >= ? and c.position < ? order by c.position""",
        (file.id, first, first + limit),
    )
    return [Chunk(**row) for row in rows]
