"""Moves a database: copies it, compares the copy, and only then lets engines use it."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

from bytebrew.base.progress import Progress
from bytebrew.contract.connection import Connection
from bytebrew.store.moving.compare import Compared, compare, counts
from bytebrew.store.moving.copy import Copy, Side, check_version


class Moved(NamedTuple):
    """The result of a move; without `epoch` the copy differs, and no engine starts on it.

    `epoch` is that with which the source would go on; `resumed` rows were copied before. `altered` texts had the
    character 0, and the tables of plugins that are not installed were left behind.
    """

    rows: int
    resumed: int
    compared: Compared
    altered: int
    left_behind: list[str]
    epoch: int | None


def move(old: Side, new: Side, check: Callable[[Connection], None] = lambda conn: None) -> Moved:
    """Copies all rows of a database into a new one, or goes on with a copy that was killed, and compares both.

    Raises BootError if an engine runs on one of them, or if they do not fit; `check` may refuse the source.
    """
    from_, to = old.driver.transfer(old.owners), new.driver.transfer(new.owners)
    with ExitStack() as stack:
        source = stack.enter_context(from_.reading())
        check_version(source, old)
        check(source)
        copy = Copy(old, new, source, stack.enter_context(to.writing()))
        resumed = copy.begin(from_, to)
        total = sum(counts(source, copy.tables).values())
        with Progress("copying", total, "rows") as progress:
            progress.at(resumed)
            copy.rows(progress.add)
        with Progress("putting indexes and keys in order"):
            copy.end(from_, to)
        sessions = source.execute("select count(*) from sessions").fetchone()[0]
        with Progress("comparing the replay of each session", sessions, "sessions") as progress:
            compared = compare(source, copy.target, copy.tables, progress.add)
        epoch = None if compared.differences else copy.finish(from_)
        return Moved(total, resumed, compared, copy.altered, copy.left_behind, epoch)
