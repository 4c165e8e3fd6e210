"""How a struct becomes a row, and a row a struct again."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from msgspec import UNSET, Struct, UnsetType

from bytebrew import Connection, insert, placeholders, update
from bytebrew.base.formats import struct_of

pytestmark = pytest.mark.sqlite


class Duck(Struct, frozen=True):
    name: str
    tags: tuple[str, ...] = ()
    size: dict[str, Any] | None = None
    loud: bool | UnsetType = UNSET


@pytest.fixture
def conn() -> Iterator[Connection]:
    with closing(sqlite3.connect(":memory:")) as conn:
        conn.row_factory = sqlite3.Row
        conn.execute("create table ducks (id integer, name text, tags text, size text, loud integer default 1)")
        yield conn


def test_a_row_that_is_inserted_from_a_struct_is_that_struct_again(conn: Connection) -> None:
    insert(conn, "ducks", Duck("daisy", ("white", "\u00fc"), {"cm": 40}, loud=False), id=7)
    row = conn.execute("select * from ducks").fetchone()
    assert (row["id"], row["tags"]) == (7, '["white","\u00fc"]')
    assert struct_of(row, Duck) == Duck("daisy", ("white", "\u00fc"), {"cm": 40}, loud=False)


def test_a_field_that_is_unset_keeps_the_default_of_its_column(conn: Connection) -> None:
    insert(conn, "ducks", Duck("daisy"), id=7)
    assert tuple(conn.execute("select loud, size from ducks").fetchone()) == (1, None)


def test_an_update_changes_the_rows_of_its_key_and_counts_them(conn: Connection) -> None:
    for key in (1, 2):
        insert(conn, "ducks", {"id": key, "name": "daisy"})
    assert update(conn, "ducks", {"tags": ["'; drop table ducks"], "loud": UNSET}, id=1, name="daisy") == 1
    assert update(conn, "ducks", {"loud": 0}, id=3) == 0
    assert [row["tags"] for row in conn.execute("select tags from ducks order by id")] == [
        '["\'; drop table ducks"]',
        None,
    ]


@pytest.mark.parametrize("names", [[], ["a"], ["a", "b", "c"]])
def test_placeholders_take_any_number_of_values(conn: Connection, names: list[str]) -> None:
    for name in names:
        insert(conn, "ducks", {"name": name})
    sql = f"select count(*) from ducks where name in ({placeholders(names)})"
    assert conn.execute(sql, names).fetchone()[0] == len(names)
