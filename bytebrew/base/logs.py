"""Logging to standard error: one line of text or JSON per record, with a trace id and masked secrets."""

import logging
import re
import sys
import threading
from contextvars import ContextVar
from types import TracebackType
from typing import TextIO

import msgspec

from bytebrew.base.errors import Fenced
from bytebrew.base.formats import now
from bytebrew.base.masking import redact

trace_id: ContextVar[str] = ContextVar("trace_id", default="-")
"""The id of a log record's request or turn."""

_BREAKS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Line ends, control characters of terminals, and surrogates."""
_MARGIN = "\n    | "
"""Prefix of a record's further lines on a terminal, so that they do not look like other records."""


class Line(logging.Formatter):
    """Formats a record as one line, `text` or `json`; line ends are escaped, also in tracebacks.

    With `terminal` a traceback has its own lines. `worker` names this process among several, if it is not empty.
    """

    def __init__(self, form: str, worker: str = "") -> None:
        super().__init__()
        self.form = form
        self._worker = {"worker": worker} if worker else {}

    def format(self, record: logging.LogRecord) -> str:
        """Formats a record."""
        values = {
            "time": now(),
            "level": record.levelname.lower(),
            **self._worker,
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
    return _BREAKS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def printed(form: str, message: str, level: int = logging.INFO) -> str:
    """A message of the command line: plain, or with `json` as a log record."""
    if form != "json":
        return message
    return Line(form).format(logging.LogRecord("bytebrew", level, "", 0, "%s", (message,), None))


def terminal() -> TextIO | None:
    """Standard error if it is a terminal and logs are not JSON."""
    forms = {one.formatter.form for one in logging.getLogger().handlers if isinstance(one.formatter, Line)}
    if "json" in forms or sys.stderr is None or not sys.stderr.isatty():
        return None
    return sys.stderr


def start(level: str, form: str, worker: str = "") -> None:
    """Sends all log records to standard error, also warnings and uncaught exceptions; `worker` as in `Line`."""
    target = logging.StreamHandler(sys.stderr)
    on_terminal = form == "text" and sys.stderr is not None and sys.stderr.isatty()
    target.setFormatter(Line("terminal" if on_terminal else form, worker))
    target.addFilter(_is_news)
    logging.basicConfig(level=level.upper(), handlers=[target], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _on_exception
    sys.unraisablehook = lambda lost: _on_exception(lost.exc_type, lost.exc_value, lost.exc_traceback)
    threading.excepthook = lambda lost: _on_exception(lost.exc_type, lost.exc_value, lost.exc_traceback)
    for name in ("hypercorn", "hpack", "httpx", "asyncio"):
        logging.getLogger(name).setLevel("WARNING")


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a record is more than one more thing that a fenced node cannot do, which `bytebrew serve` says once."""
    return not (record.exc_info and isinstance(record.exc_info[1], Fenced))


def _on_exception(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """Logs an uncaught exception."""
    if error is not None and not issubclass(kind, KeyboardInterrupt | SystemExit):
        logging.getLogger("bytebrew").critical("nothing has caught this", exc_info=(kind, error, trace))
