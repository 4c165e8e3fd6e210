"""What running tool calls ask for: answers of a person, and answers of a model."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import anyio
from msgspec.structs import replace

from bytebrew.base.errors import ToolError, Unprocessable
from bytebrew.contract.connection import Connection
from bytebrew.contract.engine import Sampled
from bytebrew.contract.events import MessageDelta
from bytebrew.contract.messages import ModelRequest, Spent, Stop
from bytebrew.contract.provider import Target
from bytebrew.contract.tool import Call, Question, QuestionAnswer
from bytebrew.conversation.model_calls import BoundModel, Models
from bytebrew.conversation.tools.confirmations import Confirmations
from bytebrew.conversation.tools.questions import Questions
from bytebrew.conversation.tools.running_call import OVER, RunningCall
from bytebrew.conversation.turn import Turn
from bytebrew.store import confirmations, messages, turns
from bytebrew.store.configuration.models import find_target
from bytebrew.store.confirmations import Confirmation
from bytebrew.store.database.database import Database
from bytebrew.store.journal import Journal


class CallRequests(NamedTuple):
    """Answers the requests of running tool calls, of the turns by id."""

    db: Database
    journal: Journal
    models: Models
    confirmations: Confirmations
    questions: Questions
    turns: Mapping[str, Turn]

    async def ask(self, call: Call, questions: Sequence[Question], resume_state: str) -> list[QuestionAnswer]:
        """A person's answers to questions that are asked at once.

        Questions that the call asked before a restart are not asked again: their answers count.
        """
        turn, running = self._running(call)
        # before the event, so that who has it is shown that the turn waits
        with running.request(), running.paused(), turn.waiting():
            wanted = [self.confirmations.elicitation(turn, running, call.call_id, one) for one in questions]
            asked = [_earlier(running, one) or one for one in wanted]
            new = [one for one in asked if one in wanted]
            for question in new:
                self.confirmations.announce(turn, question)
            turn.elicited.add(call.call_id)
            try:
                await self.journal.write(turn.log, self._store, turn, new, [one.id for one in asked], resume_state)
                answered = [await self.confirmations.answered(turn, one) for one in asked]
            except anyio.get_cancelled_exc_class():
                if turn.cancelled_for is None:  # a stopped turn goes on with its questions
                    with anyio.CancelScope(shield=True):
                        await self.db.write(confirmations.dismiss, [one.id for one in asked])
                raise
            await self.db.write(confirmations.take, [one.id for one in asked])
        return [_answer(one) for one in answered]

    def _store(
        self, conn: Connection, turn: Turn, new: Sequence[Confirmation], ids: Sequence[str], resume_state: str
    ) -> None:
        confirmations.elicit(conn, new, ids, resume_state)
        for question in new:
            self.questions.notify(conn, turn, question)

    async def sample(self, call: Call, request: ModelRequest, model: str) -> Sampled:
        """A model's answer to a request of a tool call, which its turn pays for; one call at a time."""
        turn, running = self._running(call)
        with running.request():
            return await self._sampled(turn, request, model)

    async def _sampled(self, turn: Turn, request: ModelRequest, model: str) -> Sampled:
        async with turn.sampling:
            bound = await self._model(turn, model)
            text: list[str] = []
            stop, name = Stop(), bound.name
            try:
                async with turn.call(self.models, request, bound) as events:
                    async for event in events:
                        if isinstance(event, MessageDelta):
                            text.append(event.content)
                        elif isinstance(event, Spent):
                            name = event.model
                            turn.spend(replace(event, purpose="sampling"))
                        elif isinstance(event, Stop):
                            stop = event
                            turn.unsaved.spent[-1] = replace(turn.unsaved.spent[-1], stop=stop.reason)
            finally:
                await turn.record(_save_usage, turn)
        return Sampled("".join(text), name, stop.reason)

    async def _model(self, turn: Turn, name: str) -> BoundModel:
        """The configured model of this name; that of the turn without one, or where the caller pays with a key."""
        if not name or turn.model.own_key:
            return turn.model
        return self.models.bind(await self.db.read(_target, name))

    def _running(self, call: Call) -> tuple[Turn, RunningCall]:
        turn = self.turns.get(call.turn_id)
        running = turn.running_calls.get(call.call_id) if turn else None
        if turn is None or running is None:
            raise ToolError(OVER)
        return turn, running


def _target(conn: Connection, name: str) -> Target:
    target = find_target(conn, name)
    if target is None:
        raise Unprocessable(f"There is no model '{name}'", code="model_missing")
    return target


def _save_usage(conn: Connection, unsaved: turns.Unsaved, turn: Turn) -> None:
    messages.append(conn, turn.session_id, turn.id, unsaved.messages)
    turns.spend(conn, unsaved, turn.id)


def _earlier(running: RunningCall, wanted: Confirmation) -> Confirmation | None:
    """The same question of the call from before a restart, if its answer was not taken."""
    same = next((one for one in running.earlier if one.args_digest == wanted.args_digest), None)
    if same is not None:
        running.earlier.remove(same)
    return same


def _answer(answered: Confirmation) -> QuestionAnswer:
    if answered.verdict == "approve":
        return QuestionAnswer(action="accept", content=answered.edited or {})
    return QuestionAnswer(action="decline" if answered.verdict == "reject" else "cancel")
