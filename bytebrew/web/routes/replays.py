"""Replays: recorded conversations with a candidate, and what differs."""

from functools import partial
from typing import Literal

import msgspec
from msgspec import Struct

from bytebrew.contract.auth import Actor
from bytebrew.contract.connection import Connection
from bytebrew.contract.entities import Live
from bytebrew.contract.route import Request, Route
from bytebrew.conversation.replay.comparison import TurnReport
from bytebrew.conversation.replay.replays import NewReplay
from bytebrew.engine import Engine
from bytebrew.store import replays
from bytebrew.store.database.database import Database
from bytebrew.store.replays import Replay


class Totals(Struct, frozen=True, kw_only=True):
    """What the recorded turns and the candidate's took; `cost_increase` is in percent.

    It is null if a cost is not known, or if the recorded one is 0.
    """

    diverging: int
    recorded_tokens: int
    candidate_tokens: int
    recorded_cost_usd: float | None
    candidate_cost_usd: float | None
    cost_increase: float | None
    recorded_seconds: float
    candidate_seconds: float


class ReplayReport(Struct, frozen=True, kw_only=True):
    """A replay: its turns so far, and the verdict once it is `completed`.

    `passed` says that no turn diverges beyond the tolerances and that the cost stays within its own: with a
    `max_cost_increase` costs that are not known do not pass, and neither does any cost in place of none. `turns` is the
    number of recorded turns, those of sessions that were deleted meanwhile left out.
    """

    id: str
    status: Live[Literal["running", "completed"]]
    created_at: str
    finished_at: Live[str | None]
    turns: Live[int]
    done: Live[int]
    passed: Live[bool | None]
    totals: Live[Totals]
    reports: Live[list[TurnReport]]


def _report(conn: Connection, actor: Actor, replay_id: str) -> ReplayReport:
    return _report_of(conn, replays.get(conn, actor, replay_id))


def _report_of(conn: Connection, replay: Replay) -> ReplayReport:
    reports = [msgspec.json.decode(one, type=TurnReport) for one in replays.reports(conn, replay.id)]
    new = msgspec.json.decode(replay.definition, type=NewReplay)
    totals = _totals(reports)
    too_dear = new.max_cost_increase is not None and _rises(totals, new.max_cost_increase)
    ended = replay.status == "completed"
    return ReplayReport(
        id=replay.id,
        status=replay.status,
        created_at=replay.created_at,
        finished_at=replay.finished_at,
        turns=replay.turns,
        done=replay.done,
        passed=not totals.diverging and not too_dear if ended else None,
        totals=totals,
        reports=reports,
    )


def _rises(totals: Totals, most: float) -> bool:
    """Whether the cost rises by more than so many percent: from nothing to something, too, or if it is not known."""
    return totals.candidate_cost_usd != 0 if totals.cost_increase is None else totals.cost_increase > most


def _totals(reports: list[TurnReport]) -> Totals:
    recorded, candidate = [one.recorded for one in reports], [one.candidate for one in reports]
    costs = [
        sum(cost for cost in known if cost is not None) if any(cost is not None for cost in known) else None
        for known in ([one.cost_usd for one in recorded], [one.cost_usd for one in candidate])
    ]
    before, after = costs
    return Totals(
        diverging=sum(one.diverges for one in reports),
        recorded_tokens=sum(one.input_tokens + one.output_tokens for one in recorded),
        candidate_tokens=sum(one.input_tokens + one.output_tokens for one in candidate),
        recorded_cost_usd=before,
        candidate_cost_usd=after,
        cost_increase=round(100 * (after / before - 1), 2) if before and after is not None else None,
        recorded_seconds=round(sum(one.seconds for one in recorded), 3),
        candidate_seconds=round(sum(one.seconds for one in candidate), 3),
    )


async def start_replay(engine: Engine, request: Request[NewReplay]) -> ReplayReport:
    """Starts a replay of the turns of some sessions; it runs in the background, over a restart too.

    A candidate answers each recorded message after the recorded history before it. Tools do not run: their recorded
    results stand in for them, and where there is none the turn's comparison ends. No session changes.
    """
    await engine.replays.candidate(request.body)

    def start(conn: Connection) -> ReplayReport:
        return _report_of(conn, replays.create(conn, request.actor, request.body, request.body.sessions))

    started = await request.write(start)
    engine.duties.wake("replays")
    return started


async def get_replay(db: Database, request: Request[None]) -> ReplayReport:
    """A replay with the reports of the turns that are done."""
    return await db.scan(_report, request.actor, request.path["id"])


def routes(engine: Engine) -> tuple[Route, ...]:
    """The routes, bound to the parts of an engine that they use."""
    return (
        Route(
            "POST",
            "/api/v1/replays",
            "config",
            partial(start_replay, engine),
            "Replay sessions with another agent, model or prompt",
            body=NewReplay,
            example={"sessions": ["6f1c2d1e-8a42-4c39-9d7e-6a1f7f0e2b11"], "agent": "sales", "min_similarity": 0.8},
            answer=ReplayReport,
            status=201,
            idempotent=True,
            also={404: None},
        ),
        Route(
            "GET",
            "/api/v1/replays/{id}",
            "config",
            partial(get_replay, engine.db),
            "Get a replay and its report",
            answer=ReplayReport,
        ),
    )
