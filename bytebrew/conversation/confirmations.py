"""Questions put to a person about a tool call: asking, waiting, answering."""

from datetime import UTC, datetime, timedelta
from math import inf
from typing import TYPE_CHECKING, Any

import anyio

from bytebrew.base.errors import Conflict, Detail, Gone, InvalidRequest, NotFound, Stale
from bytebrew.base.formats import new_id, now, parse_time, rfc3339
from bytebrew.base.visible_text import as_meant
from bytebrew.contract.auth import Actor
from bytebrew.contract.connection import Connection
from bytebrew.contract.events import ConfirmationAsked, Risk
from bytebrew.contract.messages import ToolCall
from bytebrew.contract.route import Record, unrecorded
from bytebrew.store import confirmations
from bytebrew.store.confirmations import Confirmation, Kind, Verdict

if TYPE_CHECKING:
    from bytebrew.conversation.turn import Turn
    from bytebrew.engine import Engine

OVER = ("expired", "cancelled")
_YES = frozenset({"approve", "approved", "yes", "ok", "confirm"})
_OUTCOMES: dict[str, Verdict] = {"retry": "retry", "mark_done": "mark_done", "fail": "fail"}


def verdict(kind: Kind, word: str) -> Verdict:
    """What an answer means: whatever is no known yes is a no."""
    word = word.strip().lower()
    if kind == "unknown_outcome":
        return _OUTCOMES.get(word, "fail")
    return "approve" if word in _YES else "reject"


class Confirmations:
    """The questions that wait for an answer."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._answered: dict[str, anyio.Event] = {}

    def question(self, turn: "Turn", call: ToolCall, kind: Kind, source: str, risk: Risk) -> Confirmation:
        """A question about a call of a tool from that source, not yet asked."""
        seconds = self._seconds()
        return Confirmation(
            id=new_id("conf"),
            session_id=turn.root.session_id,
            turn_id=turn.id,
            call_id=call.call_id,
            kind=kind,
            agent=turn.agent.name,
            source=source,
            tool=call.tool,
            risk=risk,
            input=call.input,
            args_digest=confirmations.digest(source, call.tool, call.input),
            status="pending",
            verdict=None,
            edited=None,
            reason="",
            answered_by=None,
            answered_at=None,
            created_at=now(),
            expires_at=rfc3339(datetime.now(UTC) + timedelta(seconds=seconds)) if seconds < inf else None,
        )

    def _seconds(self) -> float:
        """How long a question waits for its answer."""
        return self._engine.settings.core.confirmation_ttl or inf

    def announce(self, turn: "Turn", asked: Confirmation) -> None:
        """Puts a question into the streams of the turn and of the person's own turn; store it without an await."""
        asked = confirmations.shown(asked)
        turn.append(
            ConfirmationAsked(
                session_id=asked.session_id,
                turn_id=turn.root.id,
                confirmation_id=asked.id,
                call_id=asked.call_id,
                source=asked.source,
                tool=asked.tool,
                risk=asked.risk,
                input=asked.input,
                args_digest=asked.args_digest,
                kind=asked.kind,
                expires_at=asked.expires_at,
            )
        )

    async def settled(self, turn: "Turn", asked: Confirmation) -> Confirmation:
        """The question once it is answered or has expired; the turn's time limit stands still meanwhile.

        The wait is by monotonic time and no longer than the setting, whatever the clock is set to meanwhile.
        """
        db = self._engine.db
        answered = self._answered.setdefault(asked.id, anyio.Event())
        until = anyio.current_time() + min(_seconds_until(asked.expires_at), self._seconds())
        try:
            with turn.waiting():
                while True:
                    found = await db.read(confirmations.find, asked.id)
                    if found is None:
                        raise NotFound("The question was deleted with its session")
                    if found.status != "pending":
                        return found
                    with anyio.CancelScope(deadline=until) as limit:
                        await answered.wait()
                    if limit.cancelled_caught:
                        await db.write(confirmations.expire, asked.id)
        finally:
            self._answered.pop(asked.id, None)

    async def answer(
        self,
        actor: Actor,
        keys: tuple[str, ...],
        words: tuple[str, ...],
        *,
        session_id: str | None = None,
        input: dict[str, Any] | None = None,
        reason: str = "",
        digest: str = "",
        record: Record = unrecorded,
    ) -> Confirmation:
        """Takes an answer to the question that all keys name: by its id, or within a session by that of its call.

        `digest` is that of what the person was shown, the answer Stale where it is another. In `input` a text as it was
        shown stands for the one behind it. The same answer again is the same; Conflict for another one and where an id
        is that of several calls, Gone once the question is over, NotFound otherwise and for a token of other schemas.
        """
        db = self._engine.db
        asked = await self._named(actor, keys[0], session_id)
        if digest not in ("", asked.args_digest):
            raise Stale("The question is about another call than the one that was shown", confirmations.shown(asked))
        input = as_meant(input, asked.input)
        if other := next((key for key in keys if key not in (asked.id, asked.call_id)), None):
            raise Conflict(f"'{keys[0][:255]}' and '{other[:255]}' do not name the same question")
        wanted = verdict(asked.kind, words[0])
        if input is not None and wanted != "approve":
            details = [Detail("$.input", "only an approval takes edited arguments")]
            raise InvalidRequest("Only an approval takes edited arguments", details=details)
        reason = reason or (words[1] if len(words) > 1 else "")

        def store(conn: Connection) -> Confirmation | None:
            confirmations.answer(conn, asked.id, wanted, input, reason, actor.subject)
            found = confirmations.find(conn, asked.id)
            if found is not None and found.status not in OVER and (found.verdict, found.edited) == (wanted, input):
                record(conn, found)
            return found

        found = await db.write(store)
        if asked.id in self._answered:
            self._answered[asked.id].set()
        if found is None or found.status in OVER:
            raise Gone(f"The question '{asked.id}' is over: nobody waits for its answer")
        if (found.verdict, found.edited) != (wanted, input):
            raise Conflict(f"The question '{asked.id}' was answered with {found.verdict}", code="already_answered")
        return found

    async def _named(self, actor: Actor, key: str, session_id: str | None) -> Confirmation:
        """The question of this id, or of the one call of this id: an answer to an earlier call is not for a later."""
        db = self._engine.db
        if asked := await db.read(confirmations.find, key, session_id, actor.schemas):
            return asked
        alike = await db.read(confirmations.about, key, session_id, actor.schemas) if session_id is not None else []
        if not alike:
            raise NotFound(f"There is no question '{key[:255]}'")
        waiting = [one for one in alike if one.status == "pending"]
        if len(waiting) > 1 or len({one.turn_id for one in alike}) > 1:
            ids = ", ".join(one.id for one in waiting or alike[-1:])
            raise Conflict(
                f"Several questions are about a call '{key[:255]}'; answer by confirmation_id, such as {ids}"
            )
        return (waiting or alike)[-1]


def _seconds_until(moment: str | None) -> float:
    return inf if moment is None else (parse_time(moment) - datetime.now(UTC)).total_seconds()
