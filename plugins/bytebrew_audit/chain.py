"""The hash chain over the audit of changes: each entry has a hash over itself and the hash before it.

An entry's hash is over its public part and a commitment to the rest: SHA-256 over a random salt and what may name a
person. To mask a person the salt is deleted with the data; the commitment stays, and so does the chain. The beginning
and the end of the chain are signed with a key derived from the key file, and so is each masked entry: whoever can
change the database alone cannot compute these signatures.
"""

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import astuple, replace

from bytebrew import Connection, Engine, Row, now, placeholders

log = logging.getLogger(__name__)

CHAIN = """
alter table audit_changes add column salt text not null default '';
alter table audit_changes add column commitment text not null default '';
alter table audit_changes add column masked text not null default '';
alter table audit_changes add column hash text not null default '';
create table audit_chain (
  n integer primary key check (n = 1),
  since text not null,
  whole integer not null,
  first_id integer not null,
  first_hash text not null,
  last_id integer not null,
  last_hash text not null,
  signature text not null
) strict;
"""
PUBLIC = ("timestamp", "actor_type", "action", "resource_type")
PERSONAL = ("actor", "actor_id", "resource", "resource_id", "details")
BATCH = 500
PAGE = 2000
"""Entries that are verified in one read."""
_CHANGED = "was changed after it was written"
_BREAKS = (
    "does not follow from the entry before it: one of the two was changed, or one between them is missing or added"
)
_BEHIND = "is behind the signed end of the chain: it was added to the database and not by the engine"
_LATER = "is of an older engine and not in the chain yet; the next start goes on to take such entries in"
_BEFORE = "is before the signed beginning of the chain: it was added to the database and not by the engine"
_MISSING = "is the signed end of the chain and is missing, perhaps with others before it"
_UNSIGNED = "the signature of the chain's beginning and end is not by the key file of this data folder"
_NO_HEAD = "the chain's beginning and end are missing; in a file of an older engine, the next start begins the chain"


class Head(Struct, frozen=True, kw_only=True):
    """The signed ends of the chain: the entry before its first, and its last; `whole` once older entries are in it."""

    since: str
    whole: bool
    first_id: int = 0
    first_hash: str = ""
    last_id: int = 0
    last_hash: str = ""


class Break(Struct, frozen=True, kw_only=True):
    """The first entry at which the chain is broken, null for its signed ends, and how."""

    entry: str | None
    reason: str


class Verified(Struct, frozen=True, kw_only=True):
    """What a verification found: how many entries it read, and how many of them are masked.

    `since` is when the chain began, `last` the number and the hash of the newest entry: whoever has noted an older one
    elsewhere finds it in the list of entries.
    """

    intact: bool
    entries: int = 0
    masked: int = 0
    since: str = ""
    last: str = ""
    hash: str = ""
    broken: Break | None = None


class Progress(Struct, frozen=True, kw_only=True):
    """How far a verification is: the last entry that was read, its hash, and the counts."""

    last_id: int = -1
    last_hash: str = ""
    entries: int = 0
    masked: int = 0
    result: Verified | None = None


class Chain:
    """The chain of an engine, which signs with a key derived from its key file."""

    def __init__(self, engine: Engine) -> None:
        self._key = engine.secrets.derived(b"audit")

    def append(self, conn: Connection, entry: dict[str, Any]) -> None:
        """Stores an entry at the end of the chain, within the transaction of the change."""
        head, signed = self._head(conn)
        behind = conn.execute("select coalesce(max(id), 0) from audit_changes").fetchone()[0]
        entry_id, salt = max(head.last_id, behind) + 1, os.urandom(16).hex()
        commitment = committed(salt, entry)
        digest = hashed(head.last_hash, entry_id, entry, commitment)
        values = {**entry, "id": entry_id, "salt": salt, "commitment": commitment, "hash": digest}
        names = ", ".join(values)
        sql = f"insert into audit_changes ({names}) values ({placeholders(values)})"  # noqa: S608
        conn.execute(sql, (*values.values(),))
        self._store(conn, replace(head, last_id=entry_id, last_hash=digest), signed=signed)

    def begin(self, conn: Connection) -> bool:
        """Takes a batch of entries of an older engine into the chain; returns whether there may be more."""
        head, signed = self._head(conn)
        if head.whole:
            return False
        rows = conn.execute("select * from audit_changes where id > ? order by id limit ?", (head.last_id, BATCH))
        batch = rows.fetchall()
        for row in batch:
            salt = os.urandom(16).hex()
            commitment = committed(salt, row)
            digest = hashed(head.last_hash, row["id"], row, commitment)
            sql = "update audit_changes set salt = ?, commitment = ?, hash = ? where id = ?"
            conn.execute(sql, (salt, commitment, digest, row["id"]))
            head = replace(head, last_id=row["id"], last_hash=digest)
        self._store(conn, replace(head, whole=not batch), signed=signed)
        return bool(batch)

    def expire(self, conn: Connection, before: str) -> Sequence[object]:
        """Deletes a batch of the oldest entries and moves the signed beginning of the chain behind them.

        Entries are deleted from the beginning only; one with a time in the future goes with those around it. Those that
        were changed, such as to look old, leave the chain broken.
        """
        head, signed = self._head(conn)
        if not head.whole:  # entries of an older engine are still taken in
            return ()
        rows = conn.execute("select * from audit_changes order by id limit 200").fetchall()
        moment, gone = now(), 0
        for n, row in enumerate(rows, 1):
            if row["timestamp"] < before:
                gone = n
            elif row["timestamp"] <= moment:
                break
        if not gone:
            return ()
        last = rows[gone - 1]
        at = Progress(last_id=head.first_id, last_hash=head.first_hash)
        for row in rows[:gone]:
            if row["id"] <= head.first_id or self._fault(row, at, head):
                log.error("the audit: entry %s, which retention deletes, was not as it was written", row["id"])
                signed = False
                break
            at = replace(at, last_id=row["id"], last_hash=row["hash"])
        conn.execute("delete from audit_changes where id <= ?", (last["id"],))
        self._store(conn, replace(head, first_id=last["id"], first_hash=last["hash"]), signed=signed)
        return [row["id"] for row in rows[:gone]]

    def mask(self, conn: Connection, row: Row, values: Mapping[str, str]) -> None:
        """Replaces values of an entry that name a person, deletes its salt, and signs the result."""
        values = {name: values.get(name, row[name]) for name in PERSONAL}
        signature = self._of_masked(row, values) if self._fits(row) else ""  # what was changed before stays found
        names = ", ".join(f"{name} = ?" for name in values)
        sql = f"update audit_changes set {names}, salt = '', masked = ? where id = ?"  # noqa: S608
        conn.execute(sql, (*values.values(), signature, row["id"]))

    def verify(self, conn: Connection, at: Progress) -> Progress:
        """Verifies the next page of entries; the last page has the result."""
        row = conn.execute("select * from audit_chain").fetchone()
        if row is None:
            return replace(at, result=Verified(intact=False, broken=Break(entry=None, reason=_NO_HEAD)))
        head = self._read(row)
        if self._signature(head) != row["signature"]:
            return self._end(at, head, Break(entry=None, reason=_UNSIGNED))
        if at.last_id < head.first_id:  # the first page, or the oldest entries were deleted meanwhile
            older = conn.execute("select min(id) from audit_changes where id <= ?", (head.first_id,)).fetchone()[0]
            if older is not None:
                return self._end(at, head, Break(entry=str(older), reason=_BEFORE))
            at = replace(at, last_id=head.first_id, last_hash=head.first_hash)
        count = 0
        for entry in conn.execute("select * from audit_changes where id > ? order by id limit ?", (at.last_id, PAGE)):
            count += 1
            if reason := self._fault(entry, at, head):
                return self._end(at, head, Break(entry=str(entry["id"]), reason=reason))
            at = replace(
                at,
                last_id=entry["id"],
                last_hash=entry["hash"],
                entries=at.entries + 1,
                masked=at.masked + bool(entry["masked"]),
            )
        if count == PAGE:
            return at
        if (at.last_id, at.last_hash) != (head.last_id, head.last_hash):
            return self._end(at, head, Break(entry=str(head.last_id), reason=_MISSING))
        return self._end(at, head, None)

    def verified(self, conn: Connection) -> Iterator[Progress]:
        """All pages of a verification on one connection; the last has the result."""
        at = Progress()
        while at.result is None:
            at = self.verify(conn, at)
            yield at

    def _fault(self, entry: Row, at: Progress, head: Head) -> str:
        if entry["id"] > head.last_id:
            return _BEHIND if head.whole else _LATER
        if not self._fits(entry):
            return _CHANGED
        follows = entry["hash"] == hashed(at.last_hash, entry["id"], entry, entry["commitment"])
        return "" if follows else _BREAKS

    def _fits(self, entry: Row) -> bool:
        """Whether the part of an entry that may name a person is as it was written or masked."""
        if entry["masked"]:
            return bool(entry["masked"] == self._of_masked(entry, entry))
        return bool(entry["commitment"] == committed(entry["salt"], entry))

    def _end(self, at: Progress, head: Head, broken: Break | None) -> Progress:
        result = Verified(
            intact=broken is None,
            entries=at.entries,
            masked=at.masked,
            since=head.since,
            last=str(head.last_id),
            hash=head.last_hash,
            broken=broken,
        )
        return replace(at, result=result)

    def _head(self, conn: Connection) -> tuple[Head, bool]:
        """The ends of the chain, which begins if there is none, and whether their signature fits."""
        row = conn.execute("select * from audit_chain").fetchone()
        if row is None:
            any_chained = conn.execute("select 1 from audit_changes where hash <> '' limit 1").fetchone()
            return Head(since=now(), whole=any_chained is not None), any_chained is None
        head = self._read(row)
        if not (signed := self._signature(head) == row["signature"]):
            log.error("the audit: %s; bytebrew audit verify says more", _UNSIGNED)
        return head, signed

    def _read(self, row: Row) -> Head:
        return Head(**{name: row[name] for name in Head.__struct_fields__} | {"whole": bool(row["whole"])})

    def _store(self, conn: Connection, head: Head, *, signed: bool) -> None:
        """Stores the ends; once a signature does not fit, none is made, so that a break is never covered up."""
        values = (*astuple(head), self._signature(head) if signed else "")
        names = (*Head.__struct_fields__, "signature")
        conn.execute(
            f"""insert into audit_chain (n, {", ".join(names)}) values (1, {placeholders(values)})
            on conflict (n) do update set {", ".join(f"{name} = excluded.{name}" for name in names)}""",  # noqa: S608
            values,
        )

    def _signature(self, head: Head) -> str:
        return self._key.mac(msgspec.json.encode(["ends", *astuple(head)])).hex()

    def _of_masked(self, entry: Any, values: Any) -> str:
        parts = ["masked", entry["id"], entry["hash"], *(values[name] for name in PERSONAL)]
        return self._key.mac(msgspec.json.encode(parts)).hex()


def committed(salt: str, entry: Any) -> str:
    """The commitment to the part of an entry that may name a person."""
    return hashlib.sha256(msgspec.json.encode([salt, *(entry[name] for name in PERSONAL)])).hexdigest()


def hashed(before: str, entry_id: int, entry: Any, commitment: str) -> str:
    """The hash of an entry: SHA-256 over the JSON array of the hash before, number, public fields and commitment."""
    parts = [before, entry_id, *(entry[name] for name in PUBLIC), commitment]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()
