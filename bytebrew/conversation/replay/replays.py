"""Runs replays in the background: a candidate answers recorded messages, and nothing outside is touched."""

import asyncio
import logging
from collections.abc import Container
from functools import partial
from typing import Annotated, Any

import anyio
import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from bytebrew.base.errors import EngineError, StorageError, TurnTimeout, Unprocessable
from bytebrew.base.formats import new_id
from bytebrew.base.rolling_timeout import ShortWaits
from bytebrew.contract.auth import Actor
from bytebrew.contract.connection import Connection
from bytebrew.contract.entities import Agent, Name
from bytebrew.contract.events import Event
from bytebrew.contract.messages import Message, ToolSpec
from bytebrew.conversation import failed_turns
from bytebrew.conversation.agent_loop import AgentLoop
from bytebrew.conversation.history import History, shown
from bytebrew.conversation.model_calls import BoundModel, Models
from bytebrew.conversation.replay.comparison import (
    MOST_TEXT,
    Figures,
    TurnReport,
    answer_of,
    compare_calls,
    same,
    similarity,
)
from bytebrew.conversation.replay.recorded_calls import RecordedCalls, Unrecorded
from bytebrew.conversation.tools.tool_calls import ToolCalls
from bytebrew.conversation.turn import Turn
from bytebrew.store import replays, turns
from bytebrew.store.configuration import schemas
from bytebrew.store.database.database import Database
from bytebrew.store.journal import Journal, Log
from bytebrew.store.open_turns import ResumePoint
from bytebrew.store.replays import RecordedTurn, Replay

log = logging.getLogger(__name__)

PARALLEL = 4
"""Turns that are replayed at a time."""
AGAIN_SECONDS = 2.0
"""Pause after a failure of the database."""


class NewReplay(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sessions to replay with a candidate: an agent, with another model or another prompt if these are set.

    Answers that are at least as alike as `min_similarity` (by words, 1 is equal) are no divergence.
    `max_cost_increase` in percent bounds the cost of all turns together.
    """

    sessions: Annotated[tuple[str, ...], Meta(min_length=1, max_length=500)]
    agent: Name
    model: Name | None = None
    system: Annotated[str, Meta(max_length=200_000)] | None = None
    min_similarity: Annotated[float, Meta(ge=0, le=1)] = 1.0
    max_cost_increase: Annotated[float, Meta(ge=0)] | None = None


class Candidate(Struct, frozen=True):
    """The agent that answers, and its model."""

    agent: Agent
    model: BoundModel


class ReplayedTurn(Turn):
    """A turn of which only the usage is stored: its events go nowhere, and its messages stay in `unsaved`."""

    def append(self, event: Event) -> int:
        """Drops the event."""
        return 0

    async def record(self, work: Any, *args: Any, **kwargs: Any) -> Any:
        """Stores the usage in place of the work."""
        with anyio.CancelScope(shield=True):
            await self._journal.write(self.log, turns.spend, self.unsaved, self.id)
        self.unsaved.spent.clear()
        self.unsaved.settlements.clear()


class Replays:
    """Runs stored replays one after another, some turns at a time; a restart goes on with turns without a report."""

    def __init__(self, db: Database, journal: Journal, models: Models, tools: ToolCalls) -> None:
        self._db, self._journal, self._models, self._tools = db, journal, models, tools
        self._wake = asyncio.Event()
        self._owner, self._ended = "", asyncio.Event()
        self._running: anyio.CancelScope

    def wake(self) -> None:
        """Starts with the replays that have been stored."""
        self._wake.set()

    async def run(self) -> None:
        """Runs for ever; starts with replays that a stopped engine left unfinished."""
        while True:
            self._wake.clear()
            failed = False
            try:
                for replay in await self._db.read(replays.running):
                    await self._run(replay)
            except StorageError as error:
                log.warning("a replay waits: %s", error)
                failed = True
            except Exception:
                log.exception("a replay failed; it goes on in %g s", AGAIN_SECONDS)
                failed = True
            with anyio.move_on_after(AGAIN_SECONDS if failed else None):
                await self._wake.wait()

    async def stop(self, owners: Container[str]) -> None:
        """Stops the run of one of these owners, whose row is deleted; what it has cost is stored on return."""
        if self._owner in owners:
            self._running.cancel()
            await self._ended.wait()

    async def candidate(self, new: NewReplay) -> Candidate:
        """The candidate of a request; NotFound or Unprocessable if it cannot be called."""
        return await self._db.read(self._candidate, new)

    def _candidate(self, conn: Connection, new: NewReplay) -> Candidate:
        entrance = schemas.member(conn, "", new.agent)
        agent, targets = entrance.agent, entrance.targets
        if new.model is not None:
            targets = schemas.targets_of(conn, new.model)
        if new.system is not None:
            agent = replace(agent, system=new.system)
        if not targets:
            message = f"There is no model '{new.model or agent.model}' for the candidate; name one in model"
            raise Unprocessable(message, code="model_missing")
        return Candidate(agent, self._models.bind(targets[0], targets[1:]))

    async def _run(self, replay: Replay) -> None:
        new = msgspec.json.decode(replay.definition, type=NewReplay)
        limit = asyncio.Semaphore(PARALLEL)

        async def limited(n: int) -> None:
            async with limit:
                await self._replay_turn(replay, new, n)

        self._owner, self._ended = replay.owner, asyncio.Event()
        try:
            with anyio.CancelScope() as self._running:
                async with anyio.create_task_group() as group:
                    for n in await self._db.read(replays.left, replay.id):
                        group.start_soon(limited, n)
                await self._db.write(replays.end, replay.id)
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            self._owner = ""
            self._ended.set()

    async def _replay_turn(self, replay: Replay, new: NewReplay, n: int) -> None:
        recorded = await self._db.read(replays.recorded, replay.id, n, 0)
        if recorded is None:  # its session was deleted
            return
        error = ""
        try:
            candidate = await self.candidate(new)
        except StorageError:
            raise
        except EngineError as failure:
            report = self._report(recorded, new, RecordedCalls(self._tools, recorded.own[1:]), None, failure.message)
            await self._db.write(replays.record, replay.id, n, report)
            return
        budget = candidate.model.room(candidate.agent) * 3 // 4
        recorded = await self._db.read(replays.recorded, replay.id, n, budget) or recorded
        user, *rest = recorded.own or [Message("user")]
        turn = ReplayedTurn(
            _new_turn(replay, recorded, user, candidate.agent),
            *(candidate.agent, candidate.model, self._journal, lambda turn: None),
        )
        turn.log = Log(recorded.session_id, ShortWaits())
        calls = RecordedCalls(self._tools, rest)
        if steers := calls.take_steers(turn):
            turn.resume_point = ResumePoint(user, steers, [], "", "", {})
        recall = partial(_recall, recorded)
        loop = AgentLoop(self._db, self._journal, self._models, calls, most_events=2**31, recall=recall)
        complete = True
        try:
            turn.model.check(user.attachments)
            with anyio.fail_after(candidate.agent.max_turn_duration):
                await loop.run(turn)
        except Unrecorded:
            complete = False
        except TimeoutError:
            error = TurnTimeout(f"The turn took longer than {candidate.agent.max_turn_duration} s").message
        except StorageError:  # not the candidate's fault: the turn is replayed again
            raise
        except EngineError as failure:
            error = failure.message
        except Exception:
            log.exception("turn %s of replay %s failed", recorded.id, replay.id)
            error = failed_turns.internal_error(turn.id).message
        finally:
            await turn.record(turns.spend)
        report = self._report(recorded, new, calls, turn, error, complete=complete)
        await self._db.write(replays.record, replay.id, n, report)

    def _report(
        self,
        recorded: RecordedTurn,
        new: NewReplay,
        calls: RecordedCalls,
        turn: Turn | None,
        error: str,
        *,
        complete: bool = True,
    ) -> TurnReport:
        compared = compare_calls(calls.calls, calls.matched)
        if not complete:  # what comes behind the end of the comparison is not missing
            compared = [one for one in compared if one.verdict != "missing"]
        order = [at for _, at in calls.matched if at is not None]
        answers = answer_of(recorded.own), answer_of(turn.unsaved.messages) if turn and complete and not error else ""
        alike = similarity(*answers) if complete and not error else 0.0
        failed = "The turn failed" if recorded.failed else ""
        called = any(one.verdict != "same" for one in compared) or order != sorted(order)
        differs = bool(error) != recorded.failed or (not recorded.failed and alike < new.min_similarity)
        input_tokens, output_tokens, cost, seconds = recorded.usage
        usage = turn.usage if turn else None
        return TurnReport(
            session_id=recorded.session_id,
            turn_id=recorded.id,
            message=recorded.own[0].content[:MOST_TEXT] if recorded.own else "",
            calls=tuple(compared),
            order_changed=order != sorted(order),
            complete=complete,
            same_answer=complete and not error and same(*answers),
            similarity=alike,
            recorded_answer=answers[0][:MOST_TEXT],
            candidate_answer=answers[1][:MOST_TEXT],
            recorded_error=failed,
            candidate_error=error,
            recorded=Figures(input_tokens=input_tokens, output_tokens=output_tokens, cost_usd=cost, seconds=seconds),
            candidate=Figures(
                input_tokens=usage.input_tokens if usage else 0,
                output_tokens=usage.output_tokens if usage else 0,
                cost_usd=usage.cost_usd if usage else None,
                seconds=round(sum(call.seconds for call in turn.model_calls), 3) if turn else 0.0,
            ),
            diverges=called or differs or not complete,
        )


async def _recall(
    recorded: RecordedTurn, db: Database, models: Models, turn: Turn, tools: tuple[ToolSpec, ...]
) -> History:
    """The recorded messages before the turn, in place of the session's newest."""
    return History(recorded.summary, shown(recorded.earlier))


def _new_turn(replay: Replay, recorded: RecordedTurn, user: Message, agent: Agent) -> turns.NewTurn:
    """The turn of a candidate, which whoever asked for the replay pays for."""
    return turns.NewTurn(
        id=new_id("turn"),
        session_id=recorded.session_id,
        schema=recorded.schema,
        agent=agent.name,
        actor=Actor(subject=replay.owner, name=replay.owner, kind="user", scopes=frozenset()),
        owner=recorded.owner,
        user_sub=recorded.user_sub,
        message=user.content,
        attachments=user.attachments,
        client_tools=recorded.client_tools,
        response_format=recorded.response_format,
        fresh=False,
        begins=False,
    )
