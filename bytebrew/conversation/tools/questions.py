"""Questions about tool calls: stored with their events, once each."""

from typing import NamedTuple

from bytebrew.contract.connection import Connection
from bytebrew.contract.messages import ToolCall
from bytebrew.contract.notifications import Subscriber
from bytebrew.contract.tool import Outcome, Tool
from bytebrew.conversation.tools import outcomes
from bytebrew.conversation.tools.confirmations import Confirmations
from bytebrew.conversation.turn import Turn
from bytebrew.store import confirmations, notifications, turns
from bytebrew.store.confirmations import Confirmation, Kind
from bytebrew.store.database.database import Database
from bytebrew.store.journal import Journal


class Questions(NamedTuple):
    """Asks people about tool calls, and publishes that they wait."""

    db: Database
    journal: Journal
    confirmations: Confirmations
    publish: Subscriber

    async def answered(self, turn: Turn, call: ToolCall, kind: Kind, tool: Tool | None) -> Confirmation:
        """The answer to the question about a call, which is asked now unless it was asked before a restart.

        It is asked again if another source has the tool now: an approval is valid for one source and its arguments.
        """
        return await self.confirmations.answered(turn, await self.pending(turn, call, kind, tool))

    async def pending(self, turn: Turn, call: ToolCall, kind: Kind, tool: Tool | None) -> Confirmation:
        """The question about a call, stored and announced."""
        question = await self.db.read(confirmations.of_call, turn.id, call.call_id, kind)
        if question is None or question.args_digest != digest(tool, call):
            question = self.confirmations.question(turn, call, kind, tool)
            turn.wait_for(question.id)
            self.confirmations.announce(turn, question)
            await self.journal.write(turn.log, self._store, turn, question)  # together with its event
        return question

    async def outcome(self, turn: Turn, call: ToolCall, tool: Tool | None) -> Outcome | None:
        """Asks a person for the outcome of a call that a restart interrupted; None: run it again."""
        await self.journal.write(turn.log, confirmations.withdraw, turn.id, call.call_id)
        answer = await self.answered(turn, call, "unknown_outcome", tool)
        if answer.verdict == "retry":
            if await self.journal.write(turn.log, turns.tool_approved, turn.id, call, answer.id):
                return None
            return outcomes.USED
        return outcomes.interrupted(answer)

    def notify(self, conn: Connection, turn: Turn, question: Confirmation) -> None:
        """Notifies of a question that waits for a person."""
        if question.kind != "client_tool":
            self.publish(conn, notifications.approval_waiting(question, turn.new.schema))

    def _store(self, conn: Connection, turn: Turn, question: Confirmation) -> None:
        confirmations.ask(conn, question)
        self.notify(conn, turn, question)


def digest(tool: Tool | None, call: ToolCall) -> str:
    """The digest of a call as it is made now."""
    return confirmations.digest("" if tool is None else tool.source, call.tool, call.input)
