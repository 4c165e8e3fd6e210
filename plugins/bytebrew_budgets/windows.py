"""Calendar windows in UTC: the hour, the day and the month of a moment."""

from datetime import datetime, timedelta
from typing import Literal

Window = Literal["hour", "day", "month"]


def window_at(window: Window, moment: datetime) -> tuple[datetime, datetime]:
    """The beginning of the window that the moment is in, and its end, which is the beginning of the next."""
    hour = moment.replace(minute=0, second=0, microsecond=0)
    if window == "hour":
        return hour, hour + timedelta(hours=1)
    day = hour.replace(hour=0)
    if window == "day":
        return day, day + timedelta(days=1)
    first = day.replace(day=1)
    return first, (first + timedelta(days=31)).replace(day=1)


def written(moment: datetime) -> str:
    """`2026-03-01T09:00:00Z`: windows begin at whole hours."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
