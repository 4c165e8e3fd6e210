"""What a run ends with: interrupts, which a person answers in the next run, and the usage of its models."""

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, to_builtins

from bytebrew import ConfirmationAsked, Event, Usage

FORM = "form"
_DECISION: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "approved": {"type": "boolean"},
        "editedArgs": {"type": "object", "description": "Arguments in place of the tool's, all of them."},
        "reason": {"type": "string", "description": "What the agent should know about the decision."},
    },
    "required": ["approved"],
}


def interrupt(turn_id: str, event: ConfirmationAsked, *, shown: bool) -> dict[str, Any]:
    """A question about a tool call; one whose call the client has not seen has the call in its metadata alone.

    That of a tool's source has the form that the source wants filled in as `editedArgs`.
    """
    call = {"tool": event.tool, "input": event.input, "risk": event.risk, "kind": event.kind}
    schema = dict(_DECISION)
    message = f"May '{event.tool}' run?"
    if event.kind == "elicitation":
        message, shown = f"{event.source} asks: {event.input.get('message', '')}", False
        form = {} if event.input_schema is UNSET else {"editedArgs": event.input_schema}
        schema["properties"] = {"approved": _DECISION["properties"]["approved"], **form}
    if event.kind == "unknown_outcome":
        message = f"'{event.tool}' was broken off, and what came of it is not known. May it run again?"
        schema["properties"] = {name: one for name, one in _DECISION["properties"].items() if name != "editedArgs"}
    made = {
        "id": f"{turn_id}.{event.confirmation_id}",
        "reason": "tool_call" if shown else "confirmation",
        "message": message,
        "responseSchema": schema,
        "metadata": {"bytebrew": call},
    }
    return made | ({"toolCallId": event.call_id} if shown else {}) | _expiry(event)


def _expiry(event: ConfirmationAsked) -> dict[str, Any]:
    return {"expiresAt": event.expires_at} if event.expires_at else {}


def form_interrupt(turn_id: str, form: Event) -> dict[str, Any]:
    """A form, whose answers are the next message."""
    shown: dict[str, Any] = to_builtins(form)
    questions = [one for one in shown.get("questions", ()) if isinstance(one, dict) and "id" in one]
    return {
        "id": f"{turn_id}.{FORM}",
        "reason": "input_required",
        "message": shown.get("title") or shown.get("description") or "The agent asks for more",
        "responseSchema": {
            "type": "object",
            "properties": {one["id"]: _answer(one) for one in questions},
            "required": [one["id"] for one in questions if "default" not in one],
        },
        "metadata": {"bytebrew": {"form": shown}},
    }


def _answer(question: Mapping[str, Any]) -> dict[str, Any]:
    options = [one.get("value") or one.get("label") for one in question.get("options", ())]
    one: dict[str, Any] = {"type": "string"} | ({"enum": options} if options else {})
    if question.get("type") == "multiselect":
        one = {"type": "array", "items": one, "uniqueItems": True}
    more = {name: question[key] for name, key in (("title", "label"), ("default", "default")) if key in question}
    return one | more


def usage_of(usage: Usage) -> dict[str, int]:
    """The tokens of a turn, empty if none are known."""
    found = {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.input_tokens + usage.output_tokens,
        "reasoningTokens": usage.thinking_tokens,
        "cachedInputTokens": usage.cached_tokens,
        "cacheWriteInputTokens": usage.cache_write_tokens,
    }
    return found if found["totalTokens"] else {}
