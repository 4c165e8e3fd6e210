"""The files of a knowledge base."""

import sqlite3
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec
from msgspec import Struct

from bytebrew import NotFound, new_uuid, now

from . import bases

FileStatus = Literal["indexing", "ready", "error"]


class File(Struct, frozen=True, kw_only=True):
    """A file of a base; `progress` is in percent, `chunk_count` counts the chunks that are searched now.

    With the status `error` what was indexed before is still searched; `status_message` says what is wrong.
    """

    id: str
    file_name: str
    file_type: str
    file_size: int
    status: FileStatus
    status_message: str | None
    progress: int
    chunk_count: int
    metadata: dict[str, str]
    created_at: str
    indexed_at: str | None


class Upload(NamedTuple):
    """A file that has come: its bytes lie under the name `blob`, `digest` is their SHA-256."""

    name: str
    type: str
    size: int
    digest: str
    blob: str
    metadata: dict[str, str]


class Waiting(NamedTuple):
    """A file whose index is to be made."""

    id: str
    blob: str
    type: str
    revision: int
    model: str | None


_SELECT = """select f.id, f.name as file_name, f.type as file_type, f.size as file_size, f.status,
  f.message as status_message, f.metadata, f.created_at, f.indexed_at, coalesce(l.done, 0) as chunk_count,
  case when f.status = 'ready' then 100 else coalesce(100 * b.done / max(b.total, 1), 0) end as progress
  from knowledge_files f left join knowledge_indexes l on l.file_id = f.id and l.state = 'live'
  left join knowledge_indexes b on b.file_id = f.id and b.state = 'building'"""


def list_all(conn: sqlite3.Connection, base_ids: Sequence[str]) -> list[File]:
    """Every file of some bases by name."""
    sql = f"{_SELECT} where f.base_id in (select value from json_each(?)) order by f.name, f.id"  # noqa: S608
    return [_file(row) for row in conn.execute(sql, (_json(base_ids),))]


def get(conn: sqlite3.Connection, base_ids: Sequence[str], key: str) -> File:
    """A file of some bases by id, or else by name; NotFound otherwise."""
    sql = f"""{_SELECT} where f.base_id in (select value from json_each(?1)) and ?2 in (f.id, f.name)
      order by f.id <> ?2 limit 1"""  # noqa: S608
    row = conn.execute(sql, (_json(base_ids), key)).fetchone()
    if row is None:
        raise NotFound(f"There is no file '{key[:255]}' in this knowledge base")
    return _file(row)


def put(conn: sqlite3.Connection, base_id: str, upload: Upload) -> tuple[File, str]:
    """The file, new or in the place of the one of its name, and the blob that nothing needs any more.

    The same bytes again are not indexed again.
    """
    bases.identify(conn, base_id)
    metadata = msgspec.json.encode(upload.metadata).decode()
    row = conn.execute(
        "select id, digest, blob, status from knowledge_files where base_id = ? and name = ?", (base_id, upload.name)
    ).fetchone()
    if row is None:
        file_id, spare = new_uuid(), ""
        conn.execute(
            """insert into knowledge_files (id, base_id, name, type, size, digest, blob, metadata, revision, status,
            created_at) values (?, ?, ?, ?, ?, ?, ?, ?, 1, 'indexing', ?)""",
            (file_id, base_id, *upload[:5], metadata, now()),
        )
    elif row["digest"] == upload.digest and row["status"] != "error":
        file_id, spare = row["id"], upload.blob
        conn.execute("update knowledge_files set metadata = ? where id = ?", (metadata, file_id))
    else:
        file_id, spare = row["id"], row["blob"]
        conn.execute(
            """update knowledge_files set type = ?, size = ?, digest = ?, blob = ?, metadata = ?,
            revision = revision + 1, status = 'indexing', message = null where id = ?""",
            (*upload[1:5], metadata, file_id),
        )
    return get(conn, [base_id], file_id), spare


def delete(conn: sqlite3.Connection, base_ids: Sequence[str], key: str) -> str:
    """Removes a file by id or name from the search at once; the blob that nothing needs any more."""
    file = get(conn, base_ids, key)
    blob: str = conn.execute("delete from knowledge_files where id = ? returning blob", (file.id,)).fetchone()["blob"]
    conn.execute("update knowledge_indexes set state = 'dead' where file_id = ?", (file.id,))
    return blob


def reindex(conn: sqlite3.Connection, base_ids: Sequence[str], key: str = "") -> None:
    """Has a file by id or name, or every file of the bases, indexed once more."""
    found = [get(conn, base_ids, key)] if key else list_all(conn, base_ids)
    conn.execute(
        """update knowledge_files set revision = revision + 1, status = 'indexing', message = null
        where id in (select value from json_each(?))""",
        (_json([file.id for file in found]),),
    )


def blobs(conn: sqlite3.Connection) -> set[str]:
    """Every blob that a file needs."""
    return {row["blob"] for row in conn.execute("select blob from knowledge_files")}


def waiting(conn: sqlite3.Connection, busy: list[str]) -> Waiting | None:
    """The file that has waited longest and that nobody is busy with."""
    row = conn.execute(
        """select f.id, f.blob, f.type, f.revision, b.embedding_model from knowledge_files f
        join knowledge_bases b on b.id = f.base_id
        where f.status = 'indexing' and f.id not in (select value from json_each(?)) order by f.id limit 1""",
        (_json(busy),),
    ).fetchone()
    return Waiting(*row) if row else None


def _file(row: sqlite3.Row) -> File:
    values = dict(row)
    values["metadata"] = msgspec.json.decode(values["metadata"])
    return File(**values)


def _json(texts: Sequence[str]) -> str:
    return msgspec.json.encode(texts).decode()
