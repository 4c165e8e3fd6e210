"""Times and durations as they are written outside: RFC 3339 in UTC, and Go's duration text."""

import re
from datetime import UTC, datetime

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d{1,12}(?:\.\d+)?)(ms|s|m|h|d)")


class Duration(float):
    """Seconds, read from text such as `90s`, `15m`, `1h30m`, `7d` or a bare number of seconds."""

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """Raises ValueError for anything but the forms above."""
        if re.fullmatch(r"\d{1,12}(\.\d+)?", text):
            return cls(float(text))
        parts = _PART.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise ValueError(f"{text!r} is not a duration: write it like 90s, 15m or 1h30m")
        return cls(sum(float(number) * _UNITS[unit] for number, unit in parts))


def uptime(seconds: float) -> str:
    """`2h34m12s`, whole seconds, as Go prints a duration."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def rfc3339(moment: datetime) -> str:
    """UTC with a `Z` and microseconds: of one width, so that text order is time order."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def now() -> str:
    """The present moment in RFC 3339."""
    return rfc3339(datetime.now(UTC))


def parse_time(text: str) -> datetime:
    """A moment from RFC 3339 text with an offset or `Z`; ValueError otherwise."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone: end it with Z")
    return moment.astimezone(UTC)
