"""What a delta takes on the disk once its turn is packed."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx

from bytebrew.store.sqlite.pragmas import connect
from tests.bench.data import add_schema, admin, configure
from tests.bench.goals.table import Goal, Row
from tests.bench.goals.trees import Bench, Tree, data_of, engine, vendor
from tests.bench.servers import Server

SHORT, LONG = 50, 1000
TURNS = 200
LONG_AGO = "2020-01-01T00:00:00.000000Z"
LONGEST = 300.0
"""Seconds after which a file that is not packed is given up."""


def disk(bench: Bench) -> Iterator[object]:
    """The growth of a file by long answers beside the one by short ones, so that what a turn takes is no part of it."""
    with vendor(bench) as double:
        taken = [_taken(bench, tree, double) for tree in bench.trees]
    yield Row.alone("bytes on disk of a packed delta", taken, Goal("<=", 12, "bytes"))


def _taken(bench: Bench, tree: Tree, double: Server) -> float:
    grown: list[int] = []
    for words in (SHORT, LONG):
        name = f"words-{words}"
        data = data_of(bench, tree, name)
        with engine(bench, tree, name) as one:
            configure(one, double)
            add_schema(one, double, name)
        before = _used(data)
        with engine(bench, tree, name) as one, admin(one) as api:
            for _ in range(TURNS):
                _chat(api, name)
        _age(data)
        with engine(bench, tree, name) as one, admin(one) as api:
            _clear_away(api, data)
        grown.append(_used(data) - before)
    return (grown[1] - grown[0]) / TURNS / (LONG - SHORT)


def _chat(api: httpx.Client, schema: str) -> str:
    answer = api.post(f"/schemas/{schema}/chat", json={"message": "Tell me.", "stream": False}).raise_for_status()
    session_id: str = answer.json()["session_id"]
    return session_id


def _age(data: Path) -> None:
    """Has all turns ended long ago."""
    with closing(connect(data / "bytebrew.db")) as conn:
        conn.execute("begin")
        conn.execute("update turns set finished_at = ?", (LONG_AGO,))
        conn.execute("commit")


def _clear_away(api: httpx.Client, data: Path) -> None:
    """Waits until all turns that have aged are packed, with a deletion that has the engine begin at once."""
    api.delete(f"/sessions/{_chat(api, 'burst')}").raise_for_status()
    until = time.monotonic() + LONGEST
    with closing(connect(data / "bytebrew.db", read_only=True)) as conn:
        sql = "select count(*) from turns where packed = 0 and finished_at <= ?"
        while conn.execute(sql, (LONG_AGO,)).fetchone()[0]:
            if time.monotonic() > until:
                raise SystemExit("the engine packs nothing")
            time.sleep(0.1)


def _used(data: Path) -> int:
    """Bytes of a file whose engine has ended, without pages that are free."""
    with closing(connect(data / "bytebrew.db")) as conn:
        count, free, size = (
            conn.execute(f"pragma {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((count - free) * size)
