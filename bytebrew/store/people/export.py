"""Writes everything that is stored of a person into a file."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import IO

import msgspec

from bytebrew.base.errors import StorageError
from bytebrew.base.formats import now
from bytebrew.contract.connection import Connection
from bytebrew.contract.governance.personal_data import Person, PersonalData
from bytebrew.store.database.database import Database
from bytebrew.store.people import personal_rows

_encode = msgspec.json.Encoder().encode
ROWS = 100


def export(db: Database, folder: Path, kinds: Iterable[PersonalData], sub: str, mask: str) -> IO[bytes]:
    """A temporary file without a name that holds a JSON document: `data` has a list of rows for each kind.

    It is read from one snapshot of the database, on a connection of its own. StorageError if the database cannot be
    read or the file not be written.
    """
    try:
        with ExitStack() as stack:
            file: IO[bytes] = stack.enter_context(tempfile.TemporaryFile(dir=folder))
            _write(file, db, kinds, sub, mask)
            file.seek(0)
            stack.pop_all()  # the caller closes it
            return file
    except OSError as error:
        raise StorageError(f"The export cannot be written: {error.strerror}") from error


def _write(file: IO[bytes], db: Database, kinds: Iterable[PersonalData], sub: str, mask: str) -> None:
    with db.snapshot() as conn:
        person = personal_rows.find(conn, sub, mask)
        file.write(b'{"sub":%s,"exported_at":%s,"data":{' % (_encode(sub), _encode(now())))
        for n, kind in enumerate(kinds):
            file.write(b"%s%s:[" % (b"," if n else b"", _encode(kind.name)))
            file.writelines(_rows(kind, conn, person))
            file.write(b"]")
        file.write(b"}}")


def _rows(kind: PersonalData, conn: Connection, person: Person) -> Iterator[bytes]:
    rows, first = iter(kind.export(conn, person)), True
    while some := [*islice(rows, ROWS)]:
        yield (b"" if first else b",") + _encode(some)[1:-1]
        first = False
