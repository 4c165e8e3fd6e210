"""The routes of the statistics."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import get_args
from zoneinfo import ZoneInfo

from bytebrew import Detail, InvalidRequest, Request, moment, parse_time, rfc3339

from .causes import Causes, Mute, MutedCause, causes, mute
from .turns import Bucket, Statistics, statistics

DAY = timedelta(days=1)
_FIRST = datetime.min.replace(tzinfo=UTC)


async def get_statistics(request: Request[None]) -> Statistics:
    """Turns, failures, speed, tokens and cost by `bucket` (hour or day), from `from` to `to`; 800 parts at most."""
    query, known = request.query, get_args(Bucket)
    bucket: Bucket | None = next((one for one in known if one == (query.get("bucket") or "hour")), None)
    if bucket is None:
        message = f"one of {', '.join(known)}"
        raise InvalidRequest(f"bucket is {message}", details=[Detail("$.bucket", message)])
    name = query.get("tz") or "UTC"
    since, until = _between(query)
    return await request.engine.db.scan(statistics, since, until, bucket, _zone(name), name)


async def get_causes(request: Request[None]) -> Causes:
    """Why turns failed from `from` to `to`: those that failed alike are one cause; muted ones are marked."""
    since, until = _between(request.query)
    return await request.engine.db.scan(causes, rfc3339(since), rfc3339(until))


async def mute_cause(request: Request[Mute]) -> MutedCause:
    """Marks a cause as muted until a time or a number of turns, for whoever reads the list; turns fail as before."""
    return await request.write(mute, request.path["key"], request.body)


def _between(query: Mapping[str, str]) -> tuple[datetime, datetime]:
    """The times of a query; the last day unless it says otherwise."""
    until = parse_time(moment(query, "to", last=True) or rfc3339(datetime.now(UTC)))
    since = moment(query, "from")
    return parse_time(since) if since else max(until, _FIRST + DAY) - DAY, until


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        message = "write a zone such as Europe/Berlin, or UTC"
        details = [Detail("$.tz", message)]
        raise InvalidRequest(f"tz: '{name[:40]}' is not known; {message}", details=details) from error
