"""Tools that the client of a chat runs: the engine asks for a call, and the client sends its result."""

from collections.abc import Sequence
from typing import Any

from bytebrew.contract.events import ClientToolCalled, Notice, Risk
from bytebrew.contract.messages import ToolSpec
from bytebrew.contract.tool import Call, Tool
from bytebrew.conversation.turn import Turn
from bytebrew.store.confirmations import Confirmation

LATE = "The client did not send the result of this call in time; it may have run or not"
"""What the model reads of a call that has expired."""


class ClientTool(Tool):
    """A tool that a chat request declared.

    It is idempotent: after a restart the engine waits for its result again, and runs nothing.
    """

    source = "client"
    risk: Risk = "caution"
    foreign = True
    idempotent = True

    def __init__(self, spec: ToolSpec) -> None:
        self.name, self.description, self.input_schema = spec.name, spec.description, spec.input_schema

    async def run(self, call: Call, input: dict[str, Any]) -> Any:
        raise NotImplementedError("the client runs it")


def declared(turn: Turn, tools: Sequence[Tool]) -> list[Tool]:
    """The tools that the turn's client declared, without those whose name may be that of a tool of the engine."""
    taken = {name.casefold() for tool in tools for name in (tool.name, *tool.names, *tool.spare)}
    own: list[Tool] = [ClientTool(spec) for spec in turn.new.client_tools if spec.name.casefold() not in taken]
    if hidden := tuple(spec.name for spec in turn.new.client_tools if spec.name.casefold() in taken):
        names = ", ".join(f"'{name}'" for name in hidden)
        message = (
            f"The agent has tools of its own that are named {names}; rename those of the client, which are left out"
        )
        turn.append(Notice(code="client_tools_hidden", message=message, names=hidden))
    return own


def announce(turn: Turn, question: Confirmation) -> None:
    """Appends a call that the client is to run to the journal; store it before the next await."""
    turn.append(
        ClientToolCalled(
            session_id=question.session_id,
            turn_id=question.turn_id,
            call_id=question.call_id,
            tool=question.tool,
            input=question.input,
            expires_at=question.expires_at,
        )
    )
