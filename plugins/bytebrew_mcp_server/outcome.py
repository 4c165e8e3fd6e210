"""What a turn has come to by its events: an answer, questions, and the result of the tool call that began it."""

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import UNSET, json, to_builtins

from bytebrew import (
    ClientToolCalled,
    ConfirmationAsked,
    ContextTrimmed,
    Done,
    ErrorEvent,
    FaceTurn,
    MessageDelta,
    MessageDone,
    MessageRestarted,
    Notice,
    Queued,
    Steer,
    Steered,
    Summarised,
    Thinking,
    ToolFinished,
    ToolStarted,
    TurnEvent,
)

from .revisions import Client

_CORE = (ClientToolCalled, ContextTrimmed, Notice, Queued, Steer, Steered, Summarised, Thinking, ToolStarted)
TEXT_STEP = 200
"""Characters of an answer that are worth a progress notification."""


class Outcome:
    """Folds the events of a turn; `count` is how many there were, `waits` that of the last of them.

    `questions` are those whose call has not ended, by their ids, and `question_ids` all of them; `shown` is what tools
    have shown to the person.
    """

    def __init__(self) -> None:
        self.data: Any = UNSET
        self.shown: list[dict[str, Any]] = []
        self.questions: dict[str, ConfirmationAsked] = {}
        self.question_ids: set[str] = set()
        self.end: Done | ErrorEvent | None = None
        self.count = 0
        self.waits = False
        self._pieces: list[str] = []
        self._unreported: list[str] = []

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._pieces)

    def take(self, new: TurnEvent) -> str:
        """Takes the next event; returns what to report of it as progress, if anything."""
        if not new.number:
            return ""
        self.count += 1
        self.waits = new.waits
        event = new.event
        match event:
            case ConfirmationAsked():
                self.questions[event.confirmation_id] = event
                self.question_ids.add(event.confirmation_id)
                return f"Waits for approval of {event.tool}" if event.tool else "Waits for approval"
            case MessageDelta(agent=agent) if agent is UNSET:
                self._pieces.append(event.content)
                self._unreported.append(event.content)
                return self._progress()
            case MessageRestarted(agent=agent) if agent is UNSET:
                self._pieces, self._unreported = [event.content], []
            case MessageDone(agent=agent) if agent is UNSET:
                self._pieces, self.data = [event.content], event.data
            case ToolStarted():
                return f"Calls {event.tool}"
            case ToolFinished():
                self._answered(event)
                return f"{event.tool} has failed" if event.has_error else f"{event.tool} has ended"
            case Done() | ErrorEvent():
                self.end = event
            case _ if event is not None and event.agent is UNSET and not isinstance(event, _CORE):
                self.shown.append({"type": event.name, **to_builtins(event)})
        return ""

    def _progress(self) -> str:
        """The text since the last report, once it is long enough for one."""
        if sum(map(len, self._unreported)) < TEXT_STEP:
            return ""
        report = "".join(self._unreported)
        self._unreported.clear()
        return report

    def _answered(self, event: ToolFinished) -> None:
        for id, question in list(self.questions.items()):
            if event.call_id in (question.call_id, question.parent_call_id):
                del self.questions[id]


def tool_result(
    turn: FaceTurn, outcome: Outcome, client: Client, waiting: Iterable[ConfirmationAsked] = ()
) -> dict[str, Any]:
    """The result of the call that began a turn, or that asked for it: its answer, its failure, or what it waits for."""
    end, structured = outcome.end, bool((turn.kept or {}).get("structured"))
    names = {"session_id": turn.session_id, "turn_id": turn.id}
    if isinstance(end, ErrorEvent):
        text, status, failed = end.message, "failed", True
    elif end is None:
        text, status, failed = _waiting(turn, waiting), "needs_input", structured
    else:
        text, status = outcome.text, end.status
        failed = status == "cancelled" or (structured and outcome.data is UNSET)
    if status == "cancelled" and not text:
        text = "The turn was cancelled"
    content = [{"type": "text", "text": text}]
    content += [{"type": "text", "text": json.encode(one).decode()} for one in outcome.shown]
    result: dict[str, Any] = {"content": content, "isError": failed}
    if not structured:
        result["structuredContent"] = {"message": text, "status": status, **names}
    elif not failed and (client.is_modern or isinstance(outcome.data, dict)):
        result["structuredContent"] = outcome.data
    result["_meta"] = {f"bytebrew/{name}": value for name, value in names.items()}
    return result


def question_text(question: ConfirmationAsked) -> str:
    """What a person is asked, in words."""
    if question.kind == "elicitation":
        return f"{question.source} asks while {question.tool} runs: {question.input.get('message', '')}"
    called = f"{question.tool} with {json.encode(question.input).decode()}"
    if question.kind == "unknown_outcome":
        return f"The engine stopped while it ran {called}. Nobody knows whether it took effect. Run it again?"
    return f"May the agent call {called}? The risk of this tool: {question.risk}."


def elicitation(question: ConfirmationAsked) -> dict[str, Any]:
    """A question as a request of the server, without an id; that of another server is passed on with its form."""
    if question.kind == "elicitation":
        message = question_text(question)
        if "url" in question.input:  # the client may not know the mode `url`
            message += f"\nOpen this page of {question.input['host']} before you accept: {question.input['url']}"
        form = {"type": "object", "properties": {}} if question.input_schema is UNSET else question.input_schema
        params = {"mode": "form", "message": message, "requestedSchema": form}
        return {"method": "elicitation/create", "params": params}
    fields = {
        "decision": {"type": "string", "title": "Decision", "enum": ["approve", "reject"]},
        "reason": {"type": "string", "title": "Reason", "description": "What the agent should know", "default": ""},
    }
    schema = {"type": "object", "properties": fields, "required": ["decision"]}
    params = {"mode": "form", "message": question_text(question), "requestedSchema": schema}
    return {"method": "elicitation/create", "params": params}


def content_of(answer: object) -> dict[str, Any] | None:
    """What an accepted form has, for the server that has asked for it; None if the answer does not say."""
    content = answer.get("content") if isinstance(answer, Mapping) and answer.get("action") == "accept" else None
    return dict(content) if isinstance(content, Mapping) else None


def accepts(answer: object) -> bool:
    """Whether a person has accepted an elicitation."""
    return isinstance(answer, Mapping) and answer.get("action") == "accept"


def verdict(answer: object) -> tuple[bool, str]:
    """Whether the answer to an elicitation approves, and its reason; whatever is no clear yes is a no."""
    if not isinstance(answer, Mapping) or answer.get("action") != "accept":
        return False, ""
    content = answer.get("content")
    if not isinstance(content, Mapping):
        return False, ""
    reason = content.get("reason")
    return content.get("decision") == "approve", reason if isinstance(reason, str) else ""


def _waiting(turn: FaceTurn, waiting: Iterable[ConfirmationAsked]) -> str:
    asked = "; ".join(question_text(one) if one.tool else "a tool call needs approval" for one in waiting)
    where = f"in the inbox GET /api/v1/approvals or by POST /api/v1/sessions/{turn.session_id}/respond"
    again = f'call this tool again with turn_id "{turn.id}" and an empty message for the answer'
    return f"A person must decide first, {where}: {asked or 'a tool call waits'}. Once that is done, {again}."
