"""Checks the structure of a database file, once or until a temporary disk failure is over."""

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from bytebrew.contract.connection import Connection

PAUSE = 1.0
"""Seconds before the first check, and least pause between two."""
REST = 10
"""Pause before the next check, as a multiple of the duration of the last one."""
_LARGE_SORT = """
select count(*) from (select randomblob(1000) as bytes from (
  with recursive numbers(n) as (select 1 union all select n + 1 from numbers limit 3000) select n from numbers
) order by bytes)
"""


def sort_on_disk(conn: Connection) -> None:
    """Sorts more than the page cache holds, for which SQLite needs a temporary file."""
    conn.execute(_LARGE_SORT)


def damage(conn: sqlite3.Connection) -> str:
    """Damage of the file's structure or its foreign keys, "" if there is none."""
    faults = [row[0] for row in conn.execute("pragma integrity_check")]
    if faults != ["ok"]:
        return str(faults[0])
    orphans = conn.execute("pragma foreign_key_check").fetchall()
    return f"{len(orphans)} rows point at nothing" if orphans else ""


async def wait_until_intact(path: Path) -> None:
    """Repeats the check until SQLite finds no damage."""
    pause = PAUSE
    while True:
        await asyncio.sleep(pause)
        begun = time.monotonic()
        if await asyncio.to_thread(_is_sound, path):
            return
        pause = max(PAUSE, REST * (time.monotonic() - begun))


def _is_sound(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as conn:
            return bool(conn.execute("pragma quick_check(1)").fetchone()[0] == "ok")
    except (sqlite3.Error, MemoryError):
        return False
