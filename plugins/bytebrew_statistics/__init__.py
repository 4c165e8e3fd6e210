"""How the turns of an engine went: by hour or day, and the failed ones by their cause."""

from typing import Literal

from bytebrew import Engine, Migration, Moment, Parameter, Register, Route, Step, Subscriber, hookimpl

from . import failures
from .causes import Causes, Mute, MutedCause
from .routes import get_causes, get_statistics, mute_cause
from .turns import Statistics

MIGRATION = """
create index statistics_turns on turns (created_at) where parent_turn_id is null;
create table statistics_failures (
  turn_id text primary key references turns (id) on delete cascade,
  session_id text not null,
  cause text not null,
  code text not null,
  agent text not null,
  message text not null,
  failed_at text not null
) strict, without rowid;
create index statistics_failures_time on statistics_failures (failed_at);
create index statistics_failures_cause on statistics_failures (cause, failed_at);
create table statistics_mutes (
  cause text primary key,
  muted_until text,
  muted_count integer
) strict, without rowid;
"""
_TIMES = {
    "from": Parameter("at this time or later; a day before `to` unless told", Moment),
    "to": Parameter("before this time, or at it if it is a date; now unless told", Moment),
}
_CAUSES = "/api/v1/turns/causes"


@hookimpl
def register_migrations(register: Register[Migration]) -> None:
    register(Migration(1, MIGRATION))


@hookimpl
def register_subscribers(register: Register[Subscriber], engine: Engine) -> None:
    register(failures.keep)


@hookimpl
def register_retention(register: Register[Step]) -> None:
    register(failures.delete_old_mutes)


@hookimpl
def register_routes(register: Register[Route], engine: Engine) -> None:
    query: dict[str, str | Parameter] = {
        **_TIMES,
        "bucket": Parameter("how long each part is; an hour unless told", Literal["hour", "day", ""]),
        "tz": "the zone in which days begin, such as Europe/Berlin; UTC unless told",
    }
    statistics = "Report how turns went over time"
    register(Route("GET", "/api/v1/stats", "admin", get_statistics, statistics, query=query, answer=Statistics))
    causes = "List why turns failed"
    register(Route("GET", _CAUSES, "admin", get_causes, causes, query=_TIMES, answer=Causes))
    register(
        Route(
            "POST",
            f"{_CAUSES}/{{key}}/mute",
            "admin",
            mute_cause,
            "Mute a cause of failed turns",
            body=Mute,
            example={"muted_until": "2026-03-02T09:00:00Z"},
            answer=MutedCause,
        )
    )
