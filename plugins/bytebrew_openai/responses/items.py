"""The items that a response begins."""

from typing import Any

import msgspec

from bytebrew import ClientToolCalled, ConfirmationAsked

LABEL = "bytebrew"
"""The `server_label` of the engine's tools, which are shown as those of an MCP server."""


def text_part(text: str) -> dict[str, Any]:
    """The content of a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def arguments_of(value: Any) -> str:
    """The arguments of a call as text."""
    return msgspec.json.encode(value).decode()


def function_call(item_id: str, event: ClientToolCalled) -> dict[str, Any]:
    """A call of the client's own tool, before its arguments."""
    return {
        "id": item_id,
        "type": "function_call",
        "status": "in_progress",
        "call_id": event.call_id,
        "name": event.tool,
        "arguments": "",
    }


def mcp_call(item_id: str, tool: str, approval_request_id: str | None) -> dict[str, Any]:
    """A call of the engine's tool, before its arguments and its end."""
    return {
        "id": item_id,
        "type": "mcp_call",
        "status": "in_progress",
        "server_label": LABEL,
        "name": tool,
        "arguments": "",
        "approval_request_id": approval_request_id,
        "output": None,
        "error": None,
    }


def approval_request(event: ConfirmationAsked) -> dict[str, Any]:
    """A question to a person; its id is the question's."""
    return {
        "id": event.confirmation_id,
        "type": "mcp_approval_request",
        "status": "completed",
        "server_label": LABEL,
        "name": event.tool,
        "arguments": arguments_of(event.input),
    }
