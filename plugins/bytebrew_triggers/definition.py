"""Definitions of schedules and webhooks, and the next time of a schedule."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from cronsim import CronSim, CronSimError
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from bytebrew import Detail, InvalidRequest, Name

Cron = Annotated[str, Meta(max_length=200, description="minute, hour, day, month, weekday, such as 0 9 * * MON-FRI")]
Zone = Annotated[str, Meta(max_length=64, description="a time zone of the IANA database, such as Europe/Berlin")]
Missed = Annotated[Literal["skip", "once"], Meta(description="what becomes of moments at which the engine was down")]
Title = Annotated[str, Meta(max_length=256)]
Text = Annotated[str, Meta(max_length=8192)]
Schema = Annotated[str, Meta(max_length=63)]
Secret = Annotated[str, Meta(max_length=1000)]
LEAST_SECRET = 16


class NewSchedule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A schedule to create: at each moment of `cron` the agent gets a task.

    Moments that were missed while the engine was down are skipped, or made up for by one task. `title` and `message`
    are the task's title and description; without a title it is the schedule's name.
    """

    name: Name
    cron: Cron
    agent: Name
    timezone: Zone = "UTC"
    missed: Missed = "skip"
    title: Title = ""
    message: Text = ""
    schema: Schema = ""
    enabled: bool = True


class SchedulePatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes to a schedule; what is left out stays."""

    cron: Cron | UnsetType = UNSET
    agent: Name | UnsetType = UNSET
    timezone: Zone | UnsetType = UNSET
    missed: Missed | UnsetType = UNSET
    title: Title | UnsetType = UNSET
    message: Text | UnsetType = UNSET
    schema: Schema | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class NewWebhook(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A webhook to create: each signed request to /api/v1/webhooks/{name} gives the agent a task.

    In `title` and `message`, the task's title and description, `{{body}}` is the whole body of the request and
    `{{body.order.id}}` a value in its JSON. Without a `secret` one is made, which is shown this once.
    """

    name: Name
    agent: Name
    title: Title = ""
    message: Text = "{{body}}"
    schema: Schema = ""
    enabled: bool = True
    secret: Secret = ""


class WebhookPatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes to a webhook; what is left out stays, and so does the secret when it is empty; it needs one."""

    agent: Name | UnsetType = UNSET
    title: Title | UnsetType = UNSET
    message: Text | UnsetType = UNSET
    schema: Schema | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    secret: Secret | UnsetType | None = UNSET


def changes(patch: Struct) -> dict[str, Any]:
    """The fields that a patch sets."""
    return {name: value for name, value in msgspec.structs.asdict(patch).items() if value is not UNSET}


def owner_after(owner: str, old: NewSchedule | NewWebhook, new: NewSchedule | NewWebhook, by: str) -> str:
    """Whose the tasks of a trigger are after a change: they act with the access of who said last what they do."""
    return owner if old == replace(new, enabled=old.enabled) else by


class Timing(NamedTuple):
    """When a schedule fires."""

    cron: str
    timezone: str


def next_moment(schedule: NewSchedule | Timing, after: datetime) -> datetime:
    """The first time of a schedule after another; InvalidRequest if there is none.

    As in Debian's cron, a time in the hour that daylight saving skips fires right after it, and one in the repeated
    hour fires once.
    """
    faults: Sequence[Detail]
    try:
        zone = ZoneInfo(schedule.timezone)
    except (KeyError, ValueError, OSError) as error:  # unknown, malformed, or a directory of zones
        faults = [Detail("$.timezone", "is no time zone; try Europe/Berlin")]
        raise InvalidRequest(f"'{schedule.timezone[:64]}' is not a time zone", details=faults) from error
    fields = schedule.cron.split()
    try:
        if len(fields) != 5:
            raise CronSimError("Five fields, please: minute, hour, day, month, weekday")
        moments = CronSim(" ".join(fields), after.astimezone(zone))
        # in the repeated hour cronsim returns times of the first one
        return next(moment for moment in moments if moment > after).astimezone(UTC)
    except (CronSimError, StopIteration, OverflowError) as error:
        message = str(error)[:300] or "It has no moment"
        faults = [Detail("$.cron", message)]
        raise InvalidRequest(f"'{schedule.cron[:200]}' is not a schedule: {message}", details=faults) from error
