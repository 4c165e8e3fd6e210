"""Long work shows how far it is: a bar on a terminal, a line each ten seconds in a log; short work shows nothing."""

import io
import logging
import os
import pty
import subprocess
import sys

import pytest

from bytebrew.base.progress import Progress


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def work(progress: Progress, clock: Clock, seconds: int, *, steps: int = 10) -> None:
    """So many seconds of work, each of so many steps."""
    with progress:
        for step in range(1, seconds * steps + 1):
            clock.now = step / steps
            progress.add(1)


def test_what_is_through_within_two_seconds_shows_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for terminal in (io.StringIO(), None):
        clock = Clock()
        work(Progress("copying", 15, terminal=terminal, clock=clock), clock, 1)
        assert terminal is None or terminal.getvalue() == ""
    assert not caplog.records


def test_a_terminal_gets_a_bar_that_moves_and_an_end() -> None:
    clock, terminal = Clock(), io.StringIO()
    work(Progress("copying", 100, "pages", terminal=terminal, clock=clock), clock, 10)
    first, *rest, last = terminal.getvalue().split("\r\x1b[2K")[1:]
    assert first == "[######------------------------] copying: 20 %, 20 of 100 pages, 2 s"
    assert len(rest) > 50
    assert last == "copying: 100 %, 100 of 100 pages, done after 10 s\n"


def test_a_log_gets_a_line_each_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    work(Progress("copying", 400, "pages", clock=clock), clock, 40)
    assert [one.getMessage() for one in caplog.records] == [
        f"copying: {n} %, {4 * n} of 400 pages, {4 * n // 10} s so far" for n in (25, 50, 75, 100)
    ]


def test_work_of_which_nobody_knows_the_end_says_that_it_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = Clock()
    with Progress("importing shop.yaml", clock=clock) as progress:
        for _ in range(25):
            clock.now += 1
            progress.beat()
    assert [one.getMessage() for one in caplog.records] == [
        "importing shop.yaml, 10 s so far",
        "importing shop.yaml, 20 s so far",
    ]


def test_a_terminal_that_takes_json_alone_gets_no_bar() -> None:
    program = """
import sys
from bytebrew.base import logs
from bytebrew.base.progress import Progress
moment = [0.0]
logs.start("info", sys.argv[1])
with Progress("copying", 10, clock=lambda: moment[0]) as progress:
    moment[0] = 11.0
    progress.add()
"""
    for form, shown in (("json", '"message":"copying: 10 %, 1 of 10, 11 s so far"'), ("text", "[###-----")):
        ours, theirs = pty.openpty()
        subprocess.run([sys.executable, "-c", program, form], stderr=theirs, check=True, timeout=30)
        told = os.read(ours, 65536).decode()
        os.close(ours)
        os.close(theirs)
        assert shown in told
        assert ("\x1b" in told) == (form == "text")


def test_what_fails_leaves_its_bar_with_an_end() -> None:
    clock, terminal = Clock(), io.StringIO()
    with pytest.raises(OSError, match="full"), Progress("copying", 10, terminal=terminal, clock=clock) as progress:
        clock.now = 3
        progress.add()
        raise OSError("full")
    assert terminal.getvalue().endswith("copying: 10 %, 1 of 10, stopped after 3 s\n")
