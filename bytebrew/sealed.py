"""Stored credentials that take the key file: the columns of tables and views that are named `sealed_` and more."""

import sqlite3
from contextlib import closing
from pathlib import Path

from bytebrew.epoch import uri_to_read
from bytebrew.errors import BootError


def count(conn: sqlite3.Connection) -> int:
    """How many there are."""
    columns = conn.execute(
        """select m.name, c.name from sqlite_master m join pragma_table_info(m.name) c
        where m.type in ('table', 'view') and c.name glob 'sealed_*'"""
    ).fetchall()
    sql = 'select count(*) from "{}" where length("{}") > 0'
    return sum(conn.execute(sql.format(table, column)).fetchone()[0] for table, column in columns)


def check_key(key: Path, database: Path) -> None:
    """BootError where the key file is gone and credentials are stored: a new key would not open them."""
    if key.exists() or not database.exists():
        return
    try:
        with closing(sqlite3.connect(uri_to_read(database), uri=True, timeout=60)) as conn:
            lost = count(conn)
    except sqlite3.Error:  # what is wrong with the file is for those to say who open it
        return
    if lost:
        raise BootError(
            f"{key} is missing, and {lost} stored credentials cannot be opened without it: put it back from your "
            f"backup. If it is lost for good, write a new one (openssl rand -hex 32 > {key}) and set them anew"
        )
