"""Log records on standard error: one line of text or JSON, with a trace id, without secrets."""

import logging
import re
import sys
import threading
from contextvars import ContextVar
from types import TracebackType
from typing import TextIO

import msgspec

from bytebrew.base.formats import now
from bytebrew.base.masking import redact

trace_id: ContextVar[str] = ContextVar("trace_id", default="-")
"""The request or turn that a record belongs to."""

_BREAKS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What ends a line, steers a terminal, or is no text at all."""
_MARGIN = "\n    | "
"""What begins each further line of a record on a terminal, so that none is taken for another record."""


class Line(logging.Formatter):
    """One line for each record, as `text` or `json`; its line ends are escaped, also those of a trace.

    On a `terminal` a trace has lines of its own.
    """

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        values = {
            "time": now(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "trace": trace_id.get(),
            "message": redact(record.getMessage()),
        }
        if record.exc_info:
            values["exception"] = redact(self.formatException(record.exc_info))
        if self.form == "json":
            values = {name: value.encode("utf-8", "backslashreplace").decode() for name, value in values.items()}
            return msgspec.json.encode(values).decode()
        trace = values.pop("exception", "").split("\n") if self.form == "terminal" else []
        return _MARGIN.join(map(_escaped, [" ".join(values.values()), *filter(None, trace)]))


def _escaped(text: str) -> str:
    return _BREAKS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def printed(form: str, words: str, level: int = logging.INFO) -> str:
    """What the command line prints: the words, or with `json` a record of them on one line."""
    if form != "json":
        return words
    return Line(form).format(logging.LogRecord("bytebrew", level, "", 0, "%s", (words,), None))


def terminal() -> TextIO | None:
    """Standard error where a person reads it, unless it takes nothing but JSON."""
    forms = {one.formatter.form for one in logging.getLogger().handlers if isinstance(one.formatter, Line)}
    if "json" in forms or sys.stderr is None or not sys.stderr.isatty():
        return None
    return sys.stderr


def start(level: str, form: str) -> None:
    """Sends the records of every logger to standard error from now on, and what Python itself would print there."""
    target = logging.StreamHandler(sys.stderr)
    on_terminal = form == "text" and sys.stderr is not None and sys.stderr.isatty()
    target.setFormatter(Line("terminal" if on_terminal else form))
    logging.basicConfig(level=level.upper(), handlers=[target], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _on_exception
    sys.unraisablehook = lambda lost: _on_exception(lost.exc_type, lost.exc_value, lost.exc_traceback)
    threading.excepthook = lambda lost: _on_exception(lost.exc_type, lost.exc_value, lost.exc_traceback)
    for name in ("hypercorn", "hpack", "httpx", "aiosqlite", "asyncio"):
        logging.getLogger(name).setLevel("WARNING")


def _on_exception(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """Logs what nothing has caught."""
    if error is not None and not issubclass(kind, KeyboardInterrupt | SystemExit):
        logging.getLogger("bytebrew").critical("nothing has caught this", exc_info=(kind, error, trace))
