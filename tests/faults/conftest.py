"""One line at the end: how many operations were made to fail, and what was wrong then."""

from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Adds up what the sweeps have reported, over all workers."""
    reports = [one for kind in ("passed", "failed") for one in terminalreporter.getreports(kind)]
    kept = [dict(one.user_properties) for one in reports]
    if swept := sum(one.get("swept", 0) for one in kept):
        wrong = sum(one.get("violations", 0) for one in kept)
        terminalreporter.write_line(f"{swept} operations swept, {wrong} violations")
