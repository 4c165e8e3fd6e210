"""What the calls of models took, for whoever pays."""

from collections.abc import Sequence
from functools import partial
from typing import cast, get_args

from msgspec import Struct

from bytebrew.contract.route import Moment, Parameter, Request, Route, choice, moment
from bytebrew.engine import Engine
from bytebrew.store import usage
from bytebrew.store.sqlite.database import Database
from bytebrew.store.usage import GroupBy, Names, Sum


class Report(Struct, frozen=True, kw_only=True):
    """Sums by key, and the sum of all."""

    group_by: GroupBy
    data: list[Sum]
    total: Sum


async def get_usage(db: Database, names: Sequence[Names], request: Request[None]) -> Report:
    """Tokens and dollars by `group_by` (agent, model, schema, token or day), from `from` to `to`."""
    query = request.query
    group_by = cast(GroupBy, choice(query, "group_by", get_args(GroupBy), "day"))
    since, until = moment(query, "from"), moment(query, "to", last=True)
    return Report(
        group_by=group_by,
        data=await db.scan(usage.report, group_by, since, until, names),
        total=await db.scan(usage.total, since, until),
    )


def routes(engine: Engine) -> tuple[Route, ...]:
    """The routes, bound to the parts of an engine that they use."""
    names = [mode.names for mode in engine.auth_modes.values()]
    return (
        Route(
            "GET",
            "/api/v1/usage",
            "admin",
            partial(get_usage, engine.db, names),
            "Report tokens and cost",
            query={
                "group_by": Parameter("what the sums are of", GroupBy),
                "from": Parameter("at this time or later", Moment),
                "to": Parameter("before this time, or at it if it is a date", Moment),
            },
            answer=Report,
        ),
    )
