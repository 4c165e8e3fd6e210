"""Log records on standard error: one line of text or JSON, with a trace id, without secrets."""

import logging
import re
import sys
from contextvars import ContextVar
from typing import Literal

import msgspec

from bytebrew.notation import now
from bytebrew.options import Option

trace_id: ContextVar[str] = ContextVar("trace_id", default="-")
"""The request or turn that a record belongs to."""

_SECRETS = re.compile(
    r"bb_[0-9a-f]{64}"  # API tokens
    r"|eyJ[\w-]{8,}\.[\w-]+\.[\w-]+"  # JWTs
    r"|(?i:(?<=bearer ))\S+"
    r"|\b(?:(?:sk|xai|gsk|hf|pplx)[-_]|AIza)[A-Za-z0-9_-]{16,}"  # vendors' keys
)
_BREAKS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What ends a line, steers a terminal, or is no text at all."""


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
            values = {name: value.encode("utf-8", "backslashreplace").decode() for name, value in values.items()}
            return msgspec.json.encode(values).decode()
        return _BREAKS.sub(lambda found: found[0].encode("unicode_escape").decode(), " ".join(values.values()))


def option(default: str) -> Option:
    """The setting of the least severe record to log, which counts at once."""
    return Option(
        key="log.level",
        type=Literal["debug", "info", "warning", "error"],
        default=default,
        help="least severe record to log, in the place of BYTEBREW_LOG_LEVEL",
        applied=lambda level: logging.getLogger().setLevel(level.upper()),
    )


def start(level: str, form: str) -> None:
    """Sends the records of every logger to standard error from now on."""
    target = logging.StreamHandler(sys.stderr)
    target.setFormatter(Line(form))
    logging.basicConfig(level=level.upper(), handlers=[target], force=True)
    for name in ("hypercorn", "hpack", "httpx", "aiosqlite", "asyncio"):
        logging.getLogger(name).setLevel("WARNING")
