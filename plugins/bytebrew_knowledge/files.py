"""SQL for the files of a knowledge base."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec
from msgspec import Struct

from bytebrew import Conflict, Connection, NotFound, Row, new_uuid, now

from .dialect import elements

FileStatus = Literal["indexing", "ready", "error"]


class File(Struct, frozen=True, kw_only=True):
    """A file of a base; `progress` is in percent, `chunk_count` counts the chunks that are searched now.

    With the status `error` what was indexed before is still searched; `status_message` says what is wrong. A file with
    the source `folder` is one of the base's folder: the next look into it brings back what is deleted here.
    """

    id: str
    file_name: str
    file_type: str
    file_size: int
    source: Literal["upload", "folder"]
    status: FileStatus
    status_message: str | None
    progress: int
    chunk_count: int
    metadata: dict[str, str]
    created_at: str
    indexed_at: str | None


class Upload(NamedTuple):
    """A received file: its bytes are in `blob`, `digest` is their SHA-256.

    `seen` is the version of a folder's file, to detect changes; None for an uploaded file.
    """

    name: str
    type: str
    size: int
    digest: str
    blob: str
    metadata: dict[str, str]
    seen: str | None = None


class Refused(NamedTuple):
    """A file of a folder that cannot be indexed, and the reason."""

    name: str
    type: str
    size: int
    reason: str


class Waiting(NamedTuple):
    """A file that waits to be indexed."""

    id: str
    blob: str
    type: str
    revision: int
    model: str | None
    base_id: str


_SELECT = """select f.id, f.name as file_name, f.type as file_type, f.size as file_size,
  case when f.seen is null then 'upload' else 'folder' end as source, f.status, f.message as status_message, f.metadata,
  f.created_at, f.indexed_at, coalesce(l.done, 0) as chunk_count,
  case when f.status = 'ready' then 100 else coalesce(100 * b.done / case when b.total > 1 then b.total else 1 end, 0)
  end as progress
  from knowledge_files f left join knowledge_indexes l on l.file_id = f.id and l.state = 'live'
  left join knowledge_indexes b on b.file_id = f.id and b.state = 'building'"""


def list_all(conn: Connection, base_ids: Sequence[str]) -> list[File]:
    """Every file of some bases by name."""
    sql = f"{_SELECT} where f.base_id in ({elements('?')}) order by f.name, f.id"
    return [_file(row) for row in conn.execute(sql, (_json(base_ids),))]


def get(conn: Connection, base_ids: Sequence[str], key: str) -> File:
    """A file of some bases by id, or else by name; NotFound if there is none, Conflict if there are several."""
    sql = f"""{_SELECT} where f.base_id in ({elements("?1")}) and ?2 in (f.id, f.name)
      order by f.id <> ?2 limit 2"""
    rows = conn.execute(sql, (_json(base_ids), key)).fetchall()
    if not rows:
        raise NotFound(f"There is no file '{key[:255]}' in this knowledge base")
    if len(rows) > 1 and rows[0]["id"] != key:
        raise Conflict(f"There are several files '{key[:255]}' in these knowledge bases; name one by its id")
    return _file(rows[0])


def put(conn: Connection, base_id: str, upload: Upload) -> tuple[File, str]:
    """Stores a file, replacing one with its name; returns it and the blob that is no longer needed.

    Equal bytes are not indexed again. An uploaded file takes precedence over a folder's file with that name.
    """
    metadata = msgspec.json.encode(upload.metadata).decode()
    row = conn.execute(
        "select id, digest, blob, status, seen from knowledge_files where base_id = ? and name = ?",
        (base_id, upload.name),
    ).fetchone()
    if row is None:
        file_id, spare = new_uuid(), ""
        conn.execute(
            """insert into knowledge_files (id, base_id, name, type, size, digest, blob, metadata, revision, status,
            created_at, seen) values (?, ?, ?, ?, ?, ?, ?, ?, 1, 'indexing', ?, ?)""",
            (file_id, base_id, *upload[:5], metadata, now(), upload.seen),
        )
    elif upload.seen is not None and row["seen"] is None:
        file_id, spare = row["id"], upload.blob
    elif row["digest"] == upload.digest and row["status"] != "error":
        file_id, spare = row["id"], upload.blob
        sql = "update knowledge_files set metadata = ?, seen = ? where id = ?"
        conn.execute(sql, (metadata, upload.seen, file_id))
    else:
        file_id, spare = row["id"], row["blob"]
        conn.execute(
            """update knowledge_files set type = ?, size = ?, digest = ?, blob = ?, metadata = ?, seen = ?,
            revision = revision + 1, status = 'indexing', message = null where id = ?""",
            (*upload[1:5], metadata, upload.seen, file_id),
        )
    # its age protects it no longer: once no file refers to it, it may be deleted
    conn.execute("update knowledge_blobs set written_at = '' where name = ?", (upload.blob,))
    return get(conn, [base_id], file_id), spare


def follow(
    conn: Connection, base_id: str, come: Sequence[Upload | Refused] = (), gone: Sequence[str] = ()
) -> list[str]:
    """Adds and removes files of a base's folder, if the base is still there; returns blobs that are not needed.

    A rejected file is listed with the reason; its earlier index is still searched.
    """
    if conn.execute("select 1 from knowledge_bases where id = ?", (base_id,)).fetchone() is None:
        return [one.blob for one in come if isinstance(one, Upload)]
    spare: list[str] = []
    for one in come:
        if isinstance(one, Upload):
            spare.append(put(conn, base_id, one)[1])
        else:
            conn.execute(
                """insert into knowledge_files (id, base_id, name, type, size, digest, blob, metadata, revision,
                status, message, created_at, seen) values (?, ?, ?, ?, ?, '', '', '{}', 1, 'error', ?, ?, 'refused')
                on conflict (base_id, name) do update set status = 'error', message = excluded.message, seen = 'refused'
                where knowledge_files.seen is not null""",
                (new_uuid(), base_id, *one, now()),
            )
    sql = f"""select id from knowledge_files
      where base_id = ? and seen is not null and name in ({elements("?")})"""  # noqa: S608
    ids = _json([row["id"] for row in conn.execute(sql, (base_id, _json(gone)))])
    conn.execute(f"update knowledge_indexes set state = 'dead' where file_id in ({elements('?')})", (ids,))  # noqa: S608
    sql = f"delete from knowledge_files where id in ({elements('?')}) returning blob"  # noqa: S608
    return spare + [row["blob"] for row in conn.execute(sql, (ids,))]


def seen(conn: Connection, base_id: str) -> dict[str, str | None]:
    """The stored version of each folder file of a base, by name; None for uploaded files."""
    sql = "select name, seen from knowledge_files where base_id = ?"
    return {row["name"]: row["seen"] for row in conn.execute(sql, (base_id,))}


def delete(conn: Connection, base_ids: Sequence[str], key: str) -> str:
    """Removes a file by id or name; returns the blob that is no longer needed."""
    file = get(conn, base_ids, key)
    blob: str = conn.execute("delete from knowledge_files where id = ? returning blob", (file.id,)).fetchone()["blob"]
    conn.execute("update knowledge_indexes set state = 'dead' where file_id = ?", (file.id,))
    return blob


def reindex(conn: Connection, base_ids: Sequence[str], key: str = "") -> None:
    """Queues a file by id or name, or all files of the bases, for indexing; rejected files do not change."""
    found = [get(conn, base_ids, key)] if key else list_all(conn, base_ids)
    conn.execute(
        f"""update knowledge_files set revision = revision + 1, status = 'indexing', message = null
        where id in ({elements("?")}) and blob <> '' and coalesce(seen, '') <> 'refused'""",  # noqa: S608
        (_json([file.id for file in found]),),
    )


def blobs(conn: Connection) -> set[str]:
    """Every referenced blob."""
    return {row["blob"] for row in conn.execute("select blob from knowledge_files")}


def waiting(conn: Connection, busy: Sequence[str], full: Sequence[str]) -> Waiting | None:
    """The longest waiting file not in `busy`, of a base whose model is not in `full`; "" means no model."""
    row = conn.execute(
        f"""select f.id, f.blob, f.type, f.revision, b.embedding_model, b.id
        from knowledge_bases b join knowledge_files f on f.id = (select w.id from knowledge_files w
          where w.base_id = b.id and w.status = 'indexing' and w.id not in ({elements("?")})
          order by w.id limit 1)
        where coalesce(b.embedding_model, '') not in ({elements("?")}) order by f.id limit 1""",  # noqa: S608
        (_json(busy), _json(full)),
    ).fetchone()
    return Waiting(*row) if row else None


def count_waiting(conn: Connection) -> int:
    """Number of files that are not indexed yet."""
    sql = "select count(*) from knowledge_files where status = 'indexing'"
    return int(conn.execute(sql).fetchone()[0])


def _file(row: Row) -> File:
    values = dict(row)
    values["metadata"] = msgspec.json.decode(values["metadata"])
    return File(**values)


def _json(texts: Sequence[str]) -> str:
    return msgspec.json.encode(texts).decode()
