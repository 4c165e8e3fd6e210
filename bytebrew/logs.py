"""Log records on standard error: one line of text or JSON, with a trace id, without secrets."""

import logging
import re
import sys
from contextvars import ContextVar

import msgspec

from bytebrew.times import now

trace_id: ContextVar[str] = ContextVar("trace_id", default="-")
"""The request or turn that a record belongs to."""

_SECRETS = re.compile(
    r"bb_[0-9a-f]{64}"  # API tokens
    r"|eyJ[\w-]{8,}\.[\w-]+\.[\w-]+"  # JWTs
    r"|(?<=Bearer )\S+"
    r"|\b(?:sk|xai|gsk|AIza)[-_]?[A-Za-z0-9_-]{16,}"  # vendors' keys
)


def redact(text: str) -> str:
    """The text with everything that looks like a credential blotted out."""
    return _SECRETS.sub("***", text)


class Line(logging.Formatter):
    """One line for each record; a trace follows within the same line, its line ends escaped."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self._json = form == "json"

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
        if self._json:
            return msgspec.json.encode(values).decode()
        text = " ".join(values.values())
        return text.replace("\r", "\\r").replace("\n", "\\n")


def start(level: str, form: str) -> None:
    """Sends the records of every logger to standard error from now on."""
    target = logging.StreamHandler(sys.stderr)
    target.setFormatter(Line(form))
    logging.basicConfig(level=level.upper(), handlers=[target], force=True)
    for name in ("hypercorn", "httpx", "aiosqlite", "asyncio"):
        logging.getLogger(name).setLevel("WARNING")
