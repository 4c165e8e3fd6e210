"""Copies the database before migrations, so that an older engine can be installed again."""

import logging
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from bytebrew.base.errors import BootError
from bytebrew.base.progress import Progress
from bytebrew.store.backups.copies import (
    STAMP,
    check_space,
    copy_database,
    free_name,
    make_file,
    oldest_first,
    stamp,
    sync,
)
from bytebrew.store.sqlite.epoch import log_of, uri_to_read

log = logging.getLogger(__name__)

KEPT = 3
"""Number of copies kept: the newest ones, each with a different set of migrations."""


def keep_copy(path: Path, steps: Sequence[str]) -> None:
    """Copies the database beside itself; a failure is logged, and the engine continues.

    `steps` are the migrations that follow, such as `core 12`.
    """
    path = path.resolve()
    copy = free_name(path.with_name(f"{path.name}.before-{stamp()}"))
    part = path.with_name(f"{copy.name}.part")
    words = ", ".join(steps)
    try:
        size = sum(one.stat().st_size for one in (path, log_of(path)) if one.exists())
        check_space(path.parent, 2 * size, "a copy of the database, and for changing it")
        part.unlink(missing_ok=True)
        make_file(part, "the copy")
        with Progress("copying the database", unit="pages") as progress:
            copy_database(path, uri_to_read(path), part, at=progress.of)
        sync(part)
        part.replace(copy)
        sync(path.parent)
    except (sqlite3.Error, BootError, OSError) as error:
        part.unlink(missing_ok=True)
        log.warning("migrations follow (%s) without a copy of the database: %s", words, error)
        return
    log.info("migrations follow (%s); the database as it was is %s", words, copy)
    _clear(path)


def delete_copies(path: Path) -> int:
    """Deletes every copy that was made of a database before migrations; returns their number."""
    copies = [*_own(path.resolve()), *path.resolve().parent.glob(f"{path.resolve().name}.before-*.part")]
    for copy in copies:
        copy.unlink(missing_ok=True)
    return len(copies)


def _clear(path: Path) -> None:
    """Deletes all but the newest copies, each with a different set of migrations.

    So repeated failed starts do not delete the copy from before the first one.
    """
    kept: list[object] = []
    for copy in reversed(_own(path)):
        if len(kept) < KEPT and (tables := _reached(copy)) not in kept:
            kept.append(tables)
            continue
        copy.unlink(missing_ok=True)
        log.info("removed %s, for there are newer ones", copy)


def _own(path: Path) -> list[Path]:
    own = re.compile(rf"{re.escape(path.name)}\.before-{STAMP}(-\d+)?")
    return oldest_first(one for one in path.parent.iterdir() if own.fullmatch(one.name))


def _reached(copy: Path) -> object:
    """The newest migration of each owner in a copy, or the copy's name if it cannot be read."""
    sql = "select owner, max(number) from migrations group by owner order by owner"
    try:
        with closing(sqlite3.connect(f"{copy.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as conn:
            return conn.execute(sql).fetchall()
    except sqlite3.Error:
        return copy.name
