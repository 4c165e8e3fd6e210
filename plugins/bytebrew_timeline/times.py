"""Moments as the API has them."""

from datetime import UTC, datetime

from bytebrew import rfc3339


def of_seconds(at: float | None) -> str | None:
    """A moment in seconds since 1970; None for 0 and None, which stand for none."""
    return rfc3339(datetime.fromtimestamp(at, UTC)) if at else None
