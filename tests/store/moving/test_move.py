"""A move copies every row, goes on after a kill at any point, and compares what it has copied."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bytebrew.base.errors import BootError
from bytebrew.engine import Engine
from bytebrew.store.moving.move import Moved, move
from tests.commands import environment
from tests.store.moving.places import KINDS, NEWEST, Place, filled, new_place
from tests.upgrades.conftest import old_data, unpacked

__all__ = ["old_data", "unpacked"]
ENDED = 10_000
"""More transactions than there are: once all is copied."""
KILLED = f"""
import json, os, signal, sys
from bytebrew.engine import Engine
from bytebrew.store.moving import copy, move

def side(settings):
    engine = Engine(settings)
    return copy.Side(engine.driver, engine.migrations)

def kill(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

def counted(driver, conn):
    left[0] -= 1
    return transaction(driver, conn) if left[0] >= 0 else kill()

left, transaction = [int(sys.argv[1])], copy.transaction
copy.transaction = counted
if left == [{ENDED}]:
    move.compare = kill
move.move(*map(side, json.loads(sys.argv[2])))
"""
"""A move that is killed before its transaction of a number, or once all is copied."""

HELD = """
import sys
from pathlib import Path
from bytebrew.base.machine import lock

with lock.held(Path(sys.argv[1])):
    print(flush=True)
    input()
"""
"""What an engine does with its database."""


@pytest.fixture
def old(old_data: Callable[[str], Path]) -> Place:
    return filled(old_data(NEWEST))


def kill(old: Place, new: Place, transactions: int) -> None:
    """Moves until a number of transactions are committed, of which there is one for each page of a table."""
    settings = json.dumps([old.settings, new.settings])
    command = [sys.executable, "-c", KILLED, str(transactions), settings]
    killed = subprocess.run(command, env=environment(), stderr=subprocess.PIPE)
    assert killed.returncode == -signal.SIGKILL, killed.stderr


def moved(old: Place, new: Place) -> Moved:
    return move(old.side, new.side)


def check_closed(new: Place) -> None:
    unfinished = "bytebrew migrate has not finished copying into this database"
    with pytest.raises(BootError, match=unfinished), Engine(new.settings).migrated():
        pass


@pytest.mark.parametrize("kind", KINDS)
def test_a_database_is_equal_after_it_was_moved_there_and_back(kind: str, old: Place, tmp_path: Path) -> None:
    before = old.rows()
    assert all(before.values())
    there, back = new_place(kind, tmp_path / "there"), new_place("sqlite", tmp_path / "back")
    first = moved(old, there)
    assert first.compared.differences == []
    assert first.rows == sum(map(len, before.values()))
    assert first.compared.events > 399
    assert there.rows() == before | {"history": [(1, 1, 1)]}
    assert moved(there, back).compared == first.compared
    assert back.rows() == there.rows() | {"history": [(1, 1, 1)]}
    with old.opened() as was, back.opened() as now:
        schema = "select name, sql from sqlite_master order by name"
        keys = "select name, seq from sqlite_sequence order by name"
        for sql in (schema, keys):
            assert [*map(tuple, now.execute(sql))] == [*map(tuple, was.execute(sql))]
        assert now.execute("pragma integrity_check").fetchone()[0] == "ok"
        assert now.execute("pragma foreign_key_check").fetchall() == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_copied_from_begins_another_epoch_if_it_is_used_again(kind: str, old: Place, tmp_path: Path) -> None:
    assert moved(old, new_place(kind, tmp_path / "new")).epoch == 2
    assert old.rows()["history"] == [(1, 2, 1)]


@pytest.mark.parametrize("transactions", [0, 1, 30, 60, ENDED])
@pytest.mark.parametrize("kind", KINDS)
def test_a_move_that_was_killed_goes_on(transactions: int, kind: str, old: Place, tmp_path: Path) -> None:
    before, new = old.rows(), new_place(kind, tmp_path / "new")
    kill(old, new, transactions)
    check_closed(new)
    result = moved(old, new)
    assert (result.resumed > 0) == (transactions > 1)
    assert result.compared.differences == []
    assert new.rows() == before | {"history": [(1, 1, 1)]}
    with Engine(new.settings).migrated() as conn:
        assert conn.execute("select epoch from history").fetchone()[0] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_differences_are_found_and_the_copy_stays_closed(kind: str, old: Place, tmp_path: Path) -> None:
    new = new_place(kind, tmp_path / "new")
    kill(old, new, ENDED)
    with new.opened() as conn:
        sql = """select session_id, max(n) from events
          where type = 'done' and session_id not in (select session_id from removals) group by 1 limit 2"""
        (changed, end), (shorter, last) = map(tuple, conn.execute(sql).fetchall())
        conn.execute("update events set data = ? where session_id = ? and n = ?", (b"{}", changed, end))
        conn.execute("delete from events where session_id = ? and n = ?", (shorter, last))
        conn.execute("delete from settings")
    result = moved(old, new)
    assert result.epoch is None
    named = {one.partition(" replays ")[0] for one in result.compared.differences}
    assert {f"session {changed}", f"session {shorter}"} <= named
    assert len([one for one in result.compared.differences if one.startswith("table ")]) == 2
    with pytest.raises(BootError, match="has not finished"), Engine(new.settings).migrated():
        pass
    assert old.rows()["history"] == [(1, 1, 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_database_with_tables_is_no_target(kind: str, old: Place, tmp_path: Path) -> None:
    new = new_place(kind, tmp_path / "new")
    with Engine(new.settings).migrated():
        pass
    with pytest.raises(BootError, match="is not empty"):
        moved(old, new)
    assert new.rows()["sessions"] == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("number", "refusal"), [(99, "is newer than this mcp: it has migration 99"), (-1, "is older than this mcp")]
)
def test_tables_of_another_version_are_refused(
    kind: str, number: int, refusal: str, old: Place, tmp_path: Path
) -> None:
    new = new_place(kind, tmp_path / "new")
    with old.opened() as conn:
        conn.execute("delete from migrations where owner = 'mcp' and number > 1")
        if number > 0:
            conn.execute("update migrations set number = ? where owner = 'mcp'", (number,))
    with pytest.raises(BootError, match=refusal):
        moved(old, new)


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_does_not_go_on_once_its_source_was_used(kind: str, old: Place, tmp_path: Path) -> None:
    new = new_place(kind, tmp_path / "new")
    kill(old, new, 20)
    with Engine(old.settings).migrated() as conn:
        conn.execute("update settings set value = '2'")
    with pytest.raises(BootError, match="has been used since"):
        moved(old, new)


def test_no_engine_may_run_on_the_source(old: Place, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HELD, str(old.data / "bytebrew.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()) as engine:
        assert engine.stdin and engine.stdout
        engine.stdout.readline()
        with pytest.raises(BootError, match="another engine runs on"):
            moved(old, new_place("sqlite", tmp_path / "new"))
        engine.stdin.close()
