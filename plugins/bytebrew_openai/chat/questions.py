"""Questions to a person in a protocol that has none: as text that the next message answers, or as a call of a tool."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import UNSET
from msgspec.json import encode

from bytebrew import ConfirmationAsked

APPROVE = "approve_tool_call"
"""The tool of the client that asks its person, and returns a word of `verdict`."""
VERDICTS: Mapping[str, bool] = {
    **dict.fromkeys(("approve", "approved", "yes", "ok", "confirm"), True),
    **dict.fromkeys(("reject", "rejected", "no"), False),
}
HIDDEN = "Somebody must approve this before I can go on."


def verdict(text: str) -> bool | None:
    """Whether a message approves or rejects; None if it does neither."""
    return VERDICTS.get(text.strip().lower())


def arguments(question: ConfirmationAsked) -> dict[str, Any]:
    """A question as the arguments of a call of the client's tool APPROVE."""
    return {
        "confirmation_id": question.confirmation_id,
        "tool": question.tool,
        "input": question.input,
        "risk": question.risk,
        "kind": question.kind,
    }


def text(questions: Sequence[ConfirmationAsked], link: str) -> str:
    """The questions as text, which shows no more than the events do."""
    parts = [_text(one) for one in questions if one.tool]
    if not parts:
        return HIDDEN
    which = "all of them" if len(parts) > 1 else "it"
    return "\n\n".join([*parts, f"Reply `approve` or `reject` for {which}, or answer at {link}"])


def _text(question: ConfirmationAsked) -> str:
    if question.kind == "elicitation":
        return _elicited(question)
    shown = f"`{question.tool}` with\n\n```json\n{encode(question.input).decode()}\n```"
    if question.kind == "unknown_outcome":
        return f"A restart broke off this call, which may have had its effect. May it run again? {shown}"
    return f"May I run {shown}"


def _elicited(question: ConfirmationAsked) -> str:
    """What the source of a running tool asks, quoted: it is not the agent that says it."""
    message = "\n".join(f"> {line}" for line in str(question.input.get("message", "")).splitlines())
    shown = f"`{question.source}` asks while `{question.tool}` runs:\n\n{message}"
    if "url" in question.input:
        return f"{shown}\n\nIt wants you to open a page of `{question.input['host']}`: <{question.input['url']}>"
    return shown if question.input_schema is UNSET else f"{shown}\n\nIt has a form, which the link below shows."
